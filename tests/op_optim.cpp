#include <cmath>
#include <limits>
#include <utility>

#include "kernels/optim.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("optimizer_factors"), RegisteredTable("adam"),
                                      RegisteredTable("sgd")};

constexpr std::int64_t counts[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 221, 4099, 70003};

// A case's factors: the params that the table of factors would make them from.
struct StepNumbers {
    double lr, step, gradient_scale;
};

// As optimizer_factors() leaves them.
std::vector<double> factors_of(const StepNumbers& s, double beta1, double beta2) {
    return {1, s.gradient_scale, s.lr / (1 - std::pow(beta1, s.step)), 1 / (1 - std::pow(beta2, s.step))};
}
std::vector<double> sgd_factors_of(const StepNumbers& s) {
    return {1, s.gradient_scale, s.lr, s.step == 1 ? 1.0 : 0.0};
}
// Every other case is a first step with clipping.
StepNumbers numbers_of(std::size_t index) {
    return index % 2 == 0 ? StepNumbers{0.1, 1, 0.3} : StepNumbers{0.1, 1000, 1};
}

std::vector<AdamParams> adam_cases() {
    std::vector<AdamParams> cases;
    for (const std::int64_t count : counts) {
        cases.push_back({.count = count, .weight_decay = 0.01});
        cases.push_back({.count = count, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-2});
    }
    return cases;
}

std::vector<SgdParams> sgd_cases() {
    std::vector<SgdParams> cases;
    for (const std::int64_t count : counts) {
        cases.push_back({.count = count, .weight_decay = 0.01});
        cases.push_back({.count = count, .momentum = 0.8, .weight_decay = 0.2});
    }
    return cases;
}

Operands gradient_and(std::int64_t count, const std::vector<double>& factors) {
    return {random_tensor({count}, DType::float64, 1), {tensor_of(factors), float64_type}};
}

// 1000 steps with momentum 0.8, or a first one with clipping.
StepNumbers numbers_of(const AdamParams& p) { return numbers_of(p.weight_decay > 0 ? 0 : 1); }
StepNumbers numbers_of(const SgdParams& p) { return numbers_of(p.weight_decay < 0.1 ? 0 : 1); }

}  // namespace

TEST_CASE("optimizer_factors: every row") {
    struct Given {
        double lr, step, loss, squares;
    };
    // The loss is a float in float32 rows: these are.
    static const std::vector<Given> given{{1e-4, 1, 2.5, 4}, {0.1, 1000, 0.125, 1e-8}, {0.5, 2, 1e30, 1e20}};
    // One table of cases for each set of inputs: the params have no room for them.
    for (const Given& g : given)
        check_table(RowTest<OptimizerFactorsParams, OptimizerFactorsRun>{
            "optimizer_factors",
            optimizer_factors_table(),
            {{}, {.beta1 = 0.5, .beta2 = 0.75, .clip = 0}, {.adam = false, .clip = 3}},
            [&](const OptimizerFactorsParams&) -> Operands {
                return {{tensor_of({g.lr, g.step}), float64_type},
                        tensor_of({g.loss}),
                        {tensor_of({g.squares}), float64_type}};
            },
            [&](const OptimizerFactorsParams& p) -> std::vector<OutputSpec> {
                // Rates and corrections span many powers of ten: each has to be right to its own last bits.
                const double correction = p.adam ? 1 / (1 - std::pow(p.beta2, g.step)) : 1;
                return {
                    {.name = "factors", .count = optimizer_factor_count, .scale = correction, .type = float64_type}};
            },
            [](OptimizerFactorsRun* run, Outputs out, Inputs in, const OptimizerFactorsParams& p, Stream& stream) {
                run(out[0], in[0], in[1], in[2], p, stream);
            },
            [](const OptimizerFactorsParams& p) { return text(p.adam ? "Adam" : "SGD", ", clip ", p.clip); }});
}

