// cover bench ops: every row of every table that can run here, at the shapes of a training step.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/bench_rows.h"
#include "app/commands.h"
#include "app/machine.h"
#include "core/nearest.h"
#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/conv.h"
#include "kernels/elementwise.h"
#include "kernels/fused_conv.h"
#include "kernels/local_attention.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"
#include "kernels/resize.h"
#include "kernels/warp.h"

namespace cover::app {
namespace {

// The arguments of rows for activations of one type. What is not an activation (weights, statistics, fields, masks,
// losses) is float32 for both types.
class OpsBench {
public:
    OpsBench(const TrainConfig& config, RowTimer& timer, DType activation)
        : config_(config),
          timer_(timer),
          stream_(timer.stream()),
          dtype_(activation),
          element_(static_cast<double>(size_of(activation))) {}

    void all() {
        convolutions();
        fused_convolutions();
        norms();
        pools_and_resizes();
        pyramid();
        losses();
        optimizers();
        if (dtype_ == DType::float32) time_views(config_, timer_);
    }

private:
    // The grid of a level: 0 full resolution, 4 the coarsest.
    Grid grid(int level) const {
        const auto side = [&](std::size_t axis) { return std::max<std::int64_t>(config_.patch[axis] >> level, 1); };
        return {config_.dims, config_.dims == 2 ? 1 : side(0), side(1), side(2)};
    }
    static std::string shape_of(std::int64_t n, const Grid& g, const std::string& channels) {
        return g.spatial_dims == 2 ? text(n, " x ", g.h, "x", g.w, " x ", channels)
                                   : text(n, " x ", g.d, "x", g.h, "x", g.w, " x ", channels);
    }
    double activations(std::int64_t count) const { return element_ * static_cast<double>(count); }
    static double reals(std::int64_t count) { return sizeof(float) * static_cast<double>(count); }
    // For operands that a call reads or writes `bytes` of.
    void rotate(double bytes) { sets_ = timer_.sets_for(bytes); }
    Operand activation(std::int64_t count) const { return {timer_, sets_, count, dtype_}; }
    Operand real(std::int64_t count, double low = -1, double high = 1) const {
        return {timer_, sets_, count, DType::float32, low, high};
    }
    template <class Params, class Run, class Call>
    void time(const char* op, std::span<const Variant<Params, Run>> table, const Params& params,
              const std::string& shape, const Work& work, Call call) {
        timer_.time(op, table, params, dtype_, shape, work, call);
    }

    void convolution(const ConvParams& p) {
        const auto shape = shape_of(p.n, p.grid, text(p.c_in, "->", p.c_out, p.kernel == 1 ? " (1)" : ""));
        const Work work{p.flops(), activations(p.x_count() + p.y_count() + p.weight_count()), true};
        rotate(work.bytes);
        auto x = activation(p.x_count()), y = activation(p.y_count()), dx = activation(p.x_count()),
             dy = activation(p.y_count());
        auto weight = real(p.weight_count(), -0.1, 0.1), bias = real(p.c_out), dweight = real(p.weight_count()),
             dbias = real(p.c_out);
        time("conv", conv_table(), p, shape, work,
             [&](const auto& row, std::size_t i) { row.run(y[i], x[i], weight[i], bias[i], p, stream_); });
        // The first convolution needs none on a device's list of passes; a CPU's list has always had it.
        if (!timer_.on_device() || p.c_in != std::max(config_.in_channels, 1))
            time("conv_backward_data", conv_backward_data_table(), p, shape, work,
                 [&](const auto& row, std::size_t i) { row.run(dx[i], dy[i], weight[i], p, stream_); });
        time("conv_backward_weight", conv_backward_weight_table(), p, shape, work,
             [&](const auto& row, std::size_t i) { row.run(dweight[i], dbias[i], dy[i], x[i], p, stream_); });
    }

