#include <algorithm>
#include <cmath>

#include "kernels/norm.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("group_norm"), RegisteredTable("group_norm_statistics"),
                                      RegisteredTable("group_norm_apply"), RegisteredTable("group_norm_backward")};

std::vector<GroupNormParams> norm_cases() {
    std::vector<GroupNormParams> cases;
    std::int64_t n = 0;
    for (const std::int64_t pixels : {1, 2, 3, 5, 6, 7, 8, 13, 17, 35, 64, 221, 1025})
        for (const std::int64_t channels : {8, 16, 24, 32, 40}) {
            cases.push_back({1 + n++ % 3, pixels, channels, channels / 8, 1e-5, 0.2});
            cases.push_back({1 + n++ % 3, pixels, channels, 1, 1e-5, 1.0});
        }
    // Heads and widths that are no multiple of 8, and more than one tile.
    cases.push_back({2, 35, 15, 1, 1e-5, 1.0});
    cases.push_back({2, 36, 12, 3, 1e-3, 0.2});
    cases.push_back({1, 17, 4, 1, 1e-5, 1.0});
    cases.push_back({2, 4099, 16, 2, 1e-5, 0.2});
    cases.push_back({1, 70000, 8, 1, 1e-5, 0.2});
    cases.push_back({1, 16, 512, 64, 1e-5, 0.2});
    return cases;
}

std::string describe_norm(const GroupNormParams& p) {
    return text(p.n, " x ", p.pixels, " pixels, ", p.channels, " channels in ", p.groups, " groups, slope ", p.slope);
}

// Mean and 1 / sqrt(variance + epsilon) of every group, (N, groups) each.
struct Statistics {
    Tensor mean, rstd;
};

Statistics statistics_of(const Tensor& x, const GroupNormParams& p) {
    Statistics out{Tensor::zeros({p.n * p.groups}, DType::float64), Tensor::zeros({p.n * p.groups}, DType::float64)};
    const std::int64_t width = p.channels / p.groups;
    for (std::int64_t group = 0; group < p.n * p.groups; ++group) {
        double sum = 0, squares = 0;
        for (const bool second : {false, true})
            for (std::int64_t i = 0; i < p.pixels * width; ++i) {
                const std::int64_t pixel = group / p.groups * p.pixels + i / width;
                const double value = x.data<double>()[pixel * p.channels + group % p.groups * width + i % width];
                if (second) {
                    const double centred = value - sum / static_cast<double>(p.pixels * width);
                    squares += centred * centred;
                } else {
                    sum += value;
                }
            }
        out.mean.data<double>()[group] = sum / static_cast<double>(p.pixels * width);
        out.rstd.data<double>()[group] = 1 / std::sqrt(squares / static_cast<double>(p.pixels * width) + p.epsilon);
    }
    return out;
}

// `offset` moves x away from zero: a variance taken as E[x^2] - E[x]^2 in single precision drowns there.
RowTest<GroupNormParams, GroupNormRun> group_norm_test(double offset = 0) {
    return {"group_norm",
            group_norm_table(),
            norm_cases(),
            [offset](const GroupNormParams& p) -> Operands {
                return {random_tensor({p.count()}, DType::float64, 1, offset - 1, offset + 1),
                        real(random_tensor({p.channels}, DType::float64, 2, 0.5, 2)),
                        real(random_tensor({p.channels}, DType::float64, 3))};
            },
            [offset](const GroupNormParams& p) -> std::vector<OutputSpec> {
                // The statistics are means: their error does not grow with the number of terms.
                const double size = 1 + offset;
                return {{.name = "y", .count = p.count(), .terms = 4 * size * size, .scale = 4},
                        {.name = "mean", .count = p.n * p.groups, .scale = size, .type = real_type, .relative = false},
                        {.name = "rstd", .count = p.n * p.groups, .terms = 4 * size, .scale = 4, .type = real_type}};
            },
            [](GroupNormRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
                run(out[0], out[1], out[2], in[0], in[1], in[2], p, stream);
            },
            describe_norm};
}

RowTest<GroupNormParams, GroupNormStatisticsRun> group_norm_statistics_test(double offset = 0) {
    return {"group_norm_statistics",
            group_norm_statistics_table(),
            norm_cases(),
            [offset](const GroupNormParams& p) -> Operands {
                return {random_tensor({p.count()}, DType::float64, 1, offset - 1, offset + 1)};
            },
            [offset](const GroupNormParams& p) -> std::vector<OutputSpec> {
                const double size = 1 + offset;
                return {{.name = "mean", .count = p.n * p.groups, .scale = size, .type = real_type, .relative = false},
                        {.name = "rstd", .count = p.n * p.groups, .terms = 4 * size, .scale = 4, .type = real_type}};
            },
            [](GroupNormStatisticsRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
                run(out[0], out[1], in[0], p, stream);
            },
            describe_norm};
}

