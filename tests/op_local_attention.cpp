#include <array>
#include <cmath>

#include "kernels/local_attention.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("local_attention"), RegisteredTable("local_attention_backward")};

std::vector<LocalAttentionParams> attention_cases() {
    std::vector<LocalAttentionParams> cases;
    // heads, head_dim, radius: the defaults of the pyramid, then what differs from them one way or the other.
    constexpr std::array<std::array<int, 3>, 9> widths_2d = {
        {{4, 8, 2}, {1, 8, 2}, {2, 8, 1}, {3, 5, 2}, {1, 16, 3}, {8, 4, 1}, {2, 3, 4}, {1, 1, 1}, {5, 8, 2}}};
    constexpr std::array<std::array<int, 3>, 5> widths_3d = {{{4, 8, 2}, {1, 8, 2}, {3, 5, 1}, {2, 8, 1}, {1, 3, 3}}};
    std::int64_t n = 0;
    for (const Grid& grid : grids_2d())
        for (const auto& [heads, head_dim, radius] : widths_2d)
            cases.push_back({1 + n++ % 3, grid, heads, head_dim, radius});
    for (const Grid& grid : grids_3d())
        for (const auto& [heads, head_dim, radius] : widths_3d)
            cases.push_back({1 + n++ % 2, grid, heads, head_dim, radius});
    return cases;
}

std::string describe_attention(const LocalAttentionParams& p) {
    return text(describe(p.n, p.grid), ", ", p.heads, " heads of ", p.head_dim, ", radius ", p.radius);
}

// A logit is a sum of head_dim products; its rounding is a relative error of the weights, which multiply offsets of up
// to the radius.
double logit_terms(const LocalAttentionParams& p) { return 4.0 * p.head_dim; }

Tensor attended(const Tensor& q, const Tensor& k, const LocalAttentionParams& p) {
    Tensor y = Tensor::empty({p.y_count()}, q.dtype());
    local_attention(y.view(), q.view(), k.view(), p, cpu_stream());
    return y;
}

}  // namespace

TEST_CASE("local_attention: every row") {
    check_table(RowTest<LocalAttentionParams, LocalAttentionRun>{
        "local_attention", local_attention_table(), attention_cases(),
        [](const LocalAttentionParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.q_count()}, DType::float64, 1, -2, 2),
                    random_tensor({p.q_count()}, DType::float64, 2, -2, 2)};
        },
        [](const LocalAttentionParams& p) -> std::vector<OutputSpec> {
            // Opposite offsets may cancel: the error is that of the radius, not of the result.
            return {{.name = "y",
                     .count = p.y_count(),
                     .terms = logit_terms(p),
                     .scale = static_cast<double>(p.radius),
                     .type = real_type,
                     .relative = p.grid.pixels() > 1}};
        },
        [](LocalAttentionRun* run, Outputs out, Inputs in, const LocalAttentionParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_attention});
}

TEST_CASE("local_attention_backward: every row") {
    check_table(RowTest<LocalAttentionParams, LocalAttentionBackwardRun>{
        "local_attention_backward", local_attention_backward_table(), attention_cases(),
        [](const LocalAttentionParams& p) -> Operands {
            return {real(random_tensor({p.y_count()}, DType::float64, 3)),
                    random_tensor({p.q_count()}, DType::float64, 1, -2, 2),
                    random_tensor({p.q_count()}, DType::float64, 2, -2, 2)};
        },
        [](const LocalAttentionParams& p) -> std::vector<OutputSpec> {
            // With a single pixel the softmax is constant and the gradient cancels to nothing.
            const OutputSpec dq{.name = "dq",
                                .count = p.q_count(),
                                .terms = 4 * logit_terms(p),
                                .scale = static_cast<double>(p.radius),
                                .relative = p.grid.pixels() > 1};
            OutputSpec dk = dq;
            dk.name = "dk";
            return {dq, dk};
        },
        [](LocalAttentionBackwardRun* run, Outputs out, Inputs in, const LocalAttentionParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], in[2], p, stream);
        },
        describe_attention});
}

TEST_CASE("local_attention: equal logits average the offsets inside, in the corner too") {
    // q = 0 makes every logit inside 0 and every one outside -1000: the mean offset of the window's inside.
    const LocalAttentionParams p{1, {2, 1, 3, 4}, 2, 3, 2};
    for (const auto& row : local_attention_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        const Tensor q = Tensor::zeros({p.q_count()}, row.dtype), k = random_tensor({p.q_count()}, row.dtype, 2);
        Tensor y = Tensor::empty({p.y_count()}, real_type(row.dtype));
        row.run(y.view(), q.view(), k.view(), p, cpu_stream());
        // Corner (0, 0): rows 0..2, columns 0..2. Pixel (1, 3): rows -1..1, columns -2..0. Pixel (2, 1): -2..0, -1..2.
        const auto at = [&](std::int64_t h, std::int64_t w, std::int64_t axis) {
            return element(y.view(), (h * 4 + w) * 2 + axis);
        };
        const double tight = row.dtype == DType::float64 ? 1e-14 : 1e-6;
        CHECK(std::abs(at(0, 0, 0) - 1) <= tight);
        CHECK(std::abs(at(0, 0, 1) - 1) <= tight);
        CHECK(std::abs(at(1, 3, 0)) <= tight);
        CHECK(std::abs(at(1, 3, 1) + 1) <= tight);
        CHECK(std::abs(at(2, 1, 0) + 1) <= tight);
        CHECK(std::abs(at(2, 1, 1) - 0.5) <= tight);
    }
}

