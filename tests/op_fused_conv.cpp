// The fused convolution: every row against the plain reference ops, for what may be pending and where tiles end.
#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/fused_conv.h"
#include "kernels/pool.h"
#include "kernels/resize.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("fused_conv"), RegisteredTable("fused_conv_backward_data"),
                                      RegisteredTable("fused_conv_backward_weight")};

enum class Values {
    random,
    coarse,  // few bits each, so that everything before the products is exact in float32: a value is then rounded to
             // bfloat16 or TF32 to the same side by a row and by the reference
};

struct Shape2 {
    std::int64_t n;
    Grid grid;
};

std::vector<FusedConvParams> fused_cases(Values kind) {
    using enum Resampling;
    std::vector<FusedConvParams> cases;
    const auto add = [&](const Shape2& s, PendingParams first, PendingParams second, std::int64_t c_out, int kernel,
                         std::int64_t groups) {
        FusedConvParams p;
        p.conv = {s.n, s.grid, first.channels + second.channels, c_out, kernel};
        p.parts[0] = first;
        p.parts[1] = second;
        // A slope of few bits, too.
        if (kind == Values::coarse)
            for (PendingParams& part : p.parts) part.slope = part.slope < 1 ? 0.25 : 1;
        p.groups = groups;
        cases.push_back(p);
    };
    const Shape2 shapes[] = {{2, {2, 1, 6, 10}}, {1, {2, 1, 2, 2}},   {3, {2, 1, 18, 16}}, {1, {2, 1, 34, 18}},
                             {2, {3, 2, 4, 6}},  {1, {3, 4, 10, 18}}, {2, {2, 1, 4, 50}},  {1, {2, 1, 48, 26}}};
    for (const Shape2& s : shapes) {
        // What the network has: inside of a stage, down, up, a projection; and the first layer's statistics.
        add(s, {16, 2, 0.2, none}, {}, 24, 3, 3);
        add(s, {8, 1, 0.2, max_pool}, {}, 16, 3, 2);
        add(s, {8, 1, 0.2, none}, {16, 2, 0.2, upsample}, 8, 3, 1);
        add(s, {40, 5, 0.2, none}, {}, 16, 1, 1);
        add(s, {8, 0, 1.0, none}, {}, 16, 3, 2);
        // What else the contract allows.
        add(s, {8, 0, 1.0, upsample}, {8, 1, 1.0, max_pool}, 40, 3, 0);
        add(s, {8, 0, 1.0, none}, {24, 1, 0.1, none}, 8, 1, 0);
        add(s, {72, 9, 0.2, max_pool}, {}, 72, 3, 9);
        add(s, {32, 4, 0.2, none}, {64, 8, 0.2, upsample}, 32, 3, 4);
    }
    // Odd sides, where nothing is up-sampled; a first layer; channels that are no multiple of 8.
    for (const Shape2& s :
         {Shape2{1, {2, 1, 1, 1}}, Shape2{2, {2, 1, 7, 5}}, Shape2{1, {3, 3, 5, 17}}, Shape2{1, {2, 1, 23, 33}}}) {
        add(s, {16, 2, 0.2, none}, {}, 24, 3, 3);
        add(s, {8, 1, 0.2, max_pool}, {8, 1, 0.2, none}, 16, 3, 1);
        add(s, {1, 0, 1.0, none}, {}, 32, 3, 4);
        add(s, {3, 1, 0.2, none}, {5, 1, 0.5, none}, 6, 3, 2);
        add(s, {3, 1, 0.2, none}, {6, 2, 0.5, none}, 40, 3, 5);
        add(s, {3, 1, 0.2, none}, {5, 1, 0.5, none}, 6, 3, 0);
    }
    // Odd channels, resampled.
    for (const Shape2& s : {Shape2{1, {2, 1, 10, 18}}, Shape2{2, {3, 2, 4, 6}}}) {
        add(s, {5, 0, 1.0, upsample}, {6, 2, 0.2, max_pool}, 7, 3, 0);
        add(s, {5, 1, 0.5, max_pool}, {9, 3, 0.2, upsample}, 8, 1, 1);
    }
    // Each kernel of cuda_6_wgmma, with what it meets in the network.
    for (const Shape2& s : {Shape2{1, {2, 1, 10, 18}}, Shape2{2, {3, 2, 4, 10}}}) {
        add(s, {32, 4, 0.2, none}, {}, 32, 3, 4);
        add(s, {64, 8, 0.2, none}, {}, 64, 3, 8);
        add(s, {32, 4, 0.2, max_pool}, {}, 64, 3, 8);
        add(s, {64, 8, 0.2, max_pool}, {}, 128, 3, 16);
        add(s, {64, 8, 0.2, none}, {128, 16, 0.2, upsample}, 64, 3, 8);
    }
    add({1, {2, 1, 4, 4}}, {256, 32, 0.2, none}, {}, 128, 3, 16);
    add({1, {3, 4, 4, 4}}, {128, 16, 0.2, none}, {64, 8, 0.2, upsample}, 64, 3, 8);
    return cases;
}

