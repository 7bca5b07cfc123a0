// cover bench ops: every row of every table that can run here, at the shapes of a training step.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/bench_peaks.h"
#include "app/commands.h"
#include "app/machine.h"
#include "core/nearest.h"
#include "core/rng.h"
#include "core/tensor.h"
#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/conv.h"
#include "kernels/elementwise.h"
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

struct Timing {
    std::string op, shape, row;
    double seconds = 0, spread = 0;  // median; (largest - least) / median
    double flops = 0, bytes = 0;     // of one call
    double percent_of_fma = 0, percent_of_memory = 0;
};

Tensor uniform(std::int64_t count, double low = -1, double high = 1) {
    static std::uint32_t stream = 0;
    Tensor tensor = Tensor::empty({count}, DType::float32);
    const RandomStream random({.seed = 1, .sample = stream++});
    for (std::int64_t i = 0; i < count; ++i)
        tensor.data<float>()[i] =
            static_cast<float>(low + (high - low) * random.uniform_at(static_cast<std::uint64_t>(i)));
    return tensor;
}

class OpsBench {
public:
    OpsBench(const TrainConfig& config, Stream& stream, const BenchOpsOptions& options)
        : config_(config), stream_(stream), options_(options) {
        fma_ = fma_peak_gflops(stream);
        memory_ = memory_peak_gigabytes(stream);
    }

    void all() {
        convolutions();
        norms();
        pools_and_resizes();
        pyramid();
        losses();
        optimizers();
    }
    const std::vector<Timing>& timings() const { return timings_; }
    double fma() const { return fma_; }
    double memory() const { return memory_; }

private:
    bool wanted(const std::string& op) const {
        return options_.op.empty() || op == options_.op || op.rfind(options_.op + "_backward", 0) == 0;
    }
    // The grid of a level: 0 full resolution, 4 the coarsest.
    Grid grid(int level) const {
        const auto side = [&](std::size_t axis) { return std::max<std::int64_t>(config_.patch[axis] >> level, 1); };
        return {config_.dims, config_.dims == 2 ? 1 : side(0), side(1), side(2)};
    }
    static std::string shape_of(std::int64_t n, const Grid& g, const std::string& channels) {
        return g.spatial_dims == 2 ? text(n, " x ", g.h, "x", g.w, " x ", channels)
                                   : text(n, " x ", g.d, "x", g.h, "x", g.w, " x ", channels);
    }

    // Times each row of the table; `call` runs one.
    template <class Params, class Run, class Call>
    void time(const char* op, std::span<const Variant<Params, Run>> table, const Params& params,
              const std::string& shape, double flops, double bytes, Call call) {
        if (!wanted(op)) return;
        for (const auto& row : table) {
            if (row.device != stream_.device || row.dtype != DType::float32 || row.math != Math::exact) continue;
            if (!options_.row.empty() && options_.row != row.name) continue;
            if (!row.can_run(params, *stream_.facts)) continue;
            call(row);  // warm-up
            std::vector<double> seconds;
            double spent = 0;
            while (seconds.size() < 3 || spent < options_.seconds) {
                const auto start = std::chrono::steady_clock::now();
                call(row);
                seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
                spent += seconds.back();
                if (spent > 4 * options_.seconds) break;
            }
            std::sort(seconds.begin(), seconds.end());
            const double median = seconds[seconds.size() / 2];
            Timing timing{op, shape, row.name, median, (seconds.back() - seconds.front()) / median, flops, bytes};
            timing.percent_of_fma = 100 * flops / median / 1e9 / fma_;
            timing.percent_of_memory = 100 * bytes / median / 1e9 / memory_;
            timings_.push_back(timing);
            if (!options_.json) print(timing);
        }
    }

    static void print(const Timing& t) {
        if (t.flops > 0)
            std::printf("%-26s %-30s %-12s %9.3f ms  %8.1f GFLOP/s  %5.1f %% of FMA   spread %3.0f %%\n", t.op.c_str(),
                        t.shape.c_str(), t.row.c_str(), 1e3 * t.seconds, t.flops / t.seconds / 1e9, t.percent_of_fma,
                        100 * t.spread);
        else
            std::printf("%-26s %-30s %-12s %9.3f ms  %8.1f GB/s     %5.1f %% of memory  spread %3.0f %%\n",
                        t.op.c_str(), t.shape.c_str(), t.row.c_str(), 1e3 * t.seconds, t.bytes / t.seconds / 1e9,
                        t.percent_of_memory, 100 * t.spread);
        std::fflush(stdout);
    }

