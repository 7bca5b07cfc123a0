#include <cmath>

#include "kernels/pool.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("max_pool"), RegisteredTable("max_pool_backward")};

std::vector<MaxPoolParams> pool_cases() {
    std::vector<MaxPoolParams> cases;
    std::int64_t n = 0;
    for (const Grid& grid : even_grids())
        for (const std::int64_t channels : {1, 3, 8, 16, 24, 32, 40}) cases.push_back({1 + n++ % 3, grid, channels});
    return cases;
}

// In steps of a quarter: every other window has a tie.
Tensor coarse_tensor(std::int64_t count, std::uint32_t stream) {
    Tensor t = random_tensor({count}, DType::float64, stream);
    for (std::int64_t i = 0; i < count; ++i) t.data<double>()[i] = std::round(4 * t.data<double>()[i]) / 4;
    return t;
}

std::string describe_pool(const MaxPoolParams& p) { return text(describe(p.n, p.grid), ", ", p.channels, " channels"); }

}  // namespace

TEST_CASE("max_pool: every row") {
    check_table(RowTest<MaxPoolParams, MaxPoolRun>{
        "max_pool", max_pool_table(), pool_cases(),
        [](const MaxPoolParams& p) -> std::vector<Tensor> { return {coarse_tensor(p.x_count(), 1)}; },
        [](const MaxPoolParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .exact = true}};
        },
        [](MaxPoolRun* run, Outputs out, Inputs in, const MaxPoolParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_pool});
}

TEST_CASE("max_pool_backward: every row") {
    check_table(RowTest<MaxPoolParams, MaxPoolBackwardRun>{
        "max_pool_backward", max_pool_backward_table(), pool_cases(),
        [](const MaxPoolParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.y_count()}, DType::float64, 2), coarse_tensor(p.x_count(), 1)};
        },
        [](const MaxPoolParams& p) -> std::vector<OutputSpec> {
            return {{.name = "dx", .count = p.x_count(), .exact = true}};
        },
        [](MaxPoolBackwardRun* run, Outputs out, Inputs in, const MaxPoolParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_pool});
}

TEST_CASE("max_pool: a tie goes to the first pixel in memory order") {
    // Each window is one of the 11 ways in which some of four pixels hold the maximum 5; all rows must agree.
    for (int winners = 1; winners < 16; ++winners) {
        const MaxPoolParams p{1, {2, 1, 2, 2}, 8};
        std::vector<double> x(32), expected(32, 0.0);
        bool first = true;
        for (std::size_t pixel = 0; pixel < 4; ++pixel)
            for (std::size_t c = 0; c < 8; ++c) {
                const bool wins = (winners >> pixel) & 1;
                x[pixel * 8 + c] = wins ? 5 : -1;
                if (wins && first) expected[pixel * 8 + c] = static_cast<double>(c + 1);
                if (wins && c == 7) first = false;
            }
        for (const auto& row : max_pool_backward_table()) {
            if (!runs_on_host_memory(row, p)) continue;
            Tensor dx = Tensor::empty({32}, row.dtype);
            const Tensor dy = tensor_of({1, 2, 3, 4, 5, 6, 7, 8}).converted(row.dtype),
                         typed_x = tensor_of(x).converted(row.dtype);
            row.run(dx.view(), dy.view(), typed_x.view(), p, cpu_stream());
            CHECK_MESSAGE(values_of(dx) == expected, row.name);
        }
    }
}

TEST_CASE("max_pool: 2 x 2 and 2 x 2 x 2 windows") {
    Tensor y = Tensor::empty({2}, DType::float64);
    max_pool(y.view(), tensor_of({1, 2, 7, 4, 3, 9, 5, 6}).view(), {1, {2, 1, 2, 4}, 1}, cpu_stream());
    CHECK(values_of(y) == std::vector<double>{9, 7});
    Tensor one = Tensor::empty({1}, DType::float64);
    max_pool(one.view(), tensor_of({-1, -2, -7, -4, -3, -9, -0.5, -6}).view(), {1, {3, 2, 2, 2}, 1}, cpu_stream());
    CHECK(values_of(one) == std::vector<double>{-0.5});
}

TEST_CASE("max_pool: odd sides are refused, a flat 2D depth is not") {
    CHECK_NOTHROW(validate(MaxPoolParams{1, {2, 1, 2, 4}, 8}));
    CHECK_THROWS_AS(validate(MaxPoolParams{1, {2, 1, 3, 4}, 8}), Error);
    CHECK_THROWS_AS(validate(MaxPoolParams{1, {2, 1, 4, 5}, 8}), Error);
    CHECK_THROWS_AS(validate(MaxPoolParams{1, {3, 1, 4, 4}, 8}), Error);
    CHECK_THROWS_AS(validate(MaxPoolParams{1, {2, 1, 4, 4}, 0}), Error);
}

}  // namespace cover::test
