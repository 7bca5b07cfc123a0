#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "tests/op_rows.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("add"), RegisteredTable("scale"), RegisteredTable("cast"),
                                      RegisteredTable("concat"), RegisteredTable("split")};

std::vector<ElementwiseParams> flat_cases() {
    std::vector<ElementwiseParams> cases;
    for (const std::int64_t count : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 221, 4099, 40000, 131075})
        cases.push_back({count, -1.7});
    return cases;
}

std::vector<ConcatParams> concat_cases() {
    std::vector<ConcatParams> cases;
    for (const std::int64_t pixels : {1, 2, 3, 5, 8, 13, 17, 221})
        for (const std::int64_t a : {1, 3, 8, 16, 24, 40})
            for (const std::int64_t b : {2, 8, 24, 32}) cases.push_back({pixels, a, b});
    return cases;
}

std::string describe_flat(const ElementwiseParams& p) { return text(p.count, " elements"); }
std::string describe_concat(const ConcatParams& p) {
    return text(p.pixels, " pixels, ", p.c_a, " + ", p.c_b, " channels");
}

}  // namespace

TEST_CASE("add: every row") {
    check_table(RowTest<ElementwiseParams, AddRun>{
        "add", add_table(), flat_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.count}, DType::float64, 1), random_tensor({p.count}, DType::float64, 2)};
        },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> { return {{.name = "y", .count = p.count}}; },
        [](AddRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], in[1], p, stream);
        },
        describe_flat});
}

TEST_CASE("add: every row, into one of its inputs") {
    for (const bool left : {true, false})
        check_table(RowTest<ElementwiseParams, AddRun>{
            "add", add_table(), flat_cases(),
            [](const ElementwiseParams& p) -> std::vector<Tensor> {
                return {random_tensor({p.count}, DType::float64, 1)};
            },
            [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
                return {{.name = "y", .count = p.count, .start = Start::random}};
            },
            [left](AddRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
                if (left)
                    run(out[0], out[0], in[0], p, stream);
                else
                    run(out[0], in[0], out[0], p, stream);
            },
            describe_flat});
}

TEST_CASE("scale: every row, also in place") {
    check_table(RowTest<ElementwiseParams, ScaleRun>{
        "scale", scale_table(), flat_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> { return {random_tensor({p.count}, DType::float64, 1)}; },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count}, {.name = "y in place", .count = p.count, .start = Start::random}};
        },
        [](ScaleRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
            run(out[1], out[1], p, stream);
        },
        describe_flat});
}

TEST_CASE("cast: every row") {
    check_table(RowTest<ElementwiseParams, CastRun>{
        "cast", cast_table(), flat_cases(),
        [](const ElementwiseParams& p) -> std::vector<Tensor> { return {random_tensor({p.count}, DType::float64, 1)}; },
        [](const ElementwiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count, .exact = true, .type = cast_type}};
        },
        [](CastRun* run, Outputs out, Inputs in, const ElementwiseParams& p, Stream& stream) {
            run(out[0], in[0], p, stream);
        },
        describe_flat});
}

