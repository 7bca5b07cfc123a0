// The vector code of the CPU rows with sixteen lanes, compiled for AVX2 machines, against the float64 reference: what
// the AVX-512 rows compute is tested where no AVX-512 exists. The rows of the tables have their own tests.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/local_attention.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/optim.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/resize.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/warp.h"
#include "kernels/elementwise.h"
#include "kernels/local_attention.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"
#include "kernels/resize.h"
#include "kernels/warp.h"
#include "tests/op_rows.h"

namespace cover::cpu::lanes16 {
extern const ElementwiseKernels elementwise_kernels;
extern const LocalAttentionKernels local_attention_kernels;
extern const LossKernels loss_kernels;
extern const NormKernels norm_kernels;
extern const OptimKernels optim_kernels;
extern const PoolKernels pool_kernels;
extern const ReduceKernels reduce_kernels;
extern const ResizeKernels resize_kernels;
extern const WarpKernels warp_kernels;
}  // namespace cover::cpu::lanes16

namespace cover::test {
namespace {

// The float64 reference, the table's own SIMD rows where asked for, and one row with the sixteen-lane kernels.
template <auto driver, const auto& kernels, class Params, class Run>
std::vector<Variant<Params, Run>> lanes_table(std::span<const Variant<Params, Run>> rows, bool with_simd_rows) {
    std::vector<Variant<Params, Run>> table;
    for (const auto& row : rows) {
        const std::string name = row.name;
        if ((name == "ref" && row.dtype == DType::float64) || (with_simd_rows && name.starts_with("cpu_avx")))
            table.push_back(row);
    }
    table.push_back({"lanes16", Device::cpu, DType::float32, Math::exact, needs_avx2<Params>,
                     cpu::WithKernels<driver, kernels, Run>::run});
    return table;
}

// Holds the sixteen-lane row to the reference; skips where the machine has no AVX2.
template <auto driver, const auto& kernels, class Params, class Run>
void check_lanes(const char* op, std::span<const Variant<Params, Run>> rows, const std::vector<Params>& cases,
                 decltype(RowTest<Params, Run>::inputs) inputs, decltype(RowTest<Params, Run>::outputs) outputs,
                 decltype(RowTest<Params, Run>::call) call, decltype(RowTest<Params, Run>::describe) describe_case,
                 bool with_simd_rows = false) {
    if (!machine_facts().avx2) return skip("no AVX2");
    const auto table = lanes_table<driver, kernels>(rows, with_simd_rows);
    check_table(RowTest<Params, Run>{op, table, cases, inputs, outputs, call, describe_case});
}

Tensor values(std::int64_t count, std::uint32_t stream, double low = -1, double high = 1) {
    return random_tensor({count}, DType::float64, stream, low, high);
}

Tensor mask_of(std::int64_t count) {
    Tensor mask = values(count, 40, 0, 1);
    for (std::int64_t i = 0; i < count; ++i) mask.data<double>()[i] = mask.data<double>()[i] < 0.7 || i == 0;
    return mask;
}

const std::vector<Grid> grids = {{2, 1, 1, 1}, {2, 1, 3, 5}, {2, 1, 9, 17}, {2, 1, 19, 33}, {2, 1, 10, 70},
                                 {3, 1, 2, 3}, {3, 3, 5, 6}, {3, 6, 9, 18}, {3, 2, 1, 16}};
const std::vector<std::int64_t> channel_counts = {1, 2, 3, 8, 16, 24, 33, 40};

std::vector<GroupNormParams> norm_cases() {
    std::vector<GroupNormParams> cases;
    for (const std::int64_t pixels : {1, 2, 7, 64, 97, 1024})
        for (const auto& [channels, groups] : std::vector<std::array<std::int64_t, 2>>{
                 {8, 1}, {32, 4}, {32, 1}, {24, 3}, {40, 5}, {3, 1}, {6, 3}, {5, 5}, {136, 17}})
            cases.push_back({1 + pixels % 3, pixels, channels, groups, 1e-5, channels % 16 == 8 ? 1.0 : 0.2});
    cases.push_back({2, 9001, 8, 1, 1e-5, 0.2});
    cases.push_back({2, 4096, 32, 4, 1e-5, 0.2});
    return cases;
}

std::string describe_norm(const GroupNormParams& p) {
    return text(p.n, " x ", p.pixels, " pixels, ", p.channels, " channels, ", p.groups, " groups");
}

}  // namespace

TEST_CASE("sixteen lanes: group_norm") {
    check_lanes<cpu::group_norm, cpu::lanes16::norm_kernels>(
        "group_norm", group_norm_table(), norm_cases(),
        [](const GroupNormParams& p) -> std::vector<Tensor> {
            return {values(p.count(), 1, -1, 3), values(p.channels, 2), values(p.channels, 3)};
        },
        [](const GroupNormParams& p) -> std::vector<OutputSpec> {
            // The variance of a few values may be small, and rstd magnifies it.
            const bool few = p.pixels * p.channels / p.groups < 16;
            return {{.name = "y", .count = p.count(), .terms = few ? 1e4 : 64, .scale = 4},
                    {.name = "mean", .count = p.n * p.groups, .terms = 16, .scale = 2},
                    {.name = "rstd", .count = p.n * p.groups, .terms = few ? 1e5 : 256, .scale = 400}};
        },
        [](GroupNormRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], in[1], in[2], p, stream);
        },
        describe_norm);
}

