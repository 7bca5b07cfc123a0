#include "tests/op_conv.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("conv"), RegisteredTable("conv_backward_data"),
                                      RegisteredTable("conv_backward_weight")};

std::vector<ConvParams> conv_cases() {
    constexpr std::array<std::array<std::int64_t, 2>, 16> channels = {{{1, 8},
                                                                       {3, 8},
                                                                       {8, 8},
                                                                       {8, 16},
                                                                       {16, 24},
                                                                       {24, 32},
                                                                       {32, 40},
                                                                       {40, 8},
                                                                       {16, 32},
                                                                       {1, 32},
                                                                       {3, 16},
                                                                       {40, 40},
                                                                       {8, 15},
                                                                       {16, 4},
                                                                       {24, 1},
                                                                       {2, 3}}};
    std::vector<ConvParams> cases;
    std::int64_t n = 0;
    for (const Grid& grid : grids())
        for (const auto& [c_in, c_out] : channels)
            for (const int kernel : {1, 3}) cases.push_back({1 + n++ % 3, grid, c_in, c_out, kernel});
    // Multiples of 32 and 64, which matrix kernels ask for, at the edges of their tiles of 8 x 8 and 16 x 8 pixels.
    constexpr std::array<std::array<std::int64_t, 2>, 11> wide = {{{32, 32},
                                                                   {32, 64},
                                                                   {64, 32},
                                                                   {64, 64},
                                                                   {96, 32},
                                                                   {32, 96},
                                                                   {192, 64},
                                                                   {64, 128},
                                                                   {128, 128},
                                                                   {128, 64},
                                                                   {128, 256}}};
    for (const Grid& grid : {Grid{2, 1, 1, 1}, Grid{2, 1, 7, 8}, Grid{2, 1, 8, 9}, Grid{2, 1, 17, 23}, Grid{3, 3, 5, 9},
                             Grid{3, 2, 16, 8}})
        for (const auto& [c_in, c_out] : wide) cases.push_back({1 + n++ % 3, grid, c_in, c_out, 3});
    // Beyond one tile in every direction.
    cases.push_back({1, {2, 1, 37, 70}, 40, 72, 3});
    cases.push_back({2, {2, 1, 16, 16}, 136, 136, 3});
    cases.push_back({1, {2, 1, 4, 4}, 264, 520, 3});
    cases.push_back({1, {3, 9, 10, 33}, 24, 40, 3});
    cases.push_back({2, {3, 8, 8, 8}, 72, 64, 3});
    cases.push_back({1, {2, 1, 33, 65}, 520, 32, 1});
    return cases;
}

std::string describe_conv(const ConvParams& p) {
    return text(describe(p.n, p.grid), ", ", p.c_in, " -> ", p.c_out, " channels, kernel ", p.kernel);
}

// Size of a sum of `terms` products of two numbers in [-1, 1).
double sum_size(double terms) { return std::max(1.0, std::sqrt(terms)); }

}  // namespace

RowTest<ConvParams, ConvRun> conv_test() {
    return {"conv",
            conv_table(),
            conv_cases(),
            [](const ConvParams& p) -> Operands {
                return {random_tensor({p.x_count()}, DType::float64, 1),
                        weights(random_tensor({p.weight_count()}, DType::float64, 2)),
                        real(random_tensor({p.c_out}, DType::float64, 3))};
            },
            [](const ConvParams& p) -> std::vector<OutputSpec> {
                const double terms = static_cast<double>(p.taps() * p.c_in);
                return {{"y", p.y_count(), terms, sum_size(terms)}};
            },
            [](ConvRun* run, Outputs out, Inputs in, const ConvParams& p, Stream& stream) {
                run(out[0], in[0], in[1], in[2], p, stream);
            },
            describe_conv};
}