std::string describe_fused(const FusedConvParams& p) {
    std::string parts;
    for (const PendingParams& part : p.parts)
        if (part.channels > 0)
            parts += text(" [", part.channels, " channels, ", part.groups, " groups, slope ", part.slope,
                          part.resampling == Resampling::max_pool   ? ", pooled"
                          : part.resampling == Resampling::upsample ? ", up-sampled"
                                                                    : "",
                          "]");
    return text(describe(p.conv.n, p.conv.grid), parts, " -> ", p.conv.c_out, ", kernel ", p.conv.kernel, ", ",
                p.groups, " groups of y");
}

Tensor values(Values kind, std::int64_t count, std::uint32_t seed, double low, double high, double step) {
    Tensor t = random_tensor({count}, DType::float64, seed, low, high);
    if (kind == Values::coarse)
        for (std::int64_t i = 0; i < count; ++i) t.data<double>()[i] = std::round(t.data<double>()[i] / step) * step;
    return t;
}

// x, mean, rstd, gamma, beta of each part that is there; the last four only where a group norm is pending.
Operands pending_operands(const FusedConvParams& p, Values kind) {
    Operands operands;
    for (int i = 0; i < 2; ++i) {
        const PendingParams& part = p.parts[i];
        if (part.channels == 0) continue;
        const auto seed = static_cast<std::uint32_t>(20 * i);
        operands.push_back(values(kind, p.part_count(i), seed + 1, -1, 1, 1.0 / 8));
        if (part.groups == 0) continue;
        operands.push_back(real(values(kind, p.conv.n * part.groups, seed + 2, -0.5, 0.5, 1.0 / 8)));
        operands.push_back(real(values(kind, p.conv.n * part.groups, seed + 3, 0.5, 1.5, 1.0 / 2)));
        operands.push_back(real(values(kind, part.channels, seed + 4, -1.5, 1.5, 1.0 / 2)));
        operands.push_back(real(values(kind, part.channels, seed + 5, -0.5, 0.5, 1.0 / 8)));
    }
    return operands;
}

// Takes pending_operands() apart again; `at` moves past them.
PendingInput pending_input(const FusedConvParams& p, Inputs in, std::size_t& at) {
    PendingInput input;
    for (int i = 0; i < 2; ++i) {
        if (p.parts[i].channels == 0) continue;
        Pending& part = input.parts[static_cast<std::size_t>(i)];
        part.x = in[at++];
        if (p.parts[i].groups == 0) continue;
        part.mean = in[at++];
        part.rstd = in[at++];
        part.gamma = in[at++];
        part.beta = in[at++];
    }
    return input;
}

Tensor stored_as(const Tensor& values, DType dtype) { return values.converted(dtype).converted(DType::float64); }