    void convolution(const ConvParams& p) {
        const auto shape = shape_of(p.n, p.grid, text(p.c_in, "->", p.c_out, p.kernel == 1 ? " (1)" : ""));
        const Tensor x = uniform(p.x_count()), weight = uniform(p.weight_count(), -0.1, 0.1), bias = uniform(p.c_out);
        Tensor y = uniform(p.y_count()), dx = Tensor::zeros({p.x_count()}), dweight = Tensor::zeros({p.weight_count()});
        Tensor dbias = Tensor::zeros({p.c_out});
        const ConstView cx = x.view(), cw = weight.view(), cb = bias.view();
        const double bytes = 4.0 * static_cast<double>(p.x_count() + p.y_count() + p.weight_count());
        time("conv", conv_table(), p, shape, p.flops(), bytes,
             [&](const auto& row) { row.run(y.view(), cx, cw, cb, p, stream_); });
        const Tensor dy = uniform(p.y_count());
        time("conv_backward_data", conv_backward_data_table(), p, shape, p.flops(), bytes,
             [&](const auto& row) { row.run(dx.view(), dy.view(), cw, p, stream_); });
        time("conv_backward_weight", conv_backward_weight_table(), p, shape, p.flops(), bytes,
             [&](const auto& row) { row.run(dweight.view(), dbias.view(), dy.view(), cx, p, stream_); });
    }