TEST_CASE("sixteen lanes: group_norm_backward") {
    check_lanes<cpu::group_norm_backward, cpu::lanes16::norm_kernels>(
        "group_norm_backward", group_norm_backward_table(), norm_cases(),
        [](const GroupNormParams& p) -> std::vector<Tensor> {
            return {values(p.count(), 4),
                    values(p.count(), 1, -1, 3),
                    values(p.n * p.groups, 5, 0.5, 1.5),
                    values(p.n * p.groups, 6, 0.5, 2),
                    values(p.channels, 2),
                    values(p.channels, 3)};
        },
        [](const GroupNormParams& p) -> std::vector<OutputSpec> {
            const double terms = static_cast<double>(p.n * p.pixels);
            return {{.name = "dx", .count = p.count(), .terms = 16, .scale = 8},
                    {.name = "dgamma",
                     .count = p.channels,
                     .terms = terms,
                     .scale = 4 * std::sqrt(terms),
                     .start = Start::random},
                    {.name = "dbeta",
                     .count = p.channels,
                     .terms = terms,
                     .scale = 4 * std::sqrt(terms),
                     .start = Start::random}};
        },
        [](GroupNormBackwardRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4], in[5], p, stream);
        },
        describe_norm);
}

namespace {

std::vector<MaxPoolParams> pool_cases() {
    std::vector<MaxPoolParams> cases;
    for (const Grid& grid : std::vector<Grid>{{2, 1, 2, 2}, {2, 1, 6, 10}, {3, 2, 2, 2}, {3, 4, 6, 8}})
        for (const std::int64_t channels : channel_counts) cases.push_back({1 + channels % 2, grid, channels});
    return cases;
}
std::string describe_pool(const MaxPoolParams& p) { return text(describe(p.n, p.grid), ", ", p.channels, " channels"); }

// Few different values: ties abound.
Tensor tied(std::int64_t count) {
    Tensor t = values(count, 1);
    for (std::int64_t i = 0; i < count; ++i) t.data<double>()[i] = std::round(2 * t.data<double>()[i]);
    return t;
}

std::vector<UpsampleParams> upsample_cases() {
    std::vector<UpsampleParams> cases;
    for (const Grid& grid : grids)
        for (const std::int64_t channels : channel_counts)
            for (const bool align : {false, true})
                cases.push_back({1 + channels % 2, grid, channels, align, align ? 2.0 : 1.0});
    return cases;
}
std::string describe_upsample(const UpsampleParams& p) {
    return text(describe(p.n, p.grid), ", ", p.channels, " channels", p.align_corners ? ", aligned" : "");
}

std::vector<WarpParams> warp_cases() {
    std::vector<WarpParams> cases;
    for (const Grid& grid : grids)
        for (const std::int64_t channels : channel_counts)
            for (const auto convention : {WarpConvention::exact, WarpConvention::reference})
                cases.push_back({1 + channels % 3, grid, channels, convention});
    return cases;
}
std::string describe_warp(const WarpParams& p) {
    return text(describe(p.n, p.grid), ", ", p.channels, " channels",
                p.convention == WarpConvention::reference ? ", reference" : "");
}

}  // namespace