RowTest<GroupNormParams, GroupNormApplyRun> group_norm_apply_test() {
    return {"group_norm_apply",
            group_norm_apply_table(),
            norm_cases(),
            [](const GroupNormParams& p) -> Operands {
                return {random_tensor({p.count()}, DType::float64, 1),
                        real(random_tensor({p.n * p.groups}, DType::float64, 4)),
                        real(random_tensor({p.n * p.groups}, DType::float64, 5, 0.5, 2)),
                        real(random_tensor({p.channels}, DType::float64, 2, 0.5, 2)),
                        real(random_tensor({p.channels}, DType::float64, 3))};
            },
            [](const GroupNormParams& p) -> std::vector<OutputSpec> {
                return {{.name = "y", .count = p.count(), .terms = 4, .scale = 8}};
            },
            [](GroupNormApplyRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
                run(out[0], in[0], in[1], in[2], in[3], in[4], p, stream);
            },
            describe_norm};
}

RowTest<GroupNormParams, GroupNormBackwardRun> group_norm_backward_test() {
    return {"group_norm_backward",
            group_norm_backward_table(),
            norm_cases(),
            [](const GroupNormParams& p) -> Operands {
                const Tensor x = random_tensor({p.count()}, DType::float64, 1),
                             gamma = random_tensor({p.channels}, DType::float64, 2, 0.5, 2),
                             beta = random_tensor({p.channels}, DType::float64, 3);
                Tensor dy = random_tensor({p.count()}, DType::float64, 4);
                const Statistics statistics = statistics_of(x, p);
                const Tensor stored = rounded_to(x, DType::bfloat16, DType::float64);
                // No cotangent at the kink of LeakyReLU, where rounding decides the slope.
                for (std::int64_t i = 0; i < p.count(); ++i) {
                    const std::int64_t c = i % p.channels,
                                       group = i / (p.pixels * p.channels) * p.groups + c / (p.channels / p.groups);
                    for (const Tensor* of : {&x, &stored}) {
                        const double z = (of->data<double>()[i] - statistics.mean.data<double>()[group]) *
                                             statistics.rstd.data<double>()[group] * gamma.data<double>()[c] +
                                         beta.data<double>()[c];
                        if (std::abs(z) < 1e-4) dy.data<double>()[i] = 0;
                    }
                }
                return {dy, x, real(statistics.mean), real(statistics.rstd), real(gamma), real(beta)};
            },
            [](const GroupNormParams& p) -> std::vector<OutputSpec> {
                const double terms = static_cast<double>(p.n * p.pixels), size = 2 * std::sqrt(terms);
                return {{.name = "dx", .count = p.count(), .terms = 4, .scale = 16},
                        {.name = "dgamma",
                         .count = p.channels,
                         .terms = terms,
                         .scale = size,
                         .start = Start::random,
                         .type = real_type},
                        {.name = "dbeta",
                         .count = p.channels,
                         .terms = terms,
                         .scale = size,
                         .start = Start::random,
                         .type = real_type}};
            },
            [](GroupNormBackwardRun* run, Outputs out, Inputs in, const GroupNormParams& p, Stream& stream) {
                run(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4], in[5], p, stream);
            },
            describe_norm};
}

}  // namespace

TEST_CASE("group_norm: every row") { check_table(group_norm_test()); }
TEST_CASE("group_norm: every row, far from zero") { check_table(group_norm_test(30)); }
TEST_CASE("group_norm_statistics: every row") { check_table(group_norm_statistics_test()); }
TEST_CASE("group_norm_statistics: every row, far from zero") { check_table(group_norm_statistics_test(30)); }
TEST_CASE("group_norm_apply: every row") { check_table(group_norm_apply_test()); }
TEST_CASE("group_norm_backward: every row") { check_table(group_norm_backward_test()); }

TEST_CASE("group_norm: by hand") {
    // Two pixels, two channels, one group: 1, 2, 3, 6 has mean 3 and biased variance 3.5; epsilon 0.5 makes it 4.
    const GroupNormParams p{1, 2, 2, 1, 0.5, 0.25};
    Tensor y = Tensor::empty({4}, DType::float64), mean = Tensor::empty({1}, DType::float64),
           rstd = Tensor::empty({1}, DType::float64);
    group_norm(y.view(), mean.view(), rstd.view(), tensor_of({1, 2, 3, 6}).view(), tensor_of({2, 4}).view(),
               tensor_of({0, 1}).view(), p, cpu_stream());
    CHECK(values_of(mean) == std::vector<double>{3});
    CHECK(values_of(rstd) == std::vector<double>{0.5});
    // xhat = -1, -0.5, 0, 1.5; times gamma plus beta: -2, -1, 0, 7; LeakyReLU 0.25.
    CHECK(values_of(y) == std::vector<double>{-0.5, -0.25, 0, 7});
}