RowTest<ConvParams, ConvBackwardDataRun> conv_backward_data_test() {
    return {"conv_backward_data",
            conv_backward_data_table(),
            conv_cases(),
            [](const ConvParams& p) -> Operands {
                return {random_tensor({p.y_count()}, DType::float64, 4),
                        weights(random_tensor({p.weight_count()}, DType::float64, 5))};
            },
            [](const ConvParams& p) -> std::vector<OutputSpec> {
                const double terms = static_cast<double>(p.taps() * p.c_out);
                return {{"dx", p.x_count(), terms, sum_size(terms)}};
            },
            [](ConvBackwardDataRun* run, Outputs out, Inputs in, const ConvParams& p, Stream& stream) {
                run(out[0], in[0], in[1], p, stream);
            },
            describe_conv};
}

RowTest<ConvParams, ConvBackwardWeightRun> conv_backward_weight_test() {
    return {
        "conv_backward_weight",
        conv_backward_weight_table(),
        conv_cases(),
        [](const ConvParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.y_count()}, DType::float64, 6), random_tensor({p.x_count()}, DType::float64, 7)};
        },
        [](const ConvParams& p) -> std::vector<OutputSpec> {
            const double terms = static_cast<double>(p.n * p.grid.pixels());
            return {{.name = "dweight",
                     .count = p.weight_count(),
                     .terms = terms,
                     .scale = sum_size(terms),
                     .start = Start::random,
                     .type = real_type},
                    {.name = "dbias",
                     .count = p.c_out,
                     .terms = terms,
                     .scale = sum_size(terms),
                     .start = Start::random,
                     .type = real_type}};
        },
        [](ConvBackwardWeightRun* run, Outputs out, Inputs in, const ConvParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], p, stream);
        },
        describe_conv};
}

TEST_CASE("conv: every row") { check_table(conv_test()); }
TEST_CASE("conv_backward_data: every row") { check_table(conv_backward_data_test()); }
TEST_CASE("conv_backward_weight: every row") { check_table(conv_backward_weight_test()); }

// check_table() samples its cases on the emulated device; these meet every kernel of a rung there: pixels one below,
// at and one above a tile's sides, channels in whole and broken chunks, weights that stay and weights that travel. Each
// row of the name has to take `least` of them.
const std::vector<ConvParams> broken_tiles = {{1, {2, 1, 17, 15}, 40, 32, 3}, {1, {2, 1, 16, 16}, 80, 64, 3},
                                              {1, {2, 1, 23, 9}, 16, 40, 3},  {2, {3, 3, 9, 17}, 8, 24, 3},
                                              {1, {2, 1, 7, 31}, 24, 72, 1},  {2, {2, 1, 9, 33}, 1, 40, 3},
                                              {1, {3, 2, 8, 5}, 1, 8, 3}};
template <class Run>
void check_rung(const RowTest<ConvParams, Run>& test, const std::string& name,
                const std::vector<ConvParams>& cases = broken_tiles, std::size_t least = 5) {
    for (const auto& row : test.table) {
        if (row.name != name || !is_tested(row.device)) continue;
        std::size_t checked = 0;
        for (const ConvParams& params : cases) {
            if (!row.can_run(params, *row_stream(row, params)->facts)) continue;
            ++checked;
            const std::string sentence = check_row(test, row, params);
            CHECK_MESSAGE(sentence.empty(), test.op, ":", row.name, " ", describe_conv(params), ": ", sentence);
        }
        CHECK_MESSAGE(checked >= least, test.op, ":", row.name);
    }
}

TEST_CASE("conv: rungs 1 to 3 of CUDA at the edges of their tiles") {
    for (const char* name : {"cuda_1_naive", "cuda_2_shared", "cuda_3_register"}) {
        check_rung(conv_test(), name);
        check_rung(conv_backward_data_test(), name);
        check_rung(conv_backward_weight_test(), name);
    }
    check_rung(conv_test(), "cuda_3_one_channel", broken_tiles, 2);
    check_rung(conv_backward_weight_test(), "cuda_3_one_channel", broken_tiles, 2);
}

TEST_CASE("conv: rungs 4 and 5 of CUDA at the edges of their tiles") {
    for (const char* name : {"cuda_4_tensor", "cuda_5_tf32", "cuda_5_ldmatrix"}) {
        check_rung(conv_test(), name);
        check_rung(conv_backward_data_test(), name);
        check_rung(conv_backward_weight_test(), name);
    }
}