TEST_CASE("optimizer_factors: by hand; what is not finite is not applied") {
    Tensor factors = Tensor::empty({optimizer_factor_count}, DType::float64);
    const auto made = [&](double lr, double step, double loss, double squares, const OptimizerFactorsParams& p) {
        optimizer_factors(factors.view(), tensor_of({lr, step}).view(), tensor_of({loss}).view(),
                          tensor_of({squares}).view(), p, cpu_stream());
        return values_of(factors);
    };
    // Norm 2 - 1e-6, clipped to 1: half. 0.25 / (1 - 0.5^2), 1 / (1 - 0.75^2).
    const OptimizerFactorsParams p{.beta1 = 0.5, .beta2 = 0.75, .clip = 1};
    const double norm = 2 - 1e-6;
    const std::vector<double> adam_factors = made(0.25, 2, 7, norm * norm, p);
    CHECK(adam_factors[apply_factor] == 1);
    CHECK(adam_factors[gradient_scale_factor] == doctest::Approx(0.5).epsilon(1e-15));
    CHECK(adam_factors[rate_factor] == doctest::Approx(1.0 / 3).epsilon(1e-15));
    CHECK(adam_factors[correction_factor] == doctest::Approx(16.0 / 7).epsilon(1e-15));
    CHECK(made(0.25, 1, 7, 0.25, {.adam = false, .clip = 1}) == std::vector<double>{1, 1, 0.25, 1});
    CHECK(made(0.25, 2, 7, 0.25, {.adam = false, .clip = 0}) == std::vector<double>{1, 1, 0.25, 0});
    const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
    for (const auto& [loss, squares] :
         {std::pair{nan, 1.0}, std::pair{infinity, 1.0}, std::pair{1.0, nan}, std::pair{1.0, infinity}})
        CHECK(made(0.25, 1, loss, squares, p)[apply_factor] == 0);
    CHECK_THROWS_AS(made(0.25, 1, 1, 1, {.beta1 = 1}), Error);
}

TEST_CASE("adam and sgd: factors that are not to be applied change nothing, in every row") {
    const Tensor refused = tensor_of({0, 1, 0.5, 1});
    for (const auto& row : adam_table()) {
        if (!runs_on_host_memory(row, AdamParams{.count = 5})) continue;
        Tensor w = Tensor::zeros({5}, row.dtype), m = w.clone(), v = w.clone(), dw = w.clone();
        dw.fill(std::nan(""));
        row.run(w.view(), m.view(), v.view(), dw.view(), refused.view(), {.count = 5}, *device_stream(row.device));
        for (const Tensor& t : {w, m, v}) CHECK_MESSAGE(values_of(t) == std::vector<double>(5, 0.0), row.name);
    }
    for (const auto& row : sgd_table()) {
        if (!runs_on_host_memory(row, SgdParams{.count = 5})) continue;
        Tensor w = Tensor::zeros({5}, row.dtype), buffer = w.clone(), dw = w.clone();
        dw.fill(std::nan(""));
        row.run(w.view(), buffer.view(), dw.view(), refused.view(), {.count = 5}, *device_stream(row.device));
        for (const Tensor& t : {w, buffer}) CHECK_MESSAGE(values_of(t) == std::vector<double>(5, 0.0), row.name);
    }
}

TEST_CASE("adam: every row") {
    check_table(RowTest<AdamParams, AdamRun>{
        "adam", adam_table(), adam_cases(),
        [](const AdamParams& p) { return gradient_and(p.count, factors_of(numbers_of(p), p.beta1, p.beta2)); },
        [](const AdamParams& p) -> std::vector<OutputSpec> {
            // Weights as small as the step, so that a wrong step stands out.
            return {{.name = "w", .count = p.count, .start = Start::random, .low = -0.1, .high = 0.1},
                    {.name = "m", .count = p.count, .start = Start::random},
                    {.name = "v", .count = p.count, .start = Start::random, .low = 0.01, .high = 1}};
        },
        [](AdamRun* run, Outputs out, Inputs in, const AdamParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], in[1], p, stream);
        },
        [](const AdamParams& p) { return text(p.count, " elements, step ", numbers_of(p).step); }});
}

