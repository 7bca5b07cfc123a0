#include <cmath>

#include "kernels/loss.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("masked_l1"), RegisteredTable("masked_l1_backward"),
                                      RegisteredTable("masked_cosine"), RegisteredTable("masked_cosine_backward")};

std::vector<LossParams> loss_cases(std::vector<std::int64_t> channels) {
    std::vector<LossParams> cases;
    std::int64_t n = 0;
    for (const std::int64_t pixels : {1, 2, 3, 5, 6, 7, 8, 13, 17, 35, 221, 4099})
        for (const std::int64_t c : channels) cases.push_back({1 + n++ % 3, pixels, c});
    cases.push_back({2, 40000, channels.front()});
    return cases;
}

std::vector<LossParams> l1_cases() { return loss_cases({2, 3, 1, 8}); }
std::vector<LossParams> cosine_cases() { return loss_cases({8, 16, 24, 32, 40, 3, 2}); }

// 0 or 1, about 70 % ones, the first one set so that it is never empty.
Tensor random_mask(const LossParams& p) {
    Tensor mask = random_tensor({p.mask_count()}, DType::float64, 9, 0, 1);
    for (std::int64_t i = 0; i < p.mask_count(); ++i) mask.data<double>()[i] = mask.data<double>()[i] < 0.7 ? 1 : 0;
    mask.data<double>()[0] = 1;
    return mask;
}

// Away from zero, so that a norm is at least 0.25 * sqrt(channels).
Tensor features(const LossParams& p, std::uint32_t stream) {
    Tensor t = random_tensor({p.count()}, DType::float64, stream);
    for (std::int64_t i = 0; i < p.count(); ++i) t.data<double>()[i] += t.data<double>()[i] < 0 ? -0.25 : 0.25;
    return t;
}

std::string describe_loss(const LossParams& p) {
    return text(p.n, " x ", p.pixels, " pixels, ", p.channels, " channels");
}

// Size of a gradient element: that of one pixel over the sum of the mask.
double share(const LossParams& p) { return 4.0 / static_cast<double>(p.mask_count()); }

template <class Op>
double loss_of(Op op, const Tensor& a, const Tensor& b, const Tensor& mask, const LossParams& p) {
    Tensor loss = Tensor::empty({1}, real_type(a.dtype()));
    op(loss.view(), a.view(), b.view(), mask.view(), p, cpu_stream());
    return element(loss.view(), 0);
}

}  // namespace

TEST_CASE("masked_l1: every row") {
    check_table(RowTest<LossParams, MaskedL1Run>{
        "masked_l1", masked_l1_table(), l1_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.count()}, DType::float64, 1), random_tensor({p.count()}, DType::float64, 2),
                    random_mask(p)};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> {
            return {{.name = "loss", .count = 1, .scale = static_cast<double>(p.channels)}};
        },
        [](MaskedL1Run* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], p, stream);
        },
        describe_loss});
}

TEST_CASE("masked_l1_backward: every row") {
    check_table(RowTest<LossParams, MaskedL1BackwardRun>{
        "masked_l1_backward", masked_l1_backward_table(), l1_cases(),
        [](const LossParams& p) -> std::vector<Tensor> {
            // Every eleventh prediction hits its target.
            Tensor prediction = random_tensor({p.count()}, DType::float64, 1);
            const Tensor target = random_tensor({p.count()}, DType::float64, 2);
            for (std::int64_t i = 1; i < p.count(); i += 11) prediction.data<double>()[i] = target.data<double>()[i];
            return {tensor_of({1.75}), prediction, target, random_mask(p)};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> {
            return {{.name = "dprediction", .count = p.count(), .scale = share(p)}};
        },
        [](MaskedL1BackwardRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], in[3], p, stream);
        },
        describe_loss});
}