    void convolutions() {
        if (!wanted("conv") && !wanted("conv_backward_data") && !wanted("conv_backward_weight")) return;
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

    void norms() {
        for (int level = 0; level < 5; ++level) {
            const Grid g = grid(level);
            const std::int64_t channels = config_.channels[static_cast<std::size_t>(level)];
            const GroupNormParams p{2 * config_.batch, g.pixels(), channels, channels / 8, 1e-5, 0.2};
            const Tensor x = uniform(p.count()), gamma = uniform(channels), beta = uniform(channels),
                         dy = uniform(p.count());
            Tensor y = Tensor::zeros({p.count()}), mean = Tensor::zeros({p.n * p.groups}), rstd = mean.clone();
            Tensor dgamma = Tensor::zeros({channels}), dbeta = Tensor::zeros({channels});
            const auto shape = shape_of(p.n, g, text(channels));
            const double map = 4.0 * static_cast<double>(p.count());
            time("group_norm", group_norm_table(), p, shape, 0, 2 * map, [&](const auto& row) {
                row.run(y.view(), mean.view(), rstd.view(), x.view(), gamma.view(), beta.view(), p, stream_);
            });
            group_norm(y.view(), mean.view(), rstd.view(), x.view(), gamma.view(), beta.view(), p, stream_);
            time("group_norm_backward", group_norm_backward_table(), p, shape, 0, 3 * map, [&](const auto& row) {
                row.run(y.view(), dgamma.view(), dbeta.view(), dy.view(), x.view(), mean.view(), rstd.view(),
                        gamma.view(), beta.view(), p, stream_);
            });
        }
    }

    void pools_and_resizes() {
        const auto& c = config_.channels;
        const std::int64_t n = 2 * config_.batch;
        for (int level = 0; level < 4; ++level) {
            const auto l = static_cast<std::size_t>(level);
            const MaxPoolParams p{n, grid(level), c[l]};
            const Tensor x = uniform(p.x_count()), dy = uniform(p.y_count());
            Tensor y = Tensor::zeros({p.y_count()}), dx = Tensor::zeros({p.x_count()});
            const auto shape = shape_of(n, p.grid, text(c[l]));
            const double big = 4.0 * static_cast<double>(p.x_count()), small = 4.0 * static_cast<double>(p.y_count());
            time("max_pool", max_pool_table(), p, shape, 0, big + small,
                 [&](const auto& row) { row.run(y.view(), x.view(), p, stream_); });
            time("max_pool_backward", max_pool_backward_table(), p, shape, 0, 2 * big + small,
                 [&](const auto& row) { row.run(dx.view(), dy.view(), x.view(), p, stream_); });
        }
        for (int level = 3; level >= 0; --level) {
            const auto l = static_cast<std::size_t>(level);
            upsampling({n, grid(level + 1), c[7 - l], false, 1});
            const ConcatParams p{n * grid(level).pixels(), c[l], c[7 - l]};
            Tensor a = uniform(p.pixels * p.c_a), b = uniform(p.pixels * p.c_b);
            Tensor y = uniform(p.pixels * (p.c_a + p.c_b));
            const auto shape = shape_of(n, grid(level), text(p.c_a, "+", p.c_b));
            const double bytes = 8.0 * static_cast<double>(y.count());
            time("concat", concat_table(), p, shape, 0, bytes,
                 [&](const auto& row) { row.run(y.view(), a.const_view(), b.const_view(), p, stream_); });
            time("split", split_table(), p, shape, 0, bytes,
                 [&](const auto& row) { row.run(a.view(), b.view(), y.const_view(), p, stream_); });
        }
    }

    void upsampling(const UpsampleParams& p) {
        const Tensor x = uniform(p.x_count()), dy = uniform(p.y_count());
        Tensor y = Tensor::zeros({p.y_count()}), dx = Tensor::zeros({p.x_count()});
        const auto shape = shape_of(p.n, p.grid, text(p.channels, p.align_corners ? " (aligned)" : ""));
        const double bytes = 4.0 * static_cast<double>(p.x_count() + p.y_count());
        time("upsample", upsample_table(), p, shape, 0, bytes,
             [&](const auto& row) { row.run(y.view(), x.view(), p, stream_); });
        time("upsample_backward", upsample_backward_table(), p, shape, 0, bytes,
             [&](const auto& row) { row.run(dx.view(), dy.view(), p, stream_); });
    }

    void pyramid() {
        const std::int64_t n = config_.batch;
        for (int level = 4; level >= 0; --level) {
            const auto l = static_cast<std::size_t>(level);
            const Grid g = grid(level);
            if (level > 0) upsampling({n, g, config_.dims, true, 2});
            const std::int64_t channels = level == 4 ? config_.channels[4] : config_.channels[8 - l];
            const WarpParams w{n, g, channels, WarpConvention::exact};
            const Tensor source = uniform(w.source_count()), field = uniform(w.field_count(), -3, 3);
            Tensor y = uniform(w.source_count()), dsource = y.clone(), dfield = field.clone();
            const double map = 4.0 * static_cast<double>(w.source_count());
            const double vectors = 4.0 * static_cast<double>(w.field_count());
            const auto shape = shape_of(n, g, text(channels));
            time("warp", warp_table(), w, shape, 0, 2 * map + vectors,
                 [&](const auto& row) { row.run(y.view(), source.view(), field.view(), w, stream_); });
            time("warp_backward", warp_backward_table(), w, shape, 0, 3 * map + 2 * vectors, [&](const auto& row) {
                row.run(dsource.view(), dfield.view(), y.const_view(), source.view(), field.view(), w, stream_);
            });

            const LocalAttentionParams a{n, g, config_.heads[4 - l], config_.head_dim, config_.radius};
            const Tensor q = uniform(a.q_count()), k = uniform(a.q_count()), dy = uniform(a.y_count());
            Tensor out = Tensor::zeros({a.y_count()}), dq = q.clone(), dk = k.clone();
            // One multiply-add per channel and offset for the scores; their gradients take two more and a
            // recomputation.
            const double flops = 2.0 * static_cast<double>(a.q_count()) * a.window();
            const auto heads = shape_of(n, g, text(a.heads, "*", a.head_dim, " r", a.radius));
            time("local_attention", local_attention_table(), a, heads, flops, 0,
                 [&](const auto& row) { row.run(out.view(), q.view(), k.view(), a, stream_); });
            time("local_attention_backward", local_attention_backward_table(), a, heads, 3 * flops, 0,
                 [&](const auto& row) { row.run(dq.view(), dk.view(), dy.view(), q.view(), k.view(), a, stream_); });
        }
    }

    void losses() {
        const Grid g = grid(0);
        const std::int64_t n = config_.batch;
        Tensor loss = Tensor::zeros({1}), mask = Tensor::zeros({n * g.pixels()});
        mask.fill(1);
        const Tensor dloss = mask.slice(0, {1});
        for (const bool vectors : {true, false}) {
            const LossParams p{n, g.pixels(), vectors ? config_.dims : config_.channels[8]};
            const Tensor a = uniform(p.count()), b = uniform(p.count());
            Tensor da = a.clone(), db = b.clone();
            const auto shape = shape_of(n, g, text(p.channels));
            const double map = 4.0 * static_cast<double>(p.count()), weights = 4.0 * static_cast<double>(mask.count());
            if (vectors) {
                time("masked_l1", masked_l1_table(), p, shape, 0, 2 * map + weights,
                     [&](const auto& row) { row.run(loss.view(), a.view(), b.view(), mask.const_view(), p, stream_); });
                time("masked_l1_backward", masked_l1_backward_table(), p, shape, 0, 3 * map + weights,
                     [&](const auto& row) {
                         row.run(da.view(), dloss.view(), a.view(), b.view(), mask.const_view(), p, stream_);
                     });
            } else {
                time("masked_cosine", masked_cosine_table(), p, shape, 0, 2 * map + weights,
                     [&](const auto& row) { row.run(loss.view(), a.view(), b.view(), mask.const_view(), p, stream_); });
                time("masked_cosine_backward", masked_cosine_backward_table(), p, shape, 0, 4 * map + weights,
                     [&](const auto& row) {
                         row.run(da.view(), db.view(), dloss.view(), a.view(), b.view(), mask.const_view(), p, stream_);
                     });
            }
        }
        const ElementwiseParams e{n * g.pixels() * config_.dims, 2};
        const Tensor a = uniform(e.count), b = uniform(e.count);
        Tensor y = a.clone();
        const double map = 4.0 * static_cast<double>(e.count);
        time("add", add_table(), e, text(e.count), 0, 3 * map,
             [&](const auto& row) { row.run(y.view(), a.view(), b.view(), e, stream_); });
        time("scale", scale_table(), e, text(e.count), 0, 2 * map,
             [&](const auto& row) { row.run(y.view(), a.view(), e, stream_); });
    }

    void optimizers() {
        const std::int64_t count = Model(model_config(config_)).parameters().values().count();
        const Tensor gradient = uniform(count);
        Tensor weights = uniform(count), first = Tensor::zeros({count}), second = Tensor::zeros({count});
        Tensor sum = Tensor::zeros({1}, DType::float64);
        const double map = 4.0 * static_cast<double>(count);
        const ReduceParams reduce{count};
        time("sum_of_squares", sum_of_squares_table(), reduce, text(count), 0, map,
             [&](const auto& row) { row.run(sum.view(), gradient.view(), reduce, stream_); });
        AdamParams adam_params;
        adam_params.count = count;
        time("adam", adam_table(), adam_params, text(count), 0, 7 * map, [&](const auto& row) {
            row.run(weights.view(), first.view(), second.view(), gradient.view(), adam_params, stream_);
        });
        SgdParams sgd_params;
        sgd_params.count = count;
        time("sgd", sgd_table(), sgd_params, text(count), 0, 5 * map,
             [&](const auto& row) { row.run(weights.view(), first.view(), gradient.view(), sgd_params, stream_); });
    }

    const TrainConfig& config_;
    Stream& stream_;
    const BenchOpsOptions& options_;
    double fma_ = 0, memory_ = 0;
    std::vector<Timing> timings_;
};

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
    if (!options.op.empty()) {
        std::vector<std::string> names;
        for (const auto& op : kernel_catalogue()) names.push_back(op.op);
        require(std::find(names.begin(), names.end(), options.op) != names.end(), ErrorKind::usage,
                "[bench ops] --op: there is no op '", options.op, "'", nearest_hint(options.op, names));
    }