// The input as the plain ops would store it in `dtype` and a convolution of `math` multiply it, in float64.
Tensor stored_input(const PendingInput& input, const FusedConvParams& p, DType dtype, Math math) {
    Stream& stream = cpu_stream(2);
    std::vector<Tensor> parts;
    for (int i = 0; i < 2; ++i) {
        const PendingParams& pending = p.parts[i];
        if (pending.channels == 0) continue;
        const Pending& part = input.parts[static_cast<std::size_t>(i)];
        Tensor x = Tensor::empty({p.part_count(i)}, DType::float64);
        if (pending.groups > 0) {
            group_norm_apply(x.view(), part.x, part.mean, part.rstd, part.gamma, part.beta, p.part_norm(i), stream);
            x = stored_as(x, dtype);
        } else {
            std::copy_n(part.x.as<double>(), x.count(), x.data<double>());
        }
        if (pending.resampling != Resampling::none) {
            Tensor y = Tensor::empty({p.conv.n * p.conv.grid.pixels() * pending.channels}, DType::float64);
            if (pending.resampling == Resampling::max_pool)
                max_pool(y.view(), x.view(), {p.conv.n, p.part_grid(i), pending.channels}, stream);
            else
                upsample(y.view(), x.view(), {p.conv.n, p.part_grid(i), pending.channels, false, 1.0}, stream);
            x = stored_as(y, dtype);
        }
        parts.push_back(math == Math::tf32 ? rounded_to_tf32(x) : x);
    }
    if (parts.size() == 1) return parts[0];
    Tensor joined = Tensor::empty({p.conv.x_count()}, DType::float64);
    concat(joined.view(), parts[0].view(), parts[1].view(),
           {p.conv.n * p.conv.grid.pixels(), p.parts[0].channels, p.parts[1].channels}, stream);
    return joined;
}

double terms_of(const FusedConvParams& p) { return static_cast<double>(p.conv.taps() * p.conv.c_in); }

// Rows of bfloat16 and TF32 are held to coarse values alone.
template <class Row>
std::vector<Row> rows_for(std::span<const Row> table, Values kind) {
    std::vector<Row> rows;
    for (const Row& row : table)
        if (kind == Values::coarse || (row.dtype != DType::bfloat16 && row.math == Math::exact)) rows.push_back(row);
    return rows;
}

RowTest<FusedConvParams, FusedConvRun> fused_conv_test(Values kind) {
    static const auto exact = rows_for(fused_conv_table(), Values::random);
    return {"fused_conv",
            kind == Values::random ? exact : fused_conv_table(),
            fused_cases(kind),
            [kind](const FusedConvParams& p) {
                Operands operands = pending_operands(p, kind);
                operands.push_back(weights(values(kind, p.conv.weight_count(), 51, -1, 1, 1.0 / 8)));
                operands.push_back(real(values(kind, p.conv.c_out, 52, -1, 1, 1.0 / 8)));
                return operands;
            },
            [](const FusedConvParams& p) -> std::vector<OutputSpec> {
                const double size = std::sqrt(terms_of(p));
                std::vector<OutputSpec> specs{
                    {.name = "y", .count = p.conv.y_count(), .terms = terms_of(p), .scale = 2 * size}};
                if (p.groups == 0) return specs;
                const std::int64_t count = p.conv.n * p.groups;
                specs.push_back(
                    {.name = "mean", .count = count, .terms = 4, .scale = size, .type = real_type, .relative = false});
                specs.push_back({.name = "rstd", .count = count, .terms = 16, .scale = 4, .type = real_type});
                return specs;
            },
            [](FusedConvRun* run, Outputs out, Inputs in, const FusedConvParams& p, Stream& stream) {
                std::size_t at = 0;
                const PendingInput input = pending_input(p, in, at);
                const View none{};
                run(out[0], p.groups > 0 ? out[1] : none, p.groups > 0 ? out[2] : none, input, in[at], in[at + 1], p,
                    stream);
            },
            describe_fused,
            [](Outputs out, Inputs in, const FusedConvParams& p, DType dtype, Math math) {
                std::size_t at = 0;
                const Tensor x = stored_input(pending_input(p, in, at), p, dtype, math);
                conv(out[0], x.view(), in[at], in[at + 1], p.conv, cpu_stream(2));
                if (p.groups == 0) return;
                Tensor y = Tensor::empty({p.conv.y_count()}, DType::float64);
                std::copy_n(out[0].as<double>(), y.count(), y.data<double>());
                group_norm_statistics(out[1], out[2], stored_as(y, dtype).view(), p.statistics(), cpu_stream(2));
            }};
}

