#include <cmath>

#include "kernels/resize.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("upsample"), RegisteredTable("upsample_backward")};

std::vector<UpsampleParams> upsample_cases() {
    std::vector<UpsampleParams> cases;
    std::int64_t n = 0;
    for (const Grid& grid : grids())
        for (const std::int64_t channels : {1, 2, 3, 8, 16, 24, 32, 40}) {
            cases.push_back({1 + n++ % 3, grid, channels, false, 1.0});
            cases.push_back({1 + n++ % 3, grid, channels, true, 2.0});
        }
    return cases;
}

std::string describe_upsample(const UpsampleParams& p) {
    return text(describe(p.n, p.grid), ", ", p.channels, " channels, align_corners ", p.align_corners, ", gain ",
                p.gain);
}

Tensor upsampled(const Tensor& x, const UpsampleParams& p) {
    Tensor y = Tensor::empty({p.y_count()}, x.dtype());
    upsample(y.view(), x.view(), p, cpu_stream());
    return y;
}

}  // namespace

TEST_CASE("upsample: every row") {
    check_table(RowTest<UpsampleParams, UpsampleRun>{
        "upsample", upsample_table(), upsample_cases(),
        [](const UpsampleParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.x_count()}, DType::float64, 1)};
        },
        [](const UpsampleParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.y_count(), .terms = 8, .scale = 2 * p.gain}};
        },
        [](UpsampleRun* run, Outputs out, Inputs in, const UpsampleParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_upsample});
}

TEST_CASE("upsample_backward: every row") {
    check_table(RowTest<UpsampleParams, UpsampleBackwardRun>{
        "upsample_backward", upsample_backward_table(), upsample_cases(),
        [](const UpsampleParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.y_count()}, DType::float64, 1)};
        },
        [](const UpsampleParams& p) -> std::vector<OutputSpec> {
            return {{.name = "dx",
                     .count = p.x_count(),
                     .terms = p.grid.spatial_dims == 2 ? 16.0 : 64.0,
                     .scale = 2 * p.gain}};
        },
        [](UpsampleBackwardRun* run, Outputs out, Inputs in, const UpsampleParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_upsample});
}

TEST_CASE("upsample: half-pixel centres by hand") {
    // Positions 0, 0.25, 0.75, 1.25, 1.75 and 2.25, the last with its neighbour clamped.
    const Tensor y = upsampled(tensor_of({0, 4, 12}), {1, {2, 1, 1, 3}, 1, false, 1.0});
    CHECK(values_of(y) == std::vector<double>{0, 1, 3, 6, 10, 12, 0, 1, 3, 6, 10, 12});
}

TEST_CASE("upsample: aligned corners by hand") {
    // Positions 0, 0.4, 0.8, 1.2, 1.6 and 2; times the gain of 2.
    const Tensor y = upsampled(tensor_of({0, 10, 30}), {1, {2, 1, 1, 3}, 1, true, 2.0});
    const std::vector<double> row = {0, 8, 16, 28, 44, 60};
    for (std::size_t i = 0; i < 12; ++i) CHECK(values_of(y)[i] == doctest::Approx(row[i % 6]).epsilon(1e-15));
}

TEST_CASE("upsample: an axis of one pixel is repeated") {
    for (const bool align_corners : {false, true}) {
        CHECK(values_of(upsampled(tensor_of({3, -5}), {1, {2, 1, 1, 1}, 2, align_corners, 1.0})) ==
              std::vector<double>{3, -5, 3, -5, 3, -5, 3, -5});
        CHECK(values_of(upsampled(tensor_of({3}), {1, {3, 1, 1, 1}, 1, align_corners, 2.0})) ==
              std::vector<double>(8, 6.0));
    }
}

TEST_CASE("upsample: a linear ramp stays linear") {
    // align_corners = true maps the ends onto the ends, so that a ramp 0..L-1 becomes a ramp of 2L values to L-1.
    const std::int64_t side = 5;
    const UpsampleParams p{1, {3, side, side, side}, 3, true, 1.0};
    Tensor x = Tensor::empty({p.x_count()}, DType::float64);
    for (std::int64_t i = 0; i < side * side * side; ++i) {
        x.data<double>()[3 * i] = static_cast<double>(i / (side * side));
        x.data<double>()[3 * i + 1] = static_cast<double>(i / side % side);
        x.data<double>()[3 * i + 2] = static_cast<double>(i % side);
    }
    const Tensor y = upsampled(x, p);
    double worst = 0;
    for (std::int64_t i = 0; i < p.y_count() / 3; ++i) {
        const std::int64_t at[] = {i / (4 * side * side), i / (2 * side) % (2 * side), i % (2 * side)};
        for (std::int64_t axis = 0; axis < 3; ++axis)
            worst = std::max(worst, std::abs(y.data<double>()[3 * i + axis] -
                                             static_cast<double>(at[axis]) * (side - 1) / (2 * side - 1)));
    }
    CHECK(worst <= 1e-14);
}

TEST_CASE("upsample: the backward pass is the derivative") {
    for (const bool align_corners : {false, true})
        for (const Grid& grid : {Grid{2, 1, 3, 4}, Grid{3, 2, 1, 3}}) {
            const UpsampleParams p{2, grid, 3, align_corners, 2.0};
            const Tensor x = random_tensor({p.x_count()}, DType::float64, 1),
                         dy = random_tensor({p.y_count()}, DType::float64, 2);
            Tensor dx = Tensor::empty({p.x_count()}, DType::float64);
            upsample_backward(dx.view(), dy.view(), p, cpu_stream());
            CHECK(check_gradient([&](const std::vector<Tensor>& at) { return dot(upsampled(at[0], p), dy); }, {x},
                                 {dx}) == "");
        }
}

}  // namespace cover::test
