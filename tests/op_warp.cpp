#include <algorithm>
#include <cmath>

#include "kernels/warp.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("warp"), RegisteredTable("warp_backward")};

std::vector<WarpParams> warp_cases() {
    std::vector<WarpParams> cases;
    std::int64_t n = 0;
    for (const Grid& grid : grids())
        for (const std::int64_t channels : {1, 2, 3, 8, 16, 24, 32, 40}) {
            cases.push_back({1 + n++ % 3, grid, channels, WarpConvention::exact});
            cases.push_back({1 + n++ % 3, grid, channels, WarpConvention::reference});
        }
    cases.push_back({2, {2, 1, 40, 70}, 8, WarpConvention::exact});
    cases.push_back({2, {3, 9, 10, 33}, 16, WarpConvention::reference});
    return cases;
}

std::int64_t side_of(const Grid& grid, int axis) {
    const std::int64_t sides[] = {grid.d, grid.h, grid.w};
    return sides[axis + 3 - grid.spatial_dims];
}

// The source coordinate that the specification names (section 5).
double source_coordinate(double position, std::int64_t side, WarpConvention convention) {
    if (convention == WarpConvention::exact) return position;
    return side == 1 ? position - 0.5 : position * static_cast<double>(side) / static_cast<double>(side - 1) - 0.5;
}

std::int64_t coordinate_of(const Grid& grid, std::int64_t pixel, int axis) {
    const std::int64_t at[] = {pixel / (grid.h * grid.w), pixel / grid.w % grid.h, pixel % grid.w};
    return at[axis + 3 - grid.spatial_dims];
}

// Displacements of up to three pixels, many of them to the outside, none to a place where rounding decides between two
// cells (there the gradient jumps).
Tensor safe_field(const WarpParams& p) {
    Tensor field = random_tensor({p.field_count()}, DType::float64, 2, -3, 3);
    const int nd = p.grid.spatial_dims;
    for (std::int64_t i = 0; i < p.field_count(); ++i) {
        const int axis = static_cast<int>(i % nd);
        const std::int64_t pixel = i / nd % p.grid.pixels();
        double& value = field.data<double>()[i];
        const auto distance = [&] {
            const double at = source_coordinate(static_cast<double>(coordinate_of(p.grid, pixel, axis)) + value,
                                                side_of(p.grid, axis), p.convention);
            return std::abs(at - std::round(at));
        };
        while (distance() < 0.01) value += 0.015625;
    }
    return field;
}

std::string describe_warp(const WarpParams& p) {
    return text(describe(p.n, p.grid), ", ", p.channels, " channels, ",
                p.convention == WarpConvention::exact ? "exact" : "reference");
}

// A coordinate of size S is rounded to S * eps: so is each weight.
double coordinate_size(const WarpParams& p) {
    return 4 + static_cast<double>(std::max({p.grid.d, p.grid.h, p.grid.w}));
}

double corners(const WarpParams& p) { return p.grid.spatial_dims == 2 ? 4 : 8; }

OutputSpec spec(const char* name, std::int64_t count, const WarpParams& p, double more_terms, double size,
                TypeOf* type = activation_type) {
    const double blur = coordinate_size(p);
    return {.name = name,
            .count = count,
            .terms = corners(p) * more_terms * blur * blur,
            .scale = size,
            .type = type,
            .products = corners(p) * more_terms};
}

Tensor warped(const Tensor& source, const Tensor& field, const WarpParams& p) {
    Tensor y = Tensor::empty({p.source_count()}, source.dtype());
    warp(y.view(), source.view(), field.view(), p, cpu_stream());
    return y;
}

RowTest<WarpParams, WarpBackwardRun> warp_backward_test() {
    return {"warp_backward",
            warp_backward_table(),
            warp_cases(),
            [](const WarpParams& p) -> Operands {
                return {random_tensor({p.source_count()}, DType::float64, 3),
                        random_tensor({p.source_count()}, DType::float64, 1), real(safe_field(p))};
            },
            [](const WarpParams& p) -> std::vector<OutputSpec> {
                return {spec("dsource", p.source_count(), p, 4, 1),
                        spec("dfield", p.field_count(), p, static_cast<double>(p.channels),
                             std::sqrt(static_cast<double>(p.channels)), real_type)};
            },
            [](WarpBackwardRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
                run(out[0], out[1], in[0], in[1], in[2], p, stream);
            },
            describe_warp};
}

}  // namespace