// Each kernel of the rung, most with so many tiles to a block of the emulation that it meets each stage again.
TEST_CASE("conv: rung 6 of CUDA at the edges of its tiles") {
    const std::vector<ConvParams> cases = {
        {3, {2, 1, 33, 41}, 32, 32, 3}, {2, {2, 1, 33, 41}, 32, 64, 3},  {2, {2, 1, 24, 40}, 64, 64, 3},
        {1, {2, 1, 17, 23}, 64, 32, 3}, {1, {2, 1, 17, 23}, 96, 32, 3},  {1, {3, 3, 9, 17}, 96, 32, 3},
        {1, {2, 1, 17, 23}, 32, 96, 3}, {1, {2, 1, 17, 31}, 64, 128, 3}, {1, {3, 2, 9, 9}, 128, 64, 3}};
    check_rung(conv_test(), "cuda_6_wgmma", cases);
    check_rung(conv_backward_data_test(), "cuda_6_wgmma", cases);
    check_rung(conv_backward_weight_test(), "cuda_6_wgmma", cases);
}

TEST_CASE("conv: rung 5 of CUDA where a block takes more than one tile") {
    const RowTest<ConvParams, ConvRun> test = conv_test();
    const ConvParams params{1584, {2, 1, 1, 1}, 8, 8, 3};  // a tile an image
    if (devices().empty()) skip("no device of those that this run is narrowed to is here");
    for (const auto& row : test.table)
        if (std::string(row.name).starts_with("cuda_5") && is_tested(row.device) && row.device != Device::cpu)
            CHECK_MESSAGE(check_row(test, row, params) == "", row.name);
}

TEST_CASE("conv: the formula, written as it stands in the specification") {
    for (const Grid& grid : {Grid{2, 1, 4, 5}, Grid{3, 3, 2, 4}}) {
        const ConvParams p{2, grid, 3, 2, 3};
        const Tensor x = random_tensor({p.x_count()}, DType::float64, 1), bias = random_tensor({2}, DType::float64, 3),
                     weight = random_tensor({p.weight_count()}, DType::float64, 2);
        Tensor y = Tensor::empty({p.y_count()}, DType::float64);
        conv(y.view(), x.view(), weight.view(), bias.view(), p, cpu_stream());
        double worst = 0;
        const int depth = grid.spatial_dims == 3 ? 3 : 1;
        for (std::int64_t n = 0; n < p.n; ++n)
            for (std::int64_t d = 0; d < grid.d; ++d)
                for (std::int64_t h = 0; h < grid.h; ++h)
                    for (std::int64_t w = 0; w < grid.w; ++w)
                        for (std::int64_t o = 0; o < 2; ++o) {
                            double sum = bias.data<double>()[o];
                            for (int a = 0; a < depth; ++a)
                                for (int b = 0; b < 3; ++b)
                                    for (int c = 0; c < 3; ++c)
                                        for (std::int64_t i = 0; i < 3; ++i) {
                                            const std::int64_t xd = d + a - depth / 2, xh = h + b - 1, xw = w + c - 1;
                                            if (xd < 0 || xh < 0 || xw < 0 || xd >= grid.d || xh >= grid.h ||
                                                xw >= grid.w)
                                                continue;
                                            sum +=
                                                x.data<double>()[(((n * grid.d + xd) * grid.h + xh) * grid.w + xw) * 3 +
                                                                 i] *
                                                weight.data<double>()[(((a * 3 + b) * 3 + c) * 3 + i) * 2 + o];
                                        }
                            worst = std::max(
                                worst,
                                std::abs(sum -
                                         y.data<double>()[(((n * grid.d + d) * grid.h + h) * grid.w + w) * 2 + o]));
                        }
        CHECK(worst <= 1e-13);
    }
}

TEST_CASE("conv: a single tap shifts the picture and brings in zeros") {
    // x = 1..6 on a 2 x 3 grid; the weight is 1 at tap (0, 2): up one row, right one column.
    const ConvParams p{1, {2, 1, 2, 3}, 1, 1, 3};
    Tensor weight = Tensor::zeros({9}, DType::float64), bias = tensor_of({10}), y = Tensor::empty({6}, DType::float64);
    weight.data<double>()[2] = 1;
    conv(y.view(), tensor_of({1, 2, 3, 4, 5, 6}).view(), weight.view(), bias.view(), p, cpu_stream());
    CHECK(values_of(y) == std::vector<double>{10, 10, 10, 12, 13, 10});
}