TEST_CASE("masked_cosine: every row") {
    check_table(RowTest<LossParams, MaskedCosineRun>{
        "masked_cosine", masked_cosine_table(), cosine_cases(),
        [](const LossParams& p) -> Operands {
            return {features(p, 1), features(p, 2), real(random_mask(p))};
        },
        // 1 - cosine: the error is that of 1.
        [](const LossParams&) -> std::vector<OutputSpec> {
            return {{.name = "loss", .count = 1, .type = real_type, .relative = false}};
        },
        [](MaskedCosineRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], in[0], in[1], in[2], p, stream);
        },
        describe_loss});
}

TEST_CASE("masked_cosine_backward: every row") {
    check_table(RowTest<LossParams, MaskedCosineBackwardRun>{
        "masked_cosine_backward", masked_cosine_backward_table(), cosine_cases(),
        [](const LossParams& p) -> Operands {
            return {real(tensor_of({-1.25})), features(p, 1), features(p, 2), real(random_mask(p))};
        },
        [](const LossParams& p) -> std::vector<OutputSpec> {
            const double size = share(p) * 4 / std::sqrt(static_cast<double>(p.channels));
            const OutputSpec da{
                .name = "da", .count = p.count(), .terms = static_cast<double>(p.channels), .scale = size};
            OutputSpec db = da;
            db.name = "db";
            return {da, db};
        },
        [](MaskedCosineBackwardRun* run, Outputs out, Inputs in, const LossParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], in[2], in[3], p, stream);
        },
        describe_loss});
}

TEST_CASE("masked_l1: by hand, one ratio over the batch") {
    // Two samples of two pixels, two components. |t - p|_1 per pixel: 3, 10, 5, 1; the mask keeps the first and third.
    const LossParams p{2, 2, 2};
    const Tensor prediction = tensor_of({1, 0, 10, 0, 2, 2, 0, 1}), target = tensor_of({0, 2, 0, 0, 0, -1, 0, 0}),
                 mask = tensor_of({1, 0, 1, 0});
    CHECK(loss_of(masked_l1, prediction, target, mask, p) == 4);
    Tensor dprediction = Tensor::empty({8}, DType::float64);
    masked_l1_backward(dprediction.view(), tensor_of({3}).view(), prediction.view(), target.view(), mask.view(), p,
                       cpu_stream());
    CHECK(values_of(dprediction) == std::vector<double>{1.5, -1.5, 0, 0, 1.5, 1.5, 0, 0});
}

TEST_CASE("masked_l1: the derivative at equality is 0, for every row") {
    const LossParams p{1, 20, 2};
    for (const auto& row : masked_l1_backward_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        const Tensor x = random_tensor({40}, row.dtype, 1), one = tensor_of({1}).converted(row.dtype);
        Tensor mask = Tensor::empty({20}, row.dtype), dx = Tensor::empty({40}, row.dtype);
        mask.fill(1);
        row.run(dx.view(), one.view(), x.view(), x.view(), mask.view(), p, cpu_stream());
        CHECK_MESSAGE(values_of(dx) == std::vector<double>(40, 0.0), row.name);
    }
}

TEST_CASE("masked_cosine: by hand") {
    // Cosines 1, 0, -1 and 0.6 (from (3, 4) against (1, 0)); the mask leaves out the second.
    const LossParams p{1, 4, 2};
    const Tensor a = tensor_of({2, 0, 1, 0, 0, 3, 3, 4}), b = tensor_of({5, 0, 0, 1, 0, -1, 1, 0}),
                 mask = tensor_of({1, 0, 1, 1});
    CHECK(loss_of(masked_cosine, a, b, mask, p) == doctest::Approx(1 - 0.6 / 3).epsilon(1e-15));
}