TEST_CASE("group_norm: neighbouring channels form a group") {
    const GroupNormParams p{1, 1, 4, 2, 1e-5, 1.0};
    Tensor y = Tensor::empty({4}, DType::float64), mean = Tensor::empty({2}, DType::float64),
           rstd = Tensor::empty({2}, DType::float64);
    group_norm(y.view(), mean.view(), rstd.view(), tensor_of({1, 3, 10, 20}).view(), tensor_of({1, 1, 1, 1}).view(),
               tensor_of({0, 0, 0, 0}).view(), p, cpu_stream());
    CHECK(values_of(mean) == std::vector<double>{2, 15});
}

TEST_CASE("group_norm_backward: at exactly 0 the slope of the negative side counts") {
    // xhat = (x - 0) * 1; beta = 0. With mean and rstd given, element 0 sits exactly on the kink.
    const GroupNormParams p{1, 2, 1, 1, 1e-5, 0.25};
    Tensor dx = Tensor::empty({2}, DType::float64), dgamma = Tensor::zeros({1}, DType::float64),
           dbeta = Tensor::zeros({1}, DType::float64);
    const Tensor one = tensor_of({1}), zero = tensor_of({0});
    group_norm_backward(dx.view(), dgamma.view(), dbeta.view(), tensor_of({8, 0}).view(), tensor_of({0, 1}).view(),
                        zero.view(), one.view(), one.view(), zero.view(), p, cpu_stream());
    CHECK(values_of(dbeta) == std::vector<double>{2});
    CHECK(values_of(dgamma) == std::vector<double>{0});
    CHECK(values_of(dx) == std::vector<double>{1, -1});
}

TEST_CASE("group_norm_backward: every row adds to what is there") {
    // mean 0 and rstd 1 are given: xhat = x = 1 and -1 in turn, both on the side of slope 1.
    const GroupNormParams p{1, 2, 8, 1, 1e-5, 1.0};
    for (const auto& row : group_norm_backward_table()) {
        if (!runs_on_host_memory(row, p)) continue;
        const DType real = real_type(row.dtype);
        Tensor dx = Tensor::empty({16}, row.dtype), dgamma = Tensor::empty({8}, real), dbeta = Tensor::empty({8}, real),
               dy = Tensor::empty({16}, row.dtype), x = Tensor::empty({16}, row.dtype), ones = Tensor::empty({8}, real);
        const Tensor zeros = Tensor::zeros({8}, real);
        ones.fill(1);
        dgamma.fill(10);
        dbeta.fill(20);
        x.slice(0, {8}).fill(1);
        x.slice(8, {8}).fill(-1);
        dy.slice(0, {8}).fill(3);
        dy.slice(8, {8}).fill(0.5);
        row.run(dx.view(), dgamma.view(), dbeta.view(), dy.view(), x.view(), zeros.slice(0, {1}).const_view(),
                ones.slice(0, {1}).const_view(), ones.view(), zeros.view(), p, cpu_stream());
        CHECK_MESSAGE(values_of(dgamma) == std::vector<double>(8, 12.5), row.name);
        CHECK_MESSAGE(values_of(dbeta) == std::vector<double>(8, 23.5), row.name);
    }
}

TEST_CASE("group_norm: the backward pass is the derivative") {
    for (const GroupNormParams& p : {GroupNormParams{2, 5, 8, 2, 1e-5, 0.2}, GroupNormParams{2, 6, 6, 1, 1e-3, 1.0}}) {
        const Tensor x = random_tensor({p.count()}, DType::float64, 1),
                     dy = random_tensor({p.count()}, DType::float64, 4),
                     gamma = random_tensor({p.channels}, DType::float64, 2, 0.5, 2),
                     beta = random_tensor({p.channels}, DType::float64, 3);
        Tensor y = Tensor::empty({p.count()}, DType::float64), dx = Tensor::empty({p.count()}, DType::float64),
               mean = Tensor::empty({p.n * p.groups}, DType::float64),
               rstd = Tensor::empty({p.n * p.groups}, DType::float64),
               dgamma = Tensor::zeros({p.channels}, DType::float64),
               dbeta = Tensor::zeros({p.channels}, DType::float64);
        group_norm(y.view(), mean.view(), rstd.view(), x.view(), gamma.view(), beta.view(), p, cpu_stream());
        const Statistics statistics = statistics_of(x, p);
        CHECK(difference(mean.view(), statistics.mean.view(), 1e-15, 1) == "");
        CHECK(difference(rstd.view(), statistics.rstd.view(), 1e-12, 1e-13) == "");
        group_norm_backward(dx.view(), dgamma.view(), dbeta.view(), dy.view(), x.view(), mean.view(), rstd.view(),
                            gamma.view(), beta.view(), p, cpu_stream());
        CHECK(check_gradient(
                  [&](const std::vector<Tensor>& at) {
                      group_norm(y.view(), mean.view(), rstd.view(), at[0].view(), at[1].view(), at[2].view(), p,
                                 cpu_stream());
                      return dot(y, dy);
                  },
                  {x, gamma, beta}, {dx, dgamma, dbeta}, 1e-6) == "");
    }
}

}  // namespace cover::test