RowTest<FusedConvParams, FusedConvBackwardDataRun> fused_data_test() {
    // Where the parts meet in a tile of channels, too.
    std::vector<FusedConvParams> cases;
    for (const FusedConvParams& p : fused_cases(Values::random))
        if (p.parts[1].channels > 0) cases.push_back(p);
    for (const auto& [first, second] :
         {std::pair{8, 8}, {16, 24}, {40, 8}, {24, 72}, {32, 32}, {5, 11}, {1, 8}, {64, 128}, {136, 8}}) {
        FusedConvParams p;
        p.conv = {2, {2, 1, 5, 7}, first + second, 16, 3};
        p.parts[0].channels = first;
        p.parts[1].channels = second;
        cases.push_back(p);
    }
    return {"fused_conv_backward_data",
            fused_conv_backward_data_table(),
            cases,
            [](const FusedConvParams& p) -> Operands {
                return {random_tensor({p.conv.y_count()}, DType::float64, 54),
                        weights(random_tensor({p.conv.weight_count()}, DType::float64, 55))};
            },
            [](const FusedConvParams& p) -> std::vector<OutputSpec> {
                const std::int64_t pixels = p.conv.n * p.conv.grid.pixels();
                const double terms = static_cast<double>(p.conv.taps() * p.conv.c_out), size = std::sqrt(terms);
                return {{.name = "first", .count = pixels * p.parts[0].channels, .terms = terms, .scale = size},
                        {.name = "second", .count = pixels * p.parts[1].channels, .terms = terms, .scale = size}};
            },
            [](FusedConvBackwardDataRun* run, Outputs out, Inputs in, const FusedConvParams& p, Stream& stream) {
                run(out[0], out[1], in[0], in[1], p, stream);
            },
            describe_fused};
}

RowTest<FusedConvParams, FusedConvBackwardWeightRun> fused_weight_test(Values kind) {
    static const auto exact = rows_for(fused_conv_backward_weight_table(), Values::random);
    return {"fused_conv_backward_weight",
            kind == Values::random ? exact : fused_conv_backward_weight_table(),
            fused_cases(kind),
            [kind](const FusedConvParams& p) {
                Operands operands = pending_operands(p, kind);
                operands.push_back(random_tensor({p.conv.y_count()}, DType::float64, 53));
                return operands;
            },
            [](const FusedConvParams& p) -> std::vector<OutputSpec> {
                const double terms = static_cast<double>(p.conv.n * p.conv.grid.pixels()), size = 2 * std::sqrt(terms);
                return {{.name = "dweight",
                         .count = p.conv.weight_count(),
                         .terms = terms,
                         .scale = size,
                         .start = Start::random,
                         .type = real_type},
                        {.name = "dbias",
                         .count = p.conv.c_out,
                         .terms = terms,
                         .scale = size,
                         .start = Start::random,
                         .type = real_type}};
            },
            [](FusedConvBackwardWeightRun* run, Outputs out, Inputs in, const FusedConvParams& p, Stream& stream) {
                std::size_t at = 0;
                const PendingInput input = pending_input(p, in, at);
                run(out[0], out[1], in[at], input, p, stream);
            },
            describe_fused,
            [](Outputs out, Inputs in, const FusedConvParams& p, DType dtype, Math math) {
                std::size_t at = 0;
                const Tensor x = stored_input(pending_input(p, in, at), p, dtype, math);
                conv_backward_weight(out[0], out[1], in[at], x.view(), p.conv, cpu_stream(2));
            }};
}

int kind_of(const FusedConvParams& p) {
    try {
        validate(p);
    } catch (const Error& error) {
        return static_cast<int>(error.kind());
    }
    return 0;
}

}  // namespace

TEST_CASE("fused_conv: every row") { check_table(fused_conv_test(Values::coarse)); }
TEST_CASE("fused_conv: every row, values with all their bits") { check_table(fused_conv_test(Values::random)); }
TEST_CASE("fused_conv_backward_data: every row") { check_table(fused_data_test()); }
TEST_CASE("fused_conv_backward_weight: every row") { check_table(fused_weight_test(Values::coarse)); }
TEST_CASE("fused_conv_backward_weight: every row, values with all their bits") {
    check_table(fused_weight_test(Values::random));
}