    if (!options.row.empty()) {
        std::vector<std::string> names;
        for (const auto& op : kernel_catalogue())
            for (const auto& row : op.rows)
                if (std::find(names.begin(), names.end(), row.name) == names.end()) names.push_back(row.name);
        require(std::find(names.begin(), names.end(), options.row) != names.end(), ErrorKind::usage,
                "[bench ops] --row: there is no row '", options.row, "'", nearest_hint(options.row, names));
    }

    Machine machine(config);
    require(machine.dtype() == DType::float32, ErrorKind::configuration,
            "[bench ops] precision: fp64 is for verification only; take fp32");
    // Its tensors lie on the host, and its roofs are those of the processor.
    require(machine.device() == Device::cpu, ErrorKind::device,
            "[bench ops] device: times the rows of the CPU only; `cover bench step --device ", name_of(config.device),
            "` times a whole step");
    OpsBench bench(config, machine.stream(), options);
    if (!options.json)
        std::printf(
            "%s, %d threads: FMA loop %.1f GFLOP/s, memory loop %.1f GB/s (a map that fits the caches may exceed "
            "it)\n",
            processor_name().c_str(), config.threads, bench.fma(), bench.memory());
    bench.all();
    if (options.json) {
        nlohmann::ordered_json out{{"processor", processor_name()},
                                   {"threads", config.threads},
                                   {"dims", config.dims},
                                   {"patch", {config.patch[0], config.patch[1], config.patch[2]}},
                                   {"batch", config.batch},
                                   {"fma_gflops", bench.fma()},
                                   {"memory_gigabytes_per_second", bench.memory()},
                                   {"rows", nlohmann::ordered_json::array()}};
        for (const auto& t : bench.timings()) {
            nlohmann::ordered_json row{
                {"op", t.op}, {"shape", t.shape}, {"row", t.row}, {"seconds", t.seconds}, {"spread", t.spread}};
            if (t.flops > 0) {
                row["gflops"] = t.flops / t.seconds / 1e9;
                row["percent_of_fma"] = t.percent_of_fma;
            } else {
                row["gigabytes_per_second"] = t.bytes / t.seconds / 1e9;
                row["percent_of_memory"] = t.percent_of_memory;
            }
            out["rows"].push_back(row);
        }
        std::printf("%s\n", out.dump(1).c_str());
    }
    return 0;
}

}  // namespace cover::app