    void convolutions() {
        const auto& c = config_.channels;
        const std::int64_t n = 2 * config_.batch;
        for (int level = 0; level < 5; ++level) {  // down
            const auto l = static_cast<std::size_t>(level);
            convolution({n, grid(level), level == 0 ? std::max(config_.in_channels, 1) : c[l - 1], c[l], 3});
            convolution({n, grid(level), c[l], c[l], 3});
        }
        for (int level = 3; level >= 0; --level) {  // up
            const auto l = static_cast<std::size_t>(level);
            convolution({n, grid(level), c[l] + c[7 - l], c[8 - l], 3});
            convolution({n, grid(level), c[8 - l], c[8 - l], 3});
        }
        for (int level = 4; level >= 0; --level) {  // projections
            const auto l = static_cast<std::size_t>(level);
            const std::int64_t out = std::int64_t{config_.heads[4 - l]} * config_.head_dim;
            convolution({config_.batch, grid(level), level == 4 ? c[4] : c[8 - l], out, 1});
        }
    }

    // What a fused convolution reads of one part.
    struct PartOperands {
        Operand x, mean, rstd, gamma, beta;
        Pending at(std::size_t i) { return {x[i], mean[i], rstd[i], gamma[i], beta[i]}; }
    };

    void fused_convolution(const FusedConvParams& p, const std::string& what) {
        const ConvParams& c = p.conv;
        const auto shape = shape_of(c.n, c.grid, text(c.c_in, "->", c.c_out, c.kernel == 1 ? " (1)" : "", what));
        const std::int64_t read = p.part_count(0) + (p.parts[1].channels > 0 ? p.part_count(1) : 0);
        const Work work{c.flops(), activations(read + c.y_count() + c.weight_count()), true};
        rotate(work.bytes);
        std::vector<PartOperands> parts;
        for (int i = 0; i < 2 && p.parts[i].channels > 0; ++i) {
            const std::int64_t groups = std::max<std::int64_t>(p.parts[i].groups, 1) * c.n;
            parts.push_back({activation(p.part_count(i)), real(groups, -0.1, 0.1), real(groups, 0.5, 2),
                             real(p.parts[i].channels), real(p.parts[i].channels)});
        }
        const auto input = [&](std::size_t i) {
            PendingInput all;
            for (std::size_t k = 0; k < parts.size(); ++k) all.parts[k] = parts[k].at(i);
            return all;
        };
        auto y = activation(c.y_count()), dy = activation(c.y_count());
        auto weight = real(c.weight_count(), -0.1, 0.1), bias = real(c.c_out), dweight = real(c.weight_count()),
             dbias = real(c.c_out), mean = real(c.n * p.groups), rstd = real(c.n * p.groups);
        time("fused_conv", fused_conv_table(), p, shape, work, [&](const auto& row, std::size_t i) {
            row.run(y[i], mean[i], rstd[i], input(i), weight[i], bias[i], p, stream_);
        });
        if (parts.size() == 2) {
            const std::int64_t pixels = c.n * c.grid.pixels();
            auto first = activation(pixels * p.parts[0].channels), second = activation(pixels * p.parts[1].channels);
            time("fused_conv_backward_data", fused_conv_backward_data_table(), p, shape,
                 {c.flops(), activations(c.x_count() + c.y_count() + c.weight_count()), true},
                 [&](const auto& row, std::size_t i) { row.run(first[i], second[i], dy[i], weight[i], p, stream_); });
        }
        time("fused_conv_backward_weight", fused_conv_backward_weight_table(), p, shape, work,
             [&](const auto& row, std::size_t i) { row.run(dweight[i], dbias[i], dy[i], input(i), p, stream_); });
    }

    // The same layers as convolutions(), with what is pending on their inputs.
    void fused_convolutions() {
        const auto& c = config_.channels;
        const auto norm = [](std::int64_t channels, Resampling resampling) {
            return PendingParams{channels, channels / 8, 0.2, resampling};
        };
        const auto stage = [&](int level, PendingParams first, PendingParams second, std::int64_t out,
                               const char* what) {
            const ConvParams conv{2 * config_.batch, grid(level), first.channels + second.channels, out, 3};
            fused_convolution({conv, {first, second}, out / 8}, what);
            const ConvParams next{2 * config_.batch, grid(level), out, out, 3};
            fused_convolution({next, {norm(out, Resampling::none), {}}, out / 8}, "");
        };
        stage(0, {std::max(config_.in_channels, 1)}, {}, c[0], " plain");
        for (int level = 1; level < 5; ++level) {
            const auto l = static_cast<std::size_t>(level);
            stage(level, norm(c[l - 1], Resampling::max_pool), {}, c[l], " pooled");
        }
        for (int level = 3; level >= 0; --level) {
            const auto l = static_cast<std::size_t>(level);
            stage(level, norm(c[l], Resampling::none), norm(c[7 - l], Resampling::upsample), c[8 - l], " joined");
        }
        for (int level = 4; level >= 0; --level) {  // projections of the fixed features
            const auto l = static_cast<std::size_t>(level);
            const std::int64_t in = level == 4 ? c[4] : c[8 - l],
                               out = std::int64_t{config_.heads[4 - l]} * config_.head_dim;
            fused_convolution({{config_.batch, grid(level), in, out, 1}, {norm(in, Resampling::none), {}}, 1}, "");
        }
    }