TEST_CASE("conv_backward_weight: every row adds to what is there") {
    // One pixel: only the middle tap sees it. 5 + 2 * 3, and 1 + 3 for the bias.
    const ConvParams p{1, {2, 1, 1, 1}, 1, 8, 3};
    for (const auto& row : conv_backward_weight_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        Tensor dweight = Tensor::empty({72}, real_type(row.dtype)), dbias = Tensor::empty({8}, real_type(row.dtype)),
               dy = Tensor::empty({8}, row.dtype), x = Tensor::empty({1}, row.dtype);
        dweight.fill(5);
        dbias.fill(1);
        dy.fill(3);
        x.fill(2);
        row.run(dweight.view(), dbias.view(), dy.view(), x.view(), p, cpu_stream());
        for (std::int64_t i = 0; i < 72; ++i)
            REQUIRE_MESSAGE(element(dweight.view(), i) == (i / 8 == 4 ? 11 : 5), row.name);
        CHECK_MESSAGE(values_of(dbias) == std::vector<double>(8, 4.0), row.name);
    }
}

TEST_CASE("conv: the backward passes are the derivatives") {
    for (const ConvParams& p : {ConvParams{2, {2, 1, 4, 3}, 3, 5, 3}, ConvParams{1, {3, 3, 2, 4}, 2, 3, 3},
                                ConvParams{2, {3, 2, 2, 2}, 4, 3, 1}}) {
        const Tensor x = random_tensor({p.x_count()}, DType::float64, 1),
                     weight = random_tensor({p.weight_count()}, DType::float64, 2),
                     bias = random_tensor({p.c_out}, DType::float64, 3),
                     dy = random_tensor({p.y_count()}, DType::float64, 4);
        Tensor dx = Tensor::empty({p.x_count()}, DType::float64),
               dweight = Tensor::zeros({p.weight_count()}, DType::float64),
               dbias = Tensor::zeros({p.c_out}, DType::float64);
        conv_backward_data(dx.view(), dy.view(), weight.view(), p, cpu_stream());
        conv_backward_weight(dweight.view(), dbias.view(), dy.view(), x.view(), p, cpu_stream());
        CHECK(check_gradient(
                  [&](const std::vector<Tensor>& at) {
                      Tensor y = Tensor::empty({p.y_count()}, DType::float64);
                      conv(y.view(), at[0].const_view(), at[1].const_view(), at[2].const_view(), p, cpu_stream());
                      return dot(y, dy);
                  },
                  {x, weight, bias}, {dx, dweight, dbias}) == "");
    }
}

TEST_CASE("conv: parameters are validated") {
    const auto kind_of = [](const ConvParams& p) {
        try {
            validate(p);
        } catch (const Error& error) {
            return static_cast<int>(error.kind());
        }
        return 0;
    };
    const int internal = static_cast<int>(ErrorKind::internal);
    CHECK(kind_of({1, {2, 1, 4, 4}, 8, 8, 3}) == 0);
    CHECK(kind_of({1, {3, 1, 4, 4}, 8, 8, 1}) == 0);
    CHECK(kind_of({0, {2, 1, 4, 4}, 8, 8, 3}) == internal);
    CHECK(kind_of({1, {2, 2, 4, 4}, 8, 8, 3}) == internal);
    CHECK(kind_of({1, {4, 1, 4, 4}, 8, 8, 3}) == internal);
    CHECK(kind_of({1, {2, 1, 0, 4}, 8, 8, 3}) == internal);
    CHECK(kind_of({1, {2, 1, 4, 4}, 0, 8, 3}) == internal);
    CHECK(kind_of({1, {2, 1, 4, 4}, 8, 0, 3}) == internal);
    CHECK(kind_of({1, {2, 1, 4, 4}, 8, 8, 2}) == internal);
}

}  // namespace cover::test