TEST_CASE("sgd: every row") {
    check_table(RowTest<SgdParams, SgdRun>{
        "sgd", sgd_table(), sgd_cases(),
        [](const SgdParams& p) { return gradient_and(p.count, sgd_factors_of(numbers_of(p))); },
        [](const SgdParams& p) -> std::vector<OutputSpec> {
            return {{.name = "w", .count = p.count, .start = Start::random, .low = -0.1, .high = 0.1},
                    {.name = "buffer", .count = p.count, .start = Start::random}};
        },
        [](SgdRun* run, Outputs out, Inputs in, const SgdParams& p, Stream& stream) {
            run(out[0], out[1], in[0], in[1], p, stream);
        },
        [](const SgdParams& p) { return text(p.count, " elements, step ", numbers_of(p).step); }});
}

TEST_CASE("adam: two steps by hand") {
    // g = 0.5 * 6 + 0.25 * 4 = 4; both moments corrected at step 1 give exactly g and g^2, so that w moves by
    // lr * 4 / (4 + epsilon).
    Tensor w = tensor_of({4}), m = tensor_of({0}), v = tensor_of({0});
    AdamParams p{.beta1 = 0.5, .beta2 = 0.75, .epsilon = 1, .weight_decay = 0.25};
    const auto factors = [&](double step) { return tensor_of(factors_of({0.5, step, 0.5}, p.beta1, p.beta2)); };
    adam(w.view(), m.view(), v.view(), tensor_of({6}).view(), factors(1).view(), p, cpu_stream());
    CHECK(values_of(m) == std::vector<double>{2});
    CHECK(values_of(v) == std::vector<double>{4});
    CHECK(element(w.view(), 0) == doctest::Approx(3.6).epsilon(1e-15));
    // Step 2 without decay, gradient 0: m = 1 over 1 - 0.25, v = 3 over 1 - 0.5625.
    p.weight_decay = 0;
    adam(w.view(), m.view(), v.view(), tensor_of({0}).view(), factors(2).view(), p, cpu_stream());
    CHECK(values_of(m) == std::vector<double>{1});
    CHECK(values_of(v) == std::vector<double>{3});
    CHECK(element(w.view(), 0) == doctest::Approx(3.6 - 0.5 * (1 / 0.75) / (std::sqrt(3 / 0.4375) + 1)).epsilon(1e-15));
}

TEST_CASE("adam: a gradient of zero at the first step moves nothing") {
    Tensor w = tensor_of({4}), m = tensor_of({0}), v = tensor_of({0});
    adam(w.view(), m.view(), v.view(), tensor_of({0}).view(), tensor_of(factors_of({1e-4, 1, 1}, 0.9, 0.999)).view(),
         {}, cpu_stream());
    CHECK(values_of(w) == std::vector<double>{4});
}

TEST_CASE("sgd: two steps by hand, the first ignores what the buffer held") {
    Tensor w = tensor_of({4}), buffer = tensor_of({1000});
    const SgdParams p{.momentum = 0.25, .weight_decay = 0.25};
    const auto factors = [](double step) { return tensor_of(sgd_factors_of({0.5, step, 0.5})); };
    sgd(w.view(), buffer.view(), tensor_of({6}).view(), factors(1).view(), p, cpu_stream());
    CHECK(values_of(buffer) == std::vector<double>{4});
    CHECK(values_of(w) == std::vector<double>{2});
    // g = 0.5 * 2 + 0.25 * 2 = 1.5; buffer 0.25 * 4 + 1.5
    sgd(w.view(), buffer.view(), tensor_of({2}).view(), factors(2).view(), p, cpu_stream());
    CHECK(values_of(buffer) == std::vector<double>{2.5});
    CHECK(values_of(w) == std::vector<double>{0.75});
}

}  // namespace cover::test