TEST_CASE("warp: every row") {
    check_table(RowTest<WarpParams, WarpRun>{
        "warp", warp_table(), warp_cases(),
        [](const WarpParams& p) -> Operands {
            return {random_tensor({p.source_count()}, DType::float64, 1), real(safe_field(p))};
        },
        [](const WarpParams& p) -> std::vector<OutputSpec> { return {spec("y", p.source_count(), p, 1, 1)}; },
        [](WarpRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_warp});
}

TEST_CASE("warp_backward: every row") { check_table(warp_backward_test()); }

TEST_CASE("warp_backward: every row, the field's gradient alone and the source's alone") {
    RowTest<WarpParams, WarpBackwardRun> test = warp_backward_test();
    test.outputs = [](const WarpParams& p) -> std::vector<OutputSpec> {
        return {spec("dfield", p.field_count(), p, static_cast<double>(p.channels),
                     std::sqrt(static_cast<double>(p.channels)), real_type)};
    };
    test.call = [](WarpBackwardRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
        run(View{}, out[0], in[0], in[1], in[2], p, stream);
    };
    check_table(test);
    test.outputs = [](const WarpParams& p) -> std::vector<OutputSpec> {
        return {spec("dsource", p.source_count(), p, 4, 1)};
    };
    test.call = [](WarpBackwardRun* run, Outputs out, Inputs in, const WarpParams& p, Stream& stream) {
        run(out[0], View{}, in[0], in[1], in[2], p, stream);
    };
    check_table(test);
}

TEST_CASE("warp: a zero field is exactly the identity, for every row") {
    for (const Grid& grid : grids())
        for (const auto& row : warp_table()) {
            const WarpParams p{2, grid, 8, WarpConvention::exact};
            if (!runs_on_host_memory(row, p)) continue;
            const Tensor source = random_tensor({p.source_count()}, row.dtype, 1),
                         field = Tensor::zeros({p.field_count()}, real_type(row.dtype));
            Tensor y = Tensor::empty({p.source_count()}, row.dtype);
            row.run(y.view(), source.view(), field.view(), p, cpu_stream());
            CHECK_MESSAGE(same_bits(y.view(), source.view()), row.name, " ", describe_warp(p));
        }
}

TEST_CASE("warp: whole pixels, half pixels and the outside by hand") {
    // One row of 10, 20, 30; vectors are (H, W).
    const WarpParams p{1, {2, 1, 1, 3}, 1, WarpConvention::exact};
    const Tensor source = tensor_of({10, 20, 30});
    CHECK(values_of(warped(source, tensor_of({0, 1, 0, 1, 0, 1}), p)) == std::vector<double>{20, 30, 0});
    CHECK(values_of(warped(source, tensor_of({0, 0.5, 0, 0.25, 0, 0.5}), p)) == std::vector<double>{15, 22.5, 15});
    CHECK(values_of(warped(source, tensor_of({0, -0.5, 0, -2, 0, -4}), p)) == std::vector<double>{5, 0, 0});
    CHECK(values_of(warped(source, tensor_of({0.5, 0, -0.75, 0, 1, 0}), p)) == std::vector<double>{5, 5, 0});
    CHECK(values_of(warped(source, tensor_of({0, 1e30, 0, -1e30, 1e300, 0}), p)) == std::vector<double>{0, 0, 0});
}

TEST_CASE("warp: the reference convention by hand") {
    // S = 3 on W: a zero field reads -0.5, 1 and 2.5. H has side 1: q - 1/2 reads row -0.5, half of which is outside.
    const WarpParams p{1, {2, 1, 1, 3}, 1, WarpConvention::reference};
    CHECK(values_of(warped(tensor_of({10, 20, 30}), tensor_of({0.5, 0, 0.5, 0, 0.5, 0}), p)) ==
          std::vector<double>{5, 20, 15});
    CHECK(values_of(warped(tensor_of({10, 20, 30}), tensor_of({0, 0, 0, 0, 0, 0}), p)) ==
          std::vector<double>{2.5, 10, 7.5});
    // S = 2: zero reads -0.5 and 1.5; +0.5 reads 0.5 and 2.5.
    const WarpParams square{1, {2, 1, 2, 2}, 1, WarpConvention::reference};
    CHECK(values_of(warped(tensor_of({1, 2, 3, 4}), tensor_of({0, 0, 0, 0, 0.5, 0, 0, 0.5}), square)) ==
          std::vector<double>{0.25, 0.5, 0, 0});
    CHECK(values_of(warped(tensor_of({1, 2, 3, 4}), tensor_of({0.5, 0.5, 0.5, 0, 0, 0, 0, -0.5}), square)) ==
          std::vector<double>{2.5, 1.5, 0.75, 1.75});
}

TEST_CASE("warp: components are ordered (D,)H,W") {
    const WarpParams p{1, {3, 2, 2, 2}, 1, WarpConvention::exact};
    Tensor field = Tensor::zeros({24}, DType::float64);
    field.data<double>()[0] = 1;  // depth of pixel 0
    field.data<double>()[4] = 1;  // height of pixel 1
    field.data<double>()[8] = 1;  // width of pixel 2
    CHECK(values_of(warped(tensor_of({0, 1, 2, 3, 4, 5, 6, 7}), field, p)) ==
          std::vector<double>{4, 3, 3, 3, 4, 5, 6, 7});
}

TEST_CASE("warp: many pixels that read one source pixel") {
    // Every vector points to the middle: dsource is the sum of all cotangents there, for every row.
    const WarpParams p{2, {2, 1, 9, 11}, 8, WarpConvention::exact};
    Tensor field = Tensor::empty({p.field_count()}, DType::float64);
    for (std::int64_t i = 0; i < p.field_count(); ++i)
        field.data<double>()[i] =
            (i % 2 ? 5 : 4) - static_cast<double>(coordinate_of(p.grid, i / 2 % 99, static_cast<int>(i % 2)));
    for (const auto& row : warp_backward_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        Tensor dy = Tensor::empty({p.source_count()}, row.dtype),
               dsource = Tensor::empty({p.source_count()}, row.dtype);
        dy.fill(0.5);
        const Tensor source = random_tensor({p.source_count()}, row.dtype, 1),
                     typed_field = field.converted(real_type(row.dtype));
        row.run(dsource.view(), View{}, dy.view(), source.view(), typed_field.view(), p, cpu_stream());
        std::vector<double> expected(static_cast<std::size_t>(p.source_count()), 0.0);
        for (std::size_t n = 0; n < 2; ++n)
            for (std::size_t c = 0; c < 8; ++c) expected[(n * 99 + 4 * 11 + 5) * 8 + c] = 49.5;
        CHECK_MESSAGE(values_of(dsource) == expected, row.name);
    }
}

TEST_CASE("warp: the backward pass is the derivative") {
    for (const WarpConvention convention : {WarpConvention::exact, WarpConvention::reference})
        for (const Grid& grid : {Grid{2, 1, 4, 5}, Grid{3, 3, 1, 4}}) {
            const WarpParams p{2, grid, 3, convention};
            const Tensor source = random_tensor({p.source_count()}, DType::float64, 1), field = safe_field(p),
                         dy = random_tensor({p.source_count()}, DType::float64, 3);
            Tensor dsource = Tensor::empty({p.source_count()}, DType::float64),
                   dfield = Tensor::empty({p.field_count()}, DType::float64);
            warp_backward(dsource.view(), dfield.view(), dy.view(), source.view(), field.view(), p, cpu_stream());
            CHECK(check_gradient([&](const std::vector<Tensor>& at) { return dot(warped(at[0], at[1], p), dy); },
                                 {source, field}, {dsource, dfield}) == "");
        }
}

}  // namespace cover::test