TEST_CASE("fused_conv: tensor cores where a block takes more than one tile") {
    // A tile an image. On a device enough of them for every ring of stages to come round, whole tiles and halved ones.
    const auto layer = [](std::int64_t n, std::int64_t first, std::int64_t second, std::int64_t c_out) {
        FusedConvParams p;
        p.conv = {n, {2, 1, 1, 1}, first + second, c_out, 3};
        p.parts[0] = {first, first / 8, 0.25, Resampling::none};
        if (second > 0) p.parts[1] = {second, second / 8, 0.25, Resampling::none};
        p.groups = c_out / 8;
        return p;
    };
    if (devices().empty()) skip("no device of those that this run is narrowed to is here");
    // One part pooled, the other up-sampled.
    const auto resampled = [&](std::int64_t n) {
        FusedConvParams p = layer(n, 8, 8, 8);
        p.conv.grid = {2, 1, 2, 2};
        p.parts[0].resampling = Resampling::max_pool;
        p.parts[1].resampling = Resampling::upsample;
        return p;
    };
    const auto check = [&](const auto& test) {
        for (const auto& row : test.table) {
            if (row.device == Device::cpu || !is_tested(row.device)) continue;
            // Rung 3 gives a block one tile. 1584 tiles give one of rung 5 two, and three to a slice of a weight
            // gradient.
            const std::string_view name = row.name;
            if (name == "cuda_3_register") continue;
            std::vector<FusedConvParams> layers{name == "cuda_6_wgmma" ? layer(1584, 32, 0, 32) : resampled(1584)};
            if (row.device == Device::cuda)
                layers = {layer(6400, 32, 0, 32),  layer(6400, 64, 0, 64),   layer(6400, 32, 0, 64),
                          layer(6400, 64, 0, 128), layer(6400, 64, 128, 64), layer(6400, 32, 64, 32),
                          layer(6400, 64, 0, 32),  resampled(6400)};
            for (const FusedConvParams& p : layers)
                if (row.can_run(p, *row_stream(row, p)->facts)) {
                    const std::string sentence = check_row(test, row, p);
                    CHECK_MESSAGE(sentence == "", test.op, ":", row.name, " ", describe_fused(p), ": ", sentence);
                }
        }
    };
    check(fused_conv_test(Values::coarse));
    check(fused_weight_test(Values::coarse));
}

TEST_CASE("fused_conv: by hand") {
    // x = -2, 4 has mean 1 and deviation 3: xhat -1, 1; times 2 plus 1: -1, 3; LeakyReLU 0.25: -0.25, 3. Pooled over
    // a row of two and two rows: 3. Kernel 1: 3 * 10 + 5.
    FusedConvParams p;
    p.conv = {1, {2, 1, 1, 1}, 1, 1, 1};
    p.parts[0] = {1, 1, 0.25, Resampling::max_pool};
    const Tensor x = tensor_of({-2, 4, -2, 4}), mean = tensor_of({1}), rstd = tensor_of({1.0 / 3}),
                 gamma = tensor_of({2}), beta = tensor_of({1}), weight = tensor_of({10}), bias = tensor_of({5});
    Tensor y = Tensor::empty({1}, DType::float64);
    const PendingInput input{{Pending{x.view(), mean.view(), rstd.view(), gamma.view(), beta.view()}, Pending{}}};
    fused_conv(y.view(), {}, {}, input, weight.view(), bias.view(), p, cpu_stream());
    CHECK(std::abs(values_of(y)[0] - 35) <= 1e-12);
}

TEST_CASE("fused_conv: parameters are validated") {
    const int internal = static_cast<int>(ErrorKind::internal);
    FusedConvParams p;
    p.conv = {1, {2, 1, 4, 4}, 24, 8, 3};
    p.parts[0] = {8, 1, 0.2, Resampling::none};
    p.parts[1] = {16, 2, 0.2, Resampling::upsample};
    p.groups = 1;
    CHECK(kind_of(p) == 0);
    const auto without = [&](auto&& change) {
        FusedConvParams other = p;
        change(other);
        return kind_of(other);
    };
    CHECK(without([](auto& o) { o.parts[1].channels = 8; }) == internal);
    CHECK(without([](auto& o) { o.parts[0].channels = 0; }) == internal);
    CHECK(without([](auto& o) { o.parts[0].groups = 3; }) == internal);
    CHECK(without([](auto& o) { o.parts[0].slope = 2; }) == internal);
    CHECK(without([](auto& o) { o.conv.grid.w = 5; }) == internal);
    CHECK(without([](auto& o) { o.groups = 3; }) == internal);
    CHECK(without([](auto& o) { o.conv.kernel = 2; }) == internal);
}