    void norms() {
        for (int level = 0; level < 5; ++level) {
            const Grid g = grid(level);
            const std::int64_t channels = config_.channels[static_cast<std::size_t>(level)];
            const GroupNormParams p{2 * config_.batch, g.pixels(), channels, channels / 8, 1e-5, 0.2};
            const auto shape = shape_of(p.n, g, text(channels));
            const double map = activations(p.count());
            rotate(2 * map);
            auto x = activation(p.count()), y = activation(p.count()), dy = activation(p.count());
            auto gamma = real(channels), beta = real(channels), dgamma = real(channels), dbeta = real(channels);
            auto mean = real(p.n * p.groups, -0.1, 0.1), rstd = real(p.n * p.groups, 0.5, 2);
            time("group_norm", group_norm_table(), p, shape, {0, 2 * map}, [&](const auto& row, std::size_t i) {
                row.run(y[i], mean[i], rstd[i], x[i], gamma[i], beta[i], p, stream_);
            });
            time("group_norm_statistics", group_norm_statistics_table(), p, shape, {0, map},
                 [&](const auto& row, std::size_t i) { row.run(mean[i], rstd[i], x[i], p, stream_); });
            time("group_norm_apply", group_norm_apply_table(), p, shape, {0, 2 * map},
                 [&](const auto& row, std::size_t i) {
                     row.run(y[i], x[i], mean[i], rstd[i], gamma[i], beta[i], p, stream_);
                 });
            time("group_norm_backward", group_norm_backward_table(), p, shape, {0, 3 * map},
                 [&](const auto& row, std::size_t i) {
                     row.run(y[i], dgamma[i], dbeta[i], dy[i], x[i], mean[i], rstd[i], gamma[i], beta[i], p, stream_);
                 });
        }
    }

    void pools_and_resizes() {
        const auto& c = config_.channels;
        const std::int64_t n = 2 * config_.batch;
        for (int level = 0; level < 4; ++level) {
            const auto l = static_cast<std::size_t>(level);
            const MaxPoolParams p{n, grid(level), c[l]};
            const auto shape = shape_of(n, p.grid, text(c[l]));
            const double big = activations(p.x_count()), small = activations(p.y_count());
            rotate(big + small);
            auto x = activation(p.x_count()), dx = activation(p.x_count()), y = activation(p.y_count()),
                 dy = activation(p.y_count());
            time("max_pool", max_pool_table(), p, shape, {0, big + small},
                 [&](const auto& row, std::size_t i) { row.run(y[i], x[i], p, stream_); });
            time("max_pool_backward", max_pool_backward_table(), p, shape, {0, 2 * big + small},
                 [&](const auto& row, std::size_t i) { row.run(dx[i], dy[i], x[i], p, stream_); });
        }
        for (int level = 3; level >= 0; --level) {
            const auto l = static_cast<std::size_t>(level);
            upsampling({n, grid(level + 1), c[7 - l], false, 1});
            const ConcatParams p{n * grid(level).pixels(), c[l], c[7 - l]};
            const auto shape = shape_of(n, grid(level), text(p.c_a, "+", p.c_b));
            const double bytes = 2 * activations(p.pixels * (p.c_a + p.c_b));
            rotate(bytes);
            auto a = activation(p.pixels * p.c_a), b = activation(p.pixels * p.c_b);
            auto y = activation(p.pixels * (p.c_a + p.c_b));
            time("concat", concat_table(), p, shape, {0, bytes},
                 [&](const auto& row, std::size_t i) { row.run(y[i], a[i], b[i], p, stream_); });
            time("split", split_table(), p, shape, {0, bytes},
                 [&](const auto& row, std::size_t i) { row.run(a[i], b[i], y[i], p, stream_); });
        }
    }