TEST_CASE("local_attention: two pixels and a softmax by hand") {
    // One row of two pixels, radius 1. Pixel 0: logits q0 k0 at offset 0 and q0 k1 at +1, width of head 4, so that both
    // are halved. The sigmoid of their difference is the component.
    const LocalAttentionParams p{1, {2, 1, 1, 2}, 1, 4, 1};
    const Tensor q = tensor_of({1, 2, 0, 0, 3, 0, 0, 1}), k = tensor_of({1, 0, 5, 0, 0, 1, 0, 2});
    const std::vector<double> y = values_of(attended(q, k, p));
    // q0.k0 = 1, q0.k1 = 2: difference 1/2. q1.k1 = 2, q1.k0 = 3: the neighbour is at -1.
    CHECK(y[0] == 0);
    CHECK(y[1] == doctest::Approx(1 / (1 + std::exp(-0.5))).epsilon(1e-14));
    CHECK(y[2] == 0);
    CHECK(y[3] == doctest::Approx(-1 / (1 + std::exp(-0.5))).epsilon(1e-14));
}

TEST_CASE("local_attention: the head is the fast index of the channels") {
    // Two heads of width 1 on two pixels: head 0 sees channel 0, head 1 channel 1.
    const LocalAttentionParams p{1, {2, 1, 1, 2}, 2, 1, 1};
    const Tensor q = tensor_of({1, 0, 0, 0}), k = tensor_of({0, 7, 2, 9});
    // Pixel 0, head 0: logits 0 and 2. Head 1: 0 and 0. The mean of sigmoid(2) and 1/2.
    CHECK(values_of(attended(q, k, p))[1] == doctest::Approx((1 / (1 + std::exp(-2.0)) + 0.5) / 2).epsilon(1e-14));
    const LocalAttentionParams wide{1, {2, 1, 1, 2}, 2, 2, 1};
    // Width 2: channels 0 and 2 belong to head 0. q0 = (1, 0, 1, 0), k1 = (1, 50, 3, 60): head 0's logit is 4 /
    // sqrt(2).
    const Tensor wide_q = tensor_of({1, 0, 1, 0, 0, 0, 0, 0}), wide_k = tensor_of({0, 3, 0, 4, 1, 50, 3, 60});
    CHECK(values_of(attended(wide_q, wide_k, wide))[1] ==
          doctest::Approx((1 / (1 + std::exp(-4 / std::sqrt(2.0))) + 0.5) / 2).epsilon(1e-14));
}

TEST_CASE("local_attention: large logits do not overflow, and what lies outside has a logit of -1000") {
    const LocalAttentionParams p{1, {2, 1, 1, 2}, 1, 1, 1};
    for (const auto& row : local_attention_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        const auto run = [&](double q0, double k0, double k1) {
            const Tensor q = tensor_of({q0, 0}).converted(row.dtype), k = tensor_of({k0, k1}).converted(row.dtype);
            Tensor y = Tensor::empty({p.y_count()}, real_type(row.dtype));
            row.run(y.view(), q.view(), k.view(), p, cpu_stream());
            return values_of(y);
        };
        CHECK(run(100, 0, 50)[1] == doctest::Approx(1));
        CHECK(std::abs(run(100, 50, 0)[1]) <= 1e-6);
        // Both inside at -1000: all nine offsets have the same weight and cancel.
        CHECK(std::abs(run(10, -100, -100)[1]) <= 1e-6);
        // Inside at -2000: only the seven outside count, whose components sum to -1 (offsets 0 and +1 of row 0
        // missing).
        CHECK(run(10, -200, -200)[1] == doctest::Approx(-1.0 / 7).epsilon(1e-5));
    }
}

TEST_CASE("local_attention: components are ordered (D,)H,W") {
    const LocalAttentionParams p{1, {3, 2, 3, 4}, 1, 1, 1};
    const Tensor q = Tensor::zeros({24}, DType::float64), k = Tensor::zeros({24}, DType::float64);
    const std::vector<double> y = values_of(attended(q, k, p));
    // Pixel (0, 1, 3): D has 0 and 1, H all three, W -1 and 0.
    const std::size_t pixel = 1 * 4 + 3;
    CHECK(y[3 * pixel] == doctest::Approx(0.5));
    CHECK(std::abs(y[3 * pixel + 1]) <= 1e-14);
    CHECK(y[3 * pixel + 2] == doctest::Approx(-0.5));
}

TEST_CASE("local_attention: the backward pass is the derivative") {
    for (const LocalAttentionParams& p :
         {LocalAttentionParams{2, {2, 1, 4, 5}, 2, 3, 2}, LocalAttentionParams{1, {3, 2, 3, 2}, 1, 4, 1}}) {
        const Tensor q = random_tensor({p.q_count()}, DType::float64, 1),
                     k = random_tensor({p.q_count()}, DType::float64, 2),
                     dy = random_tensor({p.y_count()}, DType::float64, 3);
        Tensor dq = Tensor::empty({p.q_count()}, DType::float64), dk = Tensor::empty({p.q_count()}, DType::float64);
        local_attention_backward(dq.view(), dk.view(), dy.view(), q.view(), k.view(), p, cpu_stream());
        CHECK(check_gradient([&](const std::vector<Tensor>& at) { return dot(attended(at[0], at[1], p), dy); }, {q, k},
                             {dq, dk}) == "");
    }
}

}  // namespace cover::test
