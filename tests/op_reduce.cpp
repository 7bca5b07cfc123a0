#include <cmath>

#include "kernels/reduce.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered("sum_of_squares");

}  // namespace

TEST_CASE("sum_of_squares: every row") {
    RowTest<ReduceParams, SumOfSquaresRun> test{
        "sum_of_squares",
        sum_of_squares_table(),
        {},
        [](const ReduceParams& p) -> std::vector<Tensor> { return {random_tensor({p.count}, DType::float64, 1)}; },
        [](const ReduceParams& p) -> std::vector<OutputSpec> {
            return {{.name = "sum",
                     .count = 1,
                     .terms = static_cast<double>(p.count),
                     .scale = static_cast<double>(p.count),
                     .type = float64_type}};
        },
        [](SumOfSquaresRun* run, Outputs out, Inputs in, const ReduceParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        [](const ReduceParams& p) { return text(p.count, " elements"); }};
    for (const std::int64_t count : {1, 2, 3, 7, 8, 9, 17, 33, 4095, 4096, 4097, 8193, 65537, 300001})
        test.cases.push_back({count});
    check_table(test);
}

TEST_CASE("sum_of_squares: by hand, and a NaN or an overflow of single precision shows") {
    Tensor sum = Tensor::empty({1}, DType::float64);
    sum_of_squares(sum.view(), tensor_of({1, -2, 3}).view(), {3}, cpu_stream());
    CHECK(values_of(sum) == std::vector<double>{14});
    for (const auto& row : sum_of_squares_table()) {
        const ReduceParams p{9000};
        if (!runs_on_host_memory(row, p)) continue;
        Tensor x = Tensor::zeros({9000}, row.dtype);
        x.slice(8999, {1}).fill(std::nan(""));
        row.run(sum.view(), x.view(), p, cpu_stream());
        CHECK_MESSAGE(std::isnan(element(sum.view(), 0)), row.name);
        x.slice(8999, {1}).fill(-0x1p100);  // of every type
        row.run(sum.view(), x.view(), p, cpu_stream());
        CHECK_MESSAGE(element(sum.view(), 0) == 0x1p200, row.name);
    }
}

}  // namespace cover::test