TEST_CASE("fused_conv: statistics are of what is stored, far from zero too") {
    FusedConvParams p;
    p.conv = {2, {2, 1, 18, 20}, 8, 24, 3};
    p.parts[0] = {8, 1, 0.2, Resampling::none};
    p.groups = 3;
    const Operands operands = pending_operands(p, Values::random);
    const std::int64_t count = p.conv.n * p.groups, width = p.conv.c_out / p.groups, pixels = p.conv.grid.pixels();
    for (const FusedConvVariant& row : fused_conv_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        std::vector<Tensor> values;
        for (const Operand& operand : operands) values.push_back(operand.values.converted(operand.type(row.dtype)));
        std::vector<ConstView> in;
        for (const Tensor& t : values) in.push_back(t.const_view());
        std::size_t at = 0;
        const PendingInput input = pending_input(p, in, at);
        const DType type = real_type(row.dtype);
        const Tensor weight = random_tensor({p.conv.weight_count()}, DType::float64, 51, -0.1, 0.1).converted(type),
                     bias = random_tensor({p.conv.c_out}, DType::float64, 52, 99, 101).converted(type);
        Tensor y = Tensor::empty({p.conv.y_count()}, row.dtype), mean = Tensor::empty({count}, type),
               rstd = Tensor::empty({count}, type);
        row.run(y.view(), mean.view(), rstd.view(), input, weight.view(), bias.view(), p, *device_stream(row.device));
        const std::vector<double> stored = values_of(y.converted(DType::float64)),
                                  means = values_of(mean.converted(DType::float64)),
                                  rstds = values_of(rstd.converted(DType::float64));
        for (std::int64_t i = 0; i < count; ++i) {
            const auto mean_of = [&](const auto& term) {
                double sum = 0;
                for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
                    for (std::int64_t c = 0; c < width; ++c)
                        sum += term(stored[static_cast<std::size_t>((i / p.groups * pixels + pixel) * p.conv.c_out +
                                                                    i % p.groups * width + c)]);
                return sum / static_cast<double>(pixels * width);
            };
            const double centre = mean_of([](double value) { return value; }),
                         variance = mean_of([&](double value) { return (value - centre) * (value - centre); });
            const auto place = static_cast<std::size_t>(i);
            CHECK_MESSAGE(std::abs(means[place] - centre) <= 1e-5, row.name, ", group ", i, ": mean ", means[place],
                          ", expected ", centre);
            const double expected = 1 / std::sqrt(variance + p.epsilon);
            CHECK_MESSAGE(std::abs(rstds[place] - expected) <= 1e-4 * expected, row.name, ", group ", i, ": rstd ",
                          rstds[place], ", expected ", expected);
        }
    }
}

TEST_CASE("fused_conv: who names a plain row gets plain convolutions") {
    FusedConvParams p;
    p.conv = {1, {2, 1, 4, 4}, 8, 8, 3};
    p.parts[0] = {8, 1, 0.2, Resampling::none};
    Stream stream = cpu_stream();
    CHECK(can_fuse_conv(p, DType::float64, stream));
    CHECK(fuses_convs(DType::float64, stream));
    KernelSelection both{{{"conv", "ref"}, {"fused_conv", "ref"}}}, missing{{{"fused_conv", "cuda_6_wgmma"}}};
    for (const char* op : {"conv", "conv_backward_weight", "group_norm", "max_pool", "upsample", "concat", "split"}) {
        KernelSelection plain{{{op, "ref"}}};
        stream.selection = &plain;
        CHECK_MESSAGE(!can_fuse_conv(p, DType::float64, stream), op);
    }
    KernelSelection other{{{"warp", "ref"}}};
    stream.selection = &other;
    CHECK(can_fuse_conv(p, DType::float64, stream));
    stream.selection = &both;
    CHECK(can_fuse_conv(p, DType::float64, stream));
    const auto refused = [&] {
        try {
            fuses_convs(DType::float64, stream);
        } catch (const Error& error) {
            return error.kind() == ErrorKind::configuration;
        }
        return false;
    };
    stream.selection = &missing;
    CHECK(refused());
    KernelSelection missing_gradient{{{"fused_conv_backward_data", "cuda_tf32"}}};
    stream.selection = &missing_gradient;
    CHECK(refused());
    stream.selection = &both;
    stream.fuse = false;
    CHECK(refused());
    stream.selection = nullptr;
    CHECK(!fuses_convs(DType::float64, stream));
}

}  // namespace cover::test