    void upsampling(const UpsampleParams& p) {
        const auto shape = shape_of(p.n, p.grid, text(p.channels, p.align_corners ? " (aligned)" : ""));
        const double bytes = activations(p.x_count() + p.y_count());
        rotate(bytes);
        auto x = activation(p.x_count()), dx = activation(p.x_count()), y = activation(p.y_count()),
             dy = activation(p.y_count());
        time("upsample", upsample_table(), p, shape, {0, bytes},
             [&](const auto& row, std::size_t i) { row.run(y[i], x[i], p, stream_); });
        time("upsample_backward", upsample_backward_table(), p, shape, {0, bytes},
             [&](const auto& row, std::size_t i) { row.run(dx[i], dy[i], p, stream_); });
    }

    void pyramid() {
        const std::int64_t n = config_.batch;
        for (int level = 4; level >= 0; --level) {
            const auto l = static_cast<std::size_t>(level);
            const Grid g = grid(level);
            // Fields are float32 whatever the features are.
            if (level > 0 && dtype_ == DType::float32) upsampling({n, g, config_.dims, true, 2});
            const std::int64_t channels = level == 4 ? config_.channels[4] : config_.channels[8 - l];
            warp({n, g, channels, WarpConvention::exact});
            local_attention({n, g, config_.heads[4 - l], config_.head_dim, config_.radius});
        }
    }

    void warp(const WarpParams& p) {
        const double map = activations(p.source_count()), vectors = reals(p.field_count());
        rotate(2 * map + vectors);
        auto source = activation(p.source_count()), y = activation(p.source_count()),
             dsource = activation(p.source_count());
        auto field = real(p.field_count(), -3, 3), dfield = real(p.field_count());
        const auto shape = shape_of(p.n, p.grid, text(p.channels));
        time("warp", warp_table(), p, shape, {0, 2 * map + vectors},
             [&](const auto& row, std::size_t i) { row.run(y[i], source[i], field[i], p, stream_); });
        time("warp_backward", warp_backward_table(), p, shape, {0, 3 * map + 2 * vectors},
             [&](const auto& row, std::size_t i) {
                 row.run(dsource[i], dfield[i], y[i], source[i], field[i], p, stream_);
             });
    }

    void local_attention(const LocalAttentionParams& p) {
        const double map = activations(p.q_count()), vectors = reals(p.y_count());
        rotate(2 * map + vectors);
        auto q = activation(p.q_count()), k = activation(p.q_count()), dq = activation(p.q_count()),
             dk = activation(p.q_count());
        auto y = real(p.y_count()), dy = real(p.y_count());
        // One multiply-add per channel and offset for the scores; their gradients take two more and a recomputation.
        const double flops = 2.0 * static_cast<double>(p.q_count()) * p.window();
        const auto shape = shape_of(p.n, p.grid, text(p.heads, "*", p.head_dim, " r", p.radius));
        time("local_attention", local_attention_table(), p, shape, {flops, 2 * map + vectors},
             [&](const auto& row, std::size_t i) { row.run(y[i], q[i], k[i], p, stream_); });
        time("local_attention_backward", local_attention_backward_table(), p, shape, {3 * flops, 4 * map + vectors},
             [&](const auto& row, std::size_t i) { row.run(dq[i], dk[i], dy[i], q[i], k[i], p, stream_); });
    }