TEST_CASE("sixteen lanes: max_pool") {
    check_lanes<cpu::max_pool, cpu::lanes16::pool_kernels>(
        "max_pool", max_pool_table(), pool_cases(),
        [](const MaxPoolParams& p) -> std::vector<Tensor> { return {tied(p.x_count())}; },
        [](const MaxPoolParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .exact = true}};
        },
        [](MaxPoolRun* run, Outputs out, Inputs in, const MaxPoolParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_pool);
    check_lanes<cpu::max_pool_backward, cpu::lanes16::pool_kernels>(
        "max_pool_backward", max_pool_backward_table(), pool_cases(),
        [](const MaxPoolParams& p) -> std::vector<Tensor> {
            return {values(p.y_count(), 2), tied(p.x_count())};
        },
        [](const MaxPoolParams& p) -> std::vector<OutputSpec> {
            return {{.name = "dx", .count = p.x_count(), .exact = true}};
        },
        [](MaxPoolBackwardRun* run, Outputs out, Inputs in, const MaxPoolParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_pool);
}

TEST_CASE("sixteen lanes: upsample") {
    check_lanes<cpu::upsample, cpu::lanes16::resize_kernels>(
        "upsample", upsample_table(), upsample_cases(),
        [](const UpsampleParams& p) -> std::vector<Tensor> { return {values(p.x_count(), 1)}; },
        [](const UpsampleParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .terms = 8, .scale = 2}};
        },
        [](UpsampleRun* run, Outputs out, Inputs in, const UpsampleParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_upsample);
    check_lanes<cpu::upsample_backward, cpu::lanes16::resize_kernels>(
        "upsample_backward", upsample_backward_table(), upsample_cases(),
        [](const UpsampleParams& p) -> std::vector<Tensor> { return {values(p.y_count(), 1)}; },
        [](const UpsampleParams& p) -> std::vector<OutputSpec> {
            return {{.name = "dx", .count = p.x_count(), .terms = 64, .scale = 4}};
        },
        [](UpsampleBackwardRun* run, Outputs out, Inputs in, const UpsampleParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_upsample);
}

TEST_CASE("sixteen lanes: warp") {
    check_lanes<cpu::warp, cpu::lanes16::warp_kernels>(
        "warp", warp_table(), warp_cases(),
        [](const WarpParams& p) -> std::vector<Tensor> {
            return {values(p.source_count(), 1), values(p.field_count(), 2, -4, 4)};
        },
        [](const WarpParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.source_count(), .terms = 8}};
        },
        [](WarpRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_warp);
}

TEST_CASE("sixteen lanes: warp_backward") {
    for (const int wanted : {3, 1, 2}) {  // bits: the source's gradient, the field's
        check_lanes<cpu::warp_backward, cpu::lanes16::warp_kernels>(
            "warp_backward", warp_backward_table(), warp_cases(),
            [](const WarpParams& p) -> std::vector<Tensor> {
                return {values(p.source_count(), 3), values(p.source_count(), 1), values(p.field_count(), 2, -4, 4)};
            },
            [=](const WarpParams& p) -> std::vector<OutputSpec> {
                std::vector<OutputSpec> specs;
                if (wanted & 1)
                    specs.push_back({.name = "dsource", .count = p.source_count(), .terms = 64, .scale = 4});
                if (wanted & 2)
                    specs.push_back({.name = "dfield",
                                     .count = p.field_count(),
                                     .terms = static_cast<double>(p.channels * 8),
                                     .scale = 16});
                return specs;
            },
            [=](WarpBackwardRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
                run(wanted & 1 ? out[0] : View(),
                    wanted == 3   ? out[1]
                    : wanted == 2 ? out[0]
                                  : View(),
                    in[0], in[1], in[2], p, stream);
            },
            describe_warp);
    }
}

namespace {

std::vector<LocalAttentionParams> attention_cases() {
    std::vector<LocalAttentionParams> cases;
    for (const Grid& grid : grids)
        for (const auto& [heads, head_dim, radius] :
             std::vector<std::array<int, 3>>{{1, 8, 2}, {4, 8, 2}, {2, 5, 1}, {3, 12, 3}, {1, 1, 1}})
            cases.push_back({1 + heads % 2, grid, heads, head_dim, radius});
    return cases;
}
std::string describe_attention(const LocalAttentionParams& p) {
    return text(describe(p.n, p.grid), ", ", p.heads, " heads of ", p.head_dim, ", radius ", p.radius);
}

}  // namespace