TEST_CASE("masked_cosine: each norm is floored at 1e-12") {
    const LossParams p{1, 1, 2};
    const Tensor mask = tensor_of({1});
    // A zero vector has cosine 0 with anything.
    CHECK(loss_of(masked_cosine, tensor_of({0, 0}), tensor_of({1, 2}), mask, p) == 1);
    // |a| = 5e-13 counts as 1e-12: cosine 1/2 instead of 1. |a| = 2e-12 is left alone.
    CHECK(loss_of(masked_cosine, tensor_of({5e-13, 0}), tensor_of({3, 0}), mask, p) ==
          doctest::Approx(0.5).epsilon(1e-12));
    CHECK(std::abs(loss_of(masked_cosine, tensor_of({2e-12, 0}), tensor_of({3, 0}), mask, p)) <= 1e-12);
    // Both below: 5e-13 * 5e-13 / 1e-24 = 1/4.
    CHECK(loss_of(masked_cosine, tensor_of({5e-13, 0}), tensor_of({5e-13, 0}), mask, p) ==
          doctest::Approx(0.75).epsilon(1e-12));
    // Below the floor the norm is a constant: da = -dloss * b / (1e-12 |b|), along a as well.
    Tensor da = Tensor::empty({2}, DType::float64), db = Tensor::empty({2}, DType::float64);
    masked_cosine_backward(da.view(), db.view(), tensor_of({2}).view(), tensor_of({5e-13, 0}).view(),
                           tensor_of({3, 0}).view(), mask.view(), p, cpu_stream());
    CHECK(element(da.view(), 0) == doctest::Approx(-2e12).epsilon(1e-12));
    CHECK(element(da.view(), 1) == 0);
    // b is above its floor: moving along itself changes nothing.
    CHECK(std::abs(element(db.view(), 0)) <= 1e-15);
}

TEST_CASE("masked_cosine: every row floors the norms, in its own precision") {
    const LossParams p{1, 1, 8};
    for (const auto& row : masked_cosine_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        const auto loss = [&](double a) {
            std::vector<double> va(8, 0.0), vb(8, 0.0);
            va[0] = a;
            vb[0] = 3;
            return loss_of(row.run, tensor_of(va).converted(row.dtype), tensor_of(vb).converted(row.dtype),
                           tensor_of({1}).converted(real_type(row.dtype)), p);
        };
        // Half of the floor, as the row's type holds it.
        const double half = element(tensor_of({5e-13}).converted(row.dtype).view(), 0) / 1e-12;
        CHECK_MESSAGE(loss(5e-13) == doctest::Approx(1 - half).epsilon(1e-5), row.name);
        CHECK_MESSAGE(loss(0) == 1, row.name);
        CHECK_MESSAGE(std::abs(loss(4e-12)) <= 1e-5, row.name);
    }
}

TEST_CASE("losses: an empty mask gives NaN, for every row") {
    const LossParams p{2, 9, 8};
    const auto nan_of = [&](const auto& row) {
        if (!runs_on_host_memory(row, p)) return true;
        return std::isnan(loss_of(row.run, random_tensor({p.count()}, row.dtype, 1),
                                  random_tensor({p.count()}, row.dtype, 2), Tensor::zeros({18}, real_type(row.dtype)),
                                  p));
    };
    for (const auto& row : masked_l1_table()) CHECK_MESSAGE(nan_of(row), row.name);
    for (const auto& row : masked_cosine_table()) CHECK_MESSAGE(nan_of(row), row.name);
}

TEST_CASE("losses: the backward passes are the derivatives") {
    const LossParams p{2, 6, 3};
    const Tensor a = features(p, 1), b = features(p, 2), mask = random_mask(p), dloss = tensor_of({1.5});
    Tensor da = Tensor::empty({p.count()}, DType::float64), db = Tensor::empty({p.count()}, DType::float64);
    masked_cosine_backward(da.view(), db.view(), dloss.view(), a.view(), b.view(), mask.view(), p, cpu_stream());
    CHECK(check_gradient(
              [&](const std::vector<Tensor>& at) { return 1.5 * loss_of(masked_cosine, at[0], at[1], mask, p); },
              {a, b}, {da, db}) == "");
    masked_l1_backward(da.view(), dloss.view(), a.view(), b.view(), mask.view(), p, cpu_stream());
    CHECK(check_gradient([&](const std::vector<Tensor>& at) { return 1.5 * loss_of(masked_l1, at[0], at[1], mask, p); },
                         {a, b}, {da, Tensor()}) == "");
}

}  // namespace cover::test
