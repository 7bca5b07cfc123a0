#include <cmath>

#include "kernels/optim.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("adam"), RegisteredTable("sgd")};

constexpr std::int64_t counts[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 221, 4099, 70003};

std::vector<AdamParams> adam_cases() {
    std::vector<AdamParams> cases;
    for (const std::int64_t count : counts) {
        cases.push_back({.count = count, .step = 1, .lr = 0.1, .weight_decay = 0.01, .gradient_scale = 0.3});
        cases.push_back({.count = count, .step = 1000, .lr = 0.1, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-2});
    }
    return cases;
}

std::vector<SgdParams> sgd_cases() {
    std::vector<SgdParams> cases;
    for (const std::int64_t count : counts) {
        cases.push_back({.count = count, .step = 1, .lr = 0.1, .weight_decay = 0.01, .gradient_scale = 0.3});
        cases.push_back({.count = count, .step = 2, .lr = 0.1, .momentum = 0.8, .weight_decay = 0.2});
    }
    return cases;
}

std::vector<Tensor> gradient(std::int64_t count) { return {random_tensor({count}, DType::float64, 1)}; }

}  // namespace

TEST_CASE("adam: every row") {
    check_table(RowTest<AdamParams, AdamRun>{
        "adam", adam_table(), adam_cases(), [](const AdamParams& p) { return gradient(p.count); },
        [](const AdamParams& p) -> std::vector<OutputSpec> {
            // Weights as small as the step, so that a wrong step stands out.
            return {{.name = "w", .count = p.count, .start = Start::random, .low = -0.1, .high = 0.1},
                    {.name = "m", .count = p.count, .start = Start::random},
                    {.name = "v", .count = p.count, .start = Start::random, .low = 0.01, .high = 1}};
        },
        [](AdamRun* run, Outputs out, Inputs in, const AdamParams& p, Stream& stream) {
            run(out[0], out[1], out[2], in[0], p, stream);
        },
        [](const AdamParams& p) { return text(p.count, " elements, step ", p.step); }});
}

TEST_CASE("sgd: every row") {
    check_table(RowTest<SgdParams, SgdRun>{
        "sgd", sgd_table(), sgd_cases(), [](const SgdParams& p) { return gradient(p.count); },
        [](const SgdParams& p) -> std::vector<OutputSpec> {
            return {{.name = "w", .count = p.count, .start = Start::random, .low = -0.1, .high = 0.1},
                    {.name = "buffer", .count = p.count, .start = Start::random}};
        },
        [](SgdRun* run, Outputs out, Inputs in, const SgdParams& p, Stream& stream) {
            run(out[0], out[1], in[0], p, stream);
        },
        [](const SgdParams& p) { return text(p.count, " elements, step ", p.step); }});
}

TEST_CASE("adam: two steps by hand") {
    // g = 0.5 * 6 + 0.25 * 4 = 4; both moments corrected at step 1 give exactly g and g^2, so that w moves by
    // lr * 4 / (4 + epsilon).
    Tensor w = tensor_of({4}), m = tensor_of({0}), v = tensor_of({0});
    AdamParams p{
        .step = 1, .lr = 0.5, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 1, .weight_decay = 0.25, .gradient_scale = 0.5};
    adam(w.view(), m.view(), v.view(), tensor_of({6}).view(), p, cpu_stream());
    CHECK(values_of(m) == std::vector<double>{2});
    CHECK(values_of(v) == std::vector<double>{4});
    CHECK(element(w.view(), 0) == doctest::Approx(3.6).epsilon(1e-15));
    // Step 2 without decay, gradient 0: m = 1 over 1 - 0.25, v = 3 over 1 - 0.5625.
    p.step = 2;
    p.weight_decay = 0;
    adam(w.view(), m.view(), v.view(), tensor_of({0}).view(), p, cpu_stream());
    CHECK(values_of(m) == std::vector<double>{1});
    CHECK(values_of(v) == std::vector<double>{3});
    CHECK(element(w.view(), 0) == doctest::Approx(3.6 - 0.5 * (1 / 0.75) / (std::sqrt(3 / 0.4375) + 1)).epsilon(1e-15));
}

TEST_CASE("adam: a gradient of zero at the first step moves nothing") {
    Tensor w = tensor_of({4}), m = tensor_of({0}), v = tensor_of({0});
    adam(w.view(), m.view(), v.view(), tensor_of({0}).view(), {}, cpu_stream());
    CHECK(values_of(w) == std::vector<double>{4});
}

TEST_CASE("sgd: two steps by hand, the first ignores what the buffer held") {
    Tensor w = tensor_of({4}), buffer = tensor_of({1000});
    SgdParams p{.step = 1, .lr = 0.5, .momentum = 0.25, .weight_decay = 0.25, .gradient_scale = 0.5};
    sgd(w.view(), buffer.view(), tensor_of({6}).view(), p, cpu_stream());
    CHECK(values_of(buffer) == std::vector<double>{4});
    CHECK(values_of(w) == std::vector<double>{2});
    p.step = 2;  // g = 0.5 * 2 + 0.25 * 2 = 1.5; buffer 0.25 * 4 + 1.5
    sgd(w.view(), buffer.view(), tensor_of({2}).view(), p, cpu_stream());
    CHECK(values_of(buffer) == std::vector<double>{2.5});
    CHECK(values_of(w) == std::vector<double>{0.75});
}

}  // namespace cover::test