TEST_CASE("sixteen lanes: local_attention") {
    check_lanes<cpu::local_attention, cpu::lanes16::local_attention_kernels>(
        "local_attention", local_attention_table(), attention_cases(),
        [](const LocalAttentionParams& p) -> std::vector<Tensor> {
            return {values(p.q_count(), 1, -3, 3), values(p.q_count(), 2, -3, 3)};
        },
        [](const LocalAttentionParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .terms = 64, .scale = 3, .relative = p.grid.pixels() > 1}};
        },
        [](LocalAttentionRun* run, Outputs out, Inputs in, const LocalAttentionParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_attention);
}

TEST_CASE("sixteen lanes: local_attention_backward") {
    check_lanes<cpu::local_attention_backward, cpu::lanes16::local_attention_kernels>(
        "local_attention_backward", local_attention_backward_table(), attention_cases(),
        [](const LocalAttentionParams& p) -> std::vector<Tensor> {
            return {values(p.y_count(), 3), values(p.q_count(), 1, -3, 3), values(p.q_count(), 2, -3, 3)};
        },
        [](const LocalAttentionParams& p) -> std::vector<OutputSpec> {
            const bool relative = p.grid.pixels() > 1;
            return {{.name = "dq", .count = p.q_count(), .terms = 256, .scale = 3, .relative = relative},
                    {.name = "dk", .count = p.q_count(), .terms = 256, .scale = 3, .relative = relative}};
        },
        [](LocalAttentionBackwardRun* run, Outputs out, Inputs in, const LocalAttentionParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], in[2], p, stream);
        },
        describe_attention);
}

namespace {

std::vector<LossParams> loss_cases() {
    std::vector<LossParams> cases;
    for (const std::int64_t pixels : {1, 5, 40, 9973})
        for (const std::int64_t channels : channel_counts) cases.push_back({1 + channels % 2, pixels, channels});
    return cases;
}
std::string describe_loss(const LossParams& p) {
    return text(p.n, " x ", p.pixels, " pixels, ", p.channels, " channels");
}

}  // namespace

TEST_CASE("sixteen lanes: losses") {
    check_lanes<cpu::masked_l1, cpu::lanes16::loss_kernels>(
        "masked_l1", masked_l1_table(), loss_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            return {values(p.count(), 1), values(p.count(), 2), mask_of(p.mask_count())};
        },
        [](const LossParams&) -> std::vector<OutputSpec> { return {{.name = "loss", .count = 1, .scale = 32}}; },
        [](MaskedL1Run* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], p, stream);
        },
        describe_loss);
    check_lanes<cpu::masked_l1_backward, cpu::lanes16::loss_kernels>(
        "masked_l1_backward", masked_l1_backward_table(), loss_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            return {values(1, 4), values(p.count(), 1), values(p.count(), 2), mask_of(p.mask_count())};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> { return {{.name = "dprediction", .count = p.count()}}; },
        [](MaskedL1BackwardRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], in[3], p, stream);
        },
        describe_loss);
    check_lanes<cpu::masked_cosine, cpu::lanes16::loss_kernels>(
        "masked_cosine", masked_cosine_table(), loss_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            return {values(p.count(), 1), values(p.count(), 2), mask_of(p.mask_count())};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> {
            return {{.name = "loss", .count = 1, .terms = static_cast<double>(p.channels), .relative = false}};
        },
        [](MaskedCosineRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], p, stream);
        },
        describe_loss);
    check_lanes<cpu::masked_cosine_backward, cpu::lanes16::loss_kernels>(
        "masked_cosine_backward", masked_cosine_backward_table(), loss_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            return {values(1, 4), values(p.count(), 1, 0, 1), values(p.count(), 2), mask_of(p.mask_count())};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> {
            // With one channel the cosine is a sign and its derivative cancels.
            const double terms = static_cast<double>(p.channels) * 16;
            const bool relative = p.channels > 1;
            return {{.name = "da", .count = p.count(), .terms = terms, .scale = 1e3, .relative = relative},
                    {.name = "db", .count = p.count(), .terms = terms, .scale = 1e3, .relative = relative}};
        },
        [](MaskedCosineBackwardRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], in[2], in[3], p, stream);
        },
        describe_loss);
}