    void losses() {
        const Grid g = grid(0);
        const std::int64_t n = config_.batch;
        const double weights = reals(n * g.pixels());
        for (const bool vectors : {true, false}) {
            if (vectors && dtype_ != DType::float32) continue;  // a loss of the field
            const LossParams p{n, g.pixels(), vectors ? config_.dims : config_.channels[8]};
            const double map = activations(p.count());
            rotate(2 * map + weights);
            auto a = activation(p.count()), b = activation(p.count()), da = activation(p.count()),
                 db = activation(p.count());
            auto mask = real(p.mask_count(), 1, 1), loss = real(1), dloss = real(1, 1, 1);
            const auto shape = shape_of(n, g, text(p.channels));
            if (vectors) {
                time("masked_l1", masked_l1_table(), p, shape, {0, 2 * map + weights},
                     [&](const auto& row, std::size_t i) { row.run(loss[i], a[i], b[i], mask[i], p, stream_); });
                time(
                    "masked_l1_backward", masked_l1_backward_table(), p, shape, {0, 3 * map + weights},
                    [&](const auto& row, std::size_t i) { row.run(da[i], dloss[i], a[i], b[i], mask[i], p, stream_); });
            } else {
                time("masked_cosine", masked_cosine_table(), p, shape, {0, 2 * map + weights},
                     [&](const auto& row, std::size_t i) { row.run(loss[i], a[i], b[i], mask[i], p, stream_); });
                time("masked_cosine_backward", masked_cosine_backward_table(), p, shape, {0, 4 * map + weights},
                     [&](const auto& row, std::size_t i) {
                         row.run(da[i], db[i], dloss[i], a[i], b[i], mask[i], p, stream_);
                     });
            }
        }
        const ElementwiseParams e{n * g.pixels() * config_.dims, 2};
        const double map = activations(e.count);
        rotate(2 * map);
        auto a = activation(e.count), b = activation(e.count), y = activation(e.count);
        time("add", add_table(), e, text(e.count), {0, 3 * map},
             [&](const auto& row, std::size_t i) { row.run(y[i], a[i], b[i], e, stream_); });
        time("scale", scale_table(), e, text(e.count), {0, 2 * map},
             [&](const auto& row, std::size_t i) { row.run(y[i], a[i], e, stream_); });
        auto from = activation(e.count);
        Operand to(timer_, sets_, e.count, cast_type(dtype_));
        time("cast", cast_table(), e, text(e.count), {0, 6.0 * static_cast<double>(e.count)},
             [&](const auto& row, std::size_t i) { row.run(to[i], from[i], e, stream_); });
    }

    void optimizers() {
        const std::int64_t count = Model(model_config(config_)).parameters().values().count();
        const double map = activations(count);
        rotate(map);
        auto gradient = activation(count);
        Operand sum(timer_, sets_, 1, DType::float64);
        const ReduceParams reduce{count};
        time("sum_of_squares", sum_of_squares_table(), reduce, text(count), {0, map},
             [&](const auto& row, std::size_t i) { row.run(sum[i], gradient[i], reduce, stream_); });
        if (dtype_ != DType::float32) return;  // what follows is of the weights, which stay float32
        auto weights = real(count), first = real(count, 0, 0), second = real(count, 0, 0);
        Operand schedule(timer_, sets_, 2, DType::float64, 1, 1), factors(timer_, sets_, 4, DType::float64, 1, 1);
        auto loss = real(1);
        time("optimizer_factors", optimizer_factors_table(), OptimizerFactorsParams{}, "4", {0, 64},
             [&](const auto& row, std::size_t i) {
                 row.run(factors[i], schedule[i], loss[i], sum[i], OptimizerFactorsParams{}, stream_);
             });
        AdamParams adam_params;
        adam_params.count = count;
        time("adam", adam_table(), adam_params, text(count), {0, 7 * map}, [&](const auto& row, std::size_t i) {
            row.run(weights[i], first[i], second[i], gradient[i], factors[i], adam_params, stream_);
        });
        SgdParams sgd_params;
        sgd_params.count = count;
        time("sgd", sgd_table(), sgd_params, text(count), {0, 5 * map}, [&](const auto& row, std::size_t i) {
            row.run(weights[i], first[i], gradient[i], factors[i], sgd_params, stream_);
        });
    }