TEST_CASE("cast: every row rounds to nearest even, and keeps what is no number") {
    const double infinity = std::numeric_limits<double>::infinity(), largest = 0x1.FEp127;
    // A last place is 2^-7 beside 1: ties to even, what lies just off a tie, overflow, signs of zero.
    const std::vector<double> values = {1 + 0x1p-8,  1 + 0x3p-8, 1 + 0x1.01p-8, 1 + 0x2.FFp-8, -1 - 0x1p-8, 0x1.FF8p127,
                                        0x1.FEFp127, -0.0,       infinity,      -infinity,     0x1p-133,    0x1p-134},
                              expected = {1,       1 + 0x4p-8, 1 + 0x2p-8, 1 + 0x2p-8, -1,       infinity,
                                          largest, -0.0,       infinity,   -infinity,  0x1p-133, 0};
    const std::int64_t count = 50, given = static_cast<std::int64_t>(values.size());  // vectors, and a rest
    for (const auto& row : cast_table()) {
        const ElementwiseParams p{.count = count};
        if (row.dtype == DType::float64 || !runs_on_host_memory(row, p)) continue;
        const bool narrows = row.dtype == DType::float32;
        Tensor x = Tensor::empty({count}, DType::float64), y = Tensor::empty({count}, cast_type(row.dtype));
        for (std::int64_t i = 0; i < count; ++i) {
            const auto which = static_cast<std::size_t>(i % given);
            x.data<double>()[i] = narrows ? values[which] : expected[which];
        }
        x.data<double>()[7] = x.data<double>()[49] = std::nan("");
        x = x.converted(row.dtype);
        row.run(y.view(), x.const_view(), p, cpu_stream());
        for (std::int64_t i = 0; i < count; ++i) {
            const double got = element(y.view(), i), wanted = expected[static_cast<std::size_t>(i % given)];
            if (i == 7 || i == 49)
                CHECK_MESSAGE(std::isnan(got), row.name);
            else
                CHECK_MESSAGE((got == wanted && std::signbit(got) == std::signbit(wanted)), row.name, " (",
                              name_of(row.dtype), ") element ", i, ": ", got, " instead of ", wanted);
        }
    }
}

TEST_CASE("concat: every row") {
    check_table(
        RowTest<ConcatParams, ConcatRun>{"concat", concat_table(), concat_cases(),
                                         [](const ConcatParams& p) -> std::vector<Tensor> {
                                             return {random_tensor({p.pixels * p.c_a}, DType::float64, 1),
                                                     random_tensor({p.pixels * p.c_b}, DType::float64, 2)};
                                         },
                                         [](const ConcatParams& p) -> std::vector<OutputSpec> {
                                             return {{.name = "y", .count = p.pixels * (p.c_a + p.c_b), .exact = true}};
                                         },
                                         [](ConcatRun* run, Outputs out, Inputs in, const ConcatParams& p,
                                            Stream& stream) { run(out[0], in[0], in[1], p, stream); },
                                         describe_concat});
}

TEST_CASE("split: every row") {
    check_table(RowTest<ConcatParams, SplitRun>{"split", split_table(), concat_cases(),
                                                [](const ConcatParams& p) -> std::vector<Tensor> {
                                                    return {
                                                        random_tensor({p.pixels * (p.c_a + p.c_b)}, DType::float64, 1)};
                                                },
                                                [](const ConcatParams& p) -> std::vector<OutputSpec> {
                                                    return {{.name = "a", .count = p.pixels * p.c_a, .exact = true},
                                                            {.name = "b", .count = p.pixels * p.c_b, .exact = true}};
                                                },
                                                [](SplitRun* run, Outputs out, Inputs in, const ConcatParams& p,
                                                   Stream& stream) { run(out[0], out[1], in[0], p, stream); },
                                                describe_concat});
}

TEST_CASE("elementwise: by hand") {
    Tensor y = Tensor::empty({2}, DType::float64), joined = Tensor::empty({6}, DType::float64),
           a = Tensor::empty({2}, DType::float64), b = Tensor::empty({4}, DType::float64);
    add(y.view(), tensor_of({1, 2}).view(), tensor_of({10, 20}).view(), {.count = 2}, cpu_stream());
    CHECK(values_of(y) == std::vector<double>{11, 22});
    scale(y.view(), tensor_of({1, 2}).view(), {.count = 2, .factor = -2}, cpu_stream());
    CHECK(values_of(y) == std::vector<double>{-2, -4});
    concat(joined.view(), tensor_of({1, 2}).view(), tensor_of({3, 4, 5, 6}).view(), {2, 1, 2}, cpu_stream());
    CHECK(values_of(joined) == std::vector<double>{1, 3, 4, 2, 5, 6});
    split(a.view(), b.view(), joined.view(), {2, 1, 2}, cpu_stream());
    CHECK(values_of(a) == std::vector<double>{1, 2});
    CHECK(values_of(b) == std::vector<double>{3, 4, 5, 6});
}

}  // namespace cover::test