namespace {

const std::vector<std::int64_t> counts = {1, 7, 8, 17, 64, 100003};

std::vector<ElementwiseParams> elementwise_cases() {
    std::vector<ElementwiseParams> cases;
    for (const std::int64_t count : counts) cases.push_back({count, -1.75});
    return cases;
}
std::vector<ConcatParams> concat_cases() {
    std::vector<ConcatParams> cases;
    for (const std::int64_t pixels : {1, 33, 2049})
        for (const std::int64_t a : channel_counts)
            for (const std::int64_t b : {1, 8, 33}) cases.push_back({pixels, a, b});
    return cases;
}
std::string describe_concat(const ConcatParams& p) { return text(p.pixels, " pixels, ", p.c_a, " + ", p.c_b); }

}  // namespace

TEST_CASE("sixteen lanes: element-wise ops") {
    const auto describe_count = [](const ElementwiseParams& p) { return text(p.count, " elements"); };
    check_lanes<cpu::add, cpu::lanes16::elementwise_kernels>(
        "add", add_table(), elementwise_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> {
            return {values(p.count, 1), values(p.count, 2)};
        },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> { return {{.name = "y", .count = p.count}}; },
        [](AddRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_count);
    check_lanes<cpu::scale, cpu::lanes16::elementwise_kernels>(
        "scale", scale_table(), elementwise_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> { return {values(p.count, 1)}; },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count, .scale = 2}};
        },
        [](ScaleRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_count);
    check_lanes<cpu::cast_to_bfloat16, cpu::lanes16::elementwise_kernels>(
        "cast", cast_table(), elementwise_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> { return {values(p.count, 1)}; },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count, .exact = true, .type = cast_type}};
        },
        [](CastRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_count);
    check_lanes<cpu::concat, cpu::lanes16::elementwise_kernels>(
        "concat", concat_table(), concat_cases(),
        [](const ConcatParams& p) -> std::vector<Tensor> {
            return {values(p.pixels * p.c_a, 1), values(p.pixels * p.c_b, 2)};
        },
        [](const ConcatParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.pixels * (p.c_a + p.c_b), .exact = true}};
        },
        [](ConcatRun* run, Outputs out, Inputs in, const ConcatParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_concat);
    check_lanes<cpu::split, cpu::lanes16::elementwise_kernels>(
        "split", split_table(), concat_cases(),
        [](const ConcatParams& p) -> std::vector<Tensor> { return {values(p.pixels * (p.c_a + p.c_b), 1)}; },
        [](const ConcatParams& p) -> std::vector<OutputSpec> {
            return {{.name = "a", .count = p.pixels * p.c_a, .exact = true},
                    {.name = "b", .count = p.pixels * p.c_b, .exact = true}};
        },
        [](SplitRun* run, Outputs out, Inputs in, const ConcatParams& p, Stream& stream) {
            run(out[0], out[1], in[0], p, stream);
        },
        describe_concat);
}