    const TrainConfig& config_;
    RowTimer& timer_;
    Stream& stream_;
    DType dtype_;
    double element_;  // bytes of an activation
    std::size_t sets_ = 1;
};

std::string heading(const TrainConfig& config, const RowTimer& timer, const std::string& name) {
    const Roofs& roofs = timer.roofs();
    if (!timer.on_device())
        return fmt::format(
            "{}, {} threads: FMA loop {:.1f} GFLOP/s, memory loop {:.1f} GB/s (a map that fits the "
            "caches may exceed it)\n",
            name, config.threads, roofs.fp32, roofs.copy);
    return fmt::format(
        "{}: copy {:.1f} GB/s; FMA loop {:.1f} GFLOP/s; mma.sync loop TF32 {:.1f}, bfloat16 {:.1f} GFLOP/s (wgmma "
        "may exceed it)\n",
        name, roofs.copy, roofs.fp32, roofs.tf32, roofs.bf16);
}

}  // namespace

int run(const BenchOpsOptions& options) {
    TrainConfig config = resolve_config(options.config);
    if (config.dims == 0) config.dims = config.patch[0] > 1 ? 3 : 2;
    const bool plane = config.dims == 2;
    if (config.patch[1] == 0) config.patch = {0, plane ? 64 : 32, plane ? 64 : 32};
    if (config.patch[0] == 0) config.patch[0] = plane ? 1 : config.patch[1];
    if (config.batch == 0) config.batch = 1;
    DataFacts facts;
    facts.dims = config.dims;
    facts.channels = std::max(config.in_channels, 1);
    facts.sides = config.patch;
    complete_config(config, facts);
    for (const auto& wanted : names_in(options.op)) {
        std::vector<std::string> names;
        for (const auto& op : kernel_catalogue()) names.push_back(op.op);
        require(std::find(names.begin(), names.end(), wanted) != names.end(), ErrorKind::usage,
                "[bench ops] --op: there is no op '", wanted, "'", nearest_hint(wanted, names));
    }

    if (!options.row.empty()) {
        std::vector<std::string> names;
        for (const auto& op : kernel_catalogue())
            for (const auto& row : op.rows)
                if (std::find(names.begin(), names.end(), row.name) == names.end()) names.push_back(row.name);
        require(std::find(names.begin(), names.end(), options.row) != names.end(), ErrorKind::usage,
                "[bench ops] --row: there is no row '", options.row, "'", nearest_hint(options.row, names));
    }

    const bool device = config.device == DeviceChoice::cuda || config.device == DeviceChoice::emulated;
    if (device) {
        require(config.precision != Precision::fp64, ErrorKind::configuration,
                "[bench ops] precision: a device has no rows of fp64");
        config.precision = Precision::fp32;  // rows are chosen here, by their own precision
    }
    Machine machine(config);
    require(machine.dtype() == DType::float32, ErrorKind::configuration,
            "[bench ops] precision: fp64 is for verification only; take fp32");
    RowTimer timer(machine.stream(), options);
    const std::string name = device ? machine.stream().facts->name : processor_name();
    if (!options.json) std::printf("%s", heading(config, timer, name).c_str());
    for (const auto round : {RowTimer::Round::own, RowTimer::Round::vendor, RowTimer::Round::naive}) {
        if (!device && round != RowTimer::Round::own) break;
        timer.take(round);
        if (device) OpsBench(config, timer, DType::bfloat16).all();
        OpsBench(config, timer, DType::float32).all();
    }
    const Roofs& roofs = timer.roofs();
    if (options.json) {
        nlohmann::ordered_json out{{device ? "device" : "processor", name},
                                   {"threads", config.threads},
                                   {"dims", config.dims},
                                   {"patch", {config.patch[0], config.patch[1], config.patch[2]}},
                                   {"batch", config.batch}};
        if (device)
            out["roofs"] = {{"copy_gigabytes_per_second", roofs.copy},
                            {"fp32_gflops", roofs.fp32},
                            {"tf32_gflops", roofs.tf32},
                            {"bf16_gflops", roofs.bf16}};
        else
            out.update({{"fma_gflops", roofs.fp32}, {"memory_gigabytes_per_second", roofs.copy}});
        if (timer.left_out() > 0) out["left_out"] = timer.left_out();
        out["rows"] = timer.json();
        std::printf("%s\n", out.dump(1).c_str());
    } else if (timer.left_out() > 0) {
        std::printf("left out at the limit of %g s: %d rows\n", options.limit, timer.left_out());
    }
    return 0;
}

}  // namespace cover::app