TEST_CASE("sixteen lanes: sum_of_squares") {
    std::vector<ReduceParams> cases;
    for (const std::int64_t count : counts) cases.push_back({count});
    check_lanes<cpu::sum_of_squares, cpu::lanes16::reduce_kernels>(
        "sum_of_squares", sum_of_squares_table(), cases,
        [](const ReduceParams& p) -> std::vector<Tensor> { return {values(p.count, 1)}; },
        [](const ReduceParams& p) -> std::vector<OutputSpec> {
            const auto terms = static_cast<double>(p.count);
            return {{.name = "sum", .count = 1, .terms = terms, .scale = terms, .type = float64_type}};
        },
        [](SumOfSquaresRun* run, Outputs out, Inputs in, const ReduceParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        [](const ReduceParams& p) { return text(p.count, " elements"); });
}

TEST_CASE("sixteen lanes: optimizers") {
    std::vector<AdamParams> adam_cases;
    std::vector<SgdParams> sgd_cases;
    for (const std::int64_t count : counts) {
        adam_cases.push_back({.count = count, .weight_decay = 1e-4});
        sgd_cases.push_back({.count = count, .weight_decay = 1e-4});
    }
    // The second step at a rate of 1e-3; below, the first step of SGD ignores its buffer, and a later one uses it.
    const Tensor adam_factors = tensor_of({1, 0.5, 1e-3 / (1 - 0.9 * 0.9), 1 / (1 - 0.999 * 0.999)});
    check_lanes<cpu::adam, cpu::lanes16::optim_kernels>(
        "adam", adam_table(), adam_cases,
        [&](const AdamParams& p) -> Operands {
            return {values(p.count, 1), {adam_factors, float64_type}};
        },
        [](const AdamParams& p) -> std::vector<OutputSpec> {
            return {{.name = "w", .count = p.count, .terms = 4, .start = Start::random},
                    {.name = "m", .count = p.count, .terms = 4, .start = Start::random},
                    {.name = "v", .count = p.count, .terms = 4, .start = Start::random, .low = 0.1}};
        },
        [](AdamRun* run, Outputs out, Inputs in, const AdamParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], in[1], p, stream);
        },
        [](const AdamParams& p) { return text(p.count, " elements"); });
    for (const double first_step : {1.0, 0.0}) {
        const Tensor factors = tensor_of({1, 0.5, 1e-2, first_step});
        check_lanes<cpu::sgd, cpu::lanes16::optim_kernels>(
            "sgd", sgd_table(), sgd_cases,
            [&](const SgdParams& p) -> Operands {
                return {values(p.count, 1), {factors, float64_type}};
            },
            [](const SgdParams& p) -> std::vector<OutputSpec> {
                return {{.name = "w", .count = p.count, .terms = 4, .start = Start::random},
                        {.name = "buffer", .count = p.count, .terms = 4, .start = Start::random}};
            },
            [](SgdRun* run, Outputs out, Inputs in, const SgdParams& p, Stream& stream) {
                run(out[0], out[1], in[0], in[1], p, stream);
            },
            [](const SgdParams& p) { return text(p.count, " elements"); });
    }
}

// From 16 MiB on, outputs are written past the caches.
TEST_CASE("SIMD rows: large outputs") {
    check_lanes<cpu::group_norm, cpu::lanes16::norm_kernels>(
        "group_norm", group_norm_table(), {{1, 65537, 64, 8, 1e-5, 0.2}},
        [](const GroupNormParams& p) -> std::vector<Tensor> {
            return {values(p.count(), 1, -1, 3), values(p.channels, 2), values(p.channels, 3)};
        },
        [](const GroupNormParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count(), .terms = 64, .scale = 4},
                    {.name = "mean", .count = p.n * p.groups, .terms = 16, .scale = 2},
                    {.name = "rstd", .count = p.n * p.groups, .terms = 16, .scale = 4}};
        },
        [](GroupNormRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], in[1], in[2], p, stream);
        },
        describe_norm, true);
    check_lanes<cpu::upsample, cpu::lanes16::resize_kernels>(
        "upsample", upsample_table(), {{1, {2, 1, 131, 134}, 64, false, 1.0}},
        [](const UpsampleParams& p) -> std::vector<Tensor> { return {values(p.x_count(), 1)}; },
        [](const UpsampleParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .terms = 8, .scale = 2}};
        },
        [](UpsampleRun* run, Outputs out, Inputs in, const UpsampleParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_upsample, true);
    check_lanes<cpu::concat, cpu::lanes16::elementwise_kernels>(
        "concat", concat_table(), {{90001, 16, 32}},
        [](const ConcatParams& p) -> std::vector<Tensor> {
            return {values(p.pixels * p.c_a, 1), values(p.pixels * p.c_b, 2)};
        },
        [](const ConcatParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.pixels * (p.c_a + p.c_b), .exact = true}};
        },
        [](ConcatRun* run, Outputs out, Inputs in, const ConcatParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_concat, true);
    check_lanes<cpu::scale, cpu::lanes16::elementwise_kernels>(
        "scale", scale_table(), {{(4 << 20) + 13, -1.75}},
        [](const ElementwiseParams& p) -> std::vector<Tensor> { return {values(p.count, 1)}; },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count, .scale = 2}};
        },
        [](ScaleRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        [](const ElementwiseParams& p) { return text(p.count, " elements"); }, true);
}

}  // namespace cover::test
