// The harness must be able to fail: each row here is broken on purpose, and check_row has to say so. Also: dispatch.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "tests/op_conv.h"

namespace cover::test {
namespace {

// The right convolution first; `Break` then spoils it.
template <class T, class Break>
void broken(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    conv(y, x, weight, bias, p, stream);
    Break{}(y.as<T>(), x.as<T>(), weight.as<T>(), p, stream);
}

// As if the kernel read the pixel to the left of the one that it should, for the last output only.
struct ShiftedTap {
    template <class T>
    void operator()(T* y, const T* x, const T* weight, const ConvParams& p, Stream&) const {
        const std::int64_t last = p.n * p.grid.pixels() - 1, centre = p.taps() / 2;
        const T *row = weight + centre * p.c_in * p.c_out, *pixel = x + last * p.c_in;
        for (std::int64_t i = 0; i < p.c_in; ++i)
            y[last * p.c_out] += (pixel[i - p.c_in] - pixel[i]) * row[i * p.c_out];
    }
};

// One product of the longest sum is missing, in one element.
struct DroppedTerm {
    template <class T>
    void operator()(T* y, const T* x, const T* weight, const ConvParams& p, Stream&) const {
        const std::int64_t middle = p.n * p.grid.pixels() / 2, centre = p.taps() / 2, i = p.c_in - 1;
        y[middle * p.c_out] -= x[middle * p.c_in + i] * weight[(centre * p.c_in + i) * p.c_out];
    }
};

struct PlantedNaN {
    template <class T>
    void operator()(T* y, const T*, const T*, const ConvParams& p, Stream&) const {
        y[p.y_count() / 2] = std::numeric_limits<T>::quiet_NaN();
    }
};

struct PlantedInfinity {
    template <class T>
    void operator()(T* y, const T*, const T*, const ConvParams&, Stream&) const {
        y[0] = std::numeric_limits<T>::infinity();
    }
};

struct WritesBehind {
    template <class T>
    void operator()(T* y, const T*, const T*, const ConvParams& p, Stream&) const {
        y[p.y_count()] = 0;
    }
};

struct WritesBefore {
    template <class T>
    void operator()(T* y, const T*, const T*, const ConvParams&, Stream&) const {
        y[-1] = 0;
    }
};

// Reads one element past x and gives it no weight: harmless unless something else lies there.
struct ReadsBehind {
    template <class T>
    void operator()(T* y, const T* x, const T*, const ConvParams& p, Stream&) const {
        y[0] += T(0) * x[p.x_count()];
    }
};

struct WritesInput {
    template <class T>
    void operator()(T*, const T* x, const T*, const ConvParams&, Stream&) const {
        const_cast<T*>(x)[0] += 1;
    }
};

struct DependsOnThreads {
    template <class T>
    void operator()(T* y, const T*, const T*, const ConvParams&, Stream& stream) const {
        if (stream.pool->threads() == 3) y[0] = std::nextafter(y[0], T(100));
    }
};

struct Nothing {
    template <class T>
    void operator()(T*, const T*, const T*, const ConvParams&, Stream&) const {}
};

template <class T>
void forgets_last(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    Tensor whole = Tensor::empty({p.y_count()}, dtype_of<T>);
    conv(whole.view(), x, weight, bias, p, stream);
    std::copy_n(whole.data<T>(), p.y_count() - 1, y.as<T>());
}

template <class T>
std::string verdict(ConvRun* run, const ConvParams& p) {
    return check_row(conv_test(), {"broken", Device::cpu, dtype_of<T>, Math::exact, always<ConvParams>, run}, p);
}

template <class T>
void overwrites_dweight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    std::fill_n(dweight.as<T>(), dweight.count, T(0));
    conv_backward_weight(dweight, dbias, dy, x, p, stream);
}

// Sums the weight gradient twice: once too often.
template <class T>
void accumulates_twice(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    conv_backward_weight(dweight, dbias, dy, x, p, stream);
    conv_backward_weight(dweight, dbias, dy, x, p, stream);
}

// The last pixel of the last sample is left out of the sum.
template <class T>
void drops_last_pixel(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    conv_backward_weight(dweight, dbias, dy, x, p, stream);
    const std::int64_t last = p.n * p.grid.pixels() - 1, centre = p.taps() / 2;
    dweight.as<T>()[centre * p.c_in * p.c_out] -= x.as<T>()[last * p.c_in] * dy.as<T>()[last * p.c_out];
}

template <class T>
std::string weight_verdict(ConvBackwardWeightRun* run, const ConvParams& p) {
    return check_row(conv_backward_weight_test(),
                     {"broken", Device::cpu, dtype_of<T>, Math::exact, always<ConvParams>, run}, p);
}

const ConvParams small{1, {2, 1, 3, 5}, 8, 8, 3};
const ConvParams large{1, {3, 5, 6, 7}, 40, 40, 3};  // 1080 terms: the loosest tolerance of the list

template <class T, class Break>
void expect_failure(const char* what, const char* word) {
    for (const ConvParams& p : {small, large}) {
        const std::string sentence = verdict<T>(broken<T, Break>, p);
        CHECK_MESSAGE(sentence.find(word) != std::string::npos, what, " (", name_of(dtype_of<T>), ", ", p.c_in,
                      " channels): ", sentence);
    }
}

template <class T>
void expect_all_failures() {
    expect_failure<T, PlantedNaN>("a NaN", "is not finite");
    expect_failure<T, PlantedInfinity>("an infinity", "is not finite");
    expect_failure<T, ShiftedTap>("a tap off by one", "off by");
    expect_failure<T, DroppedTerm>("a dropped term", "off by");
    expect_failure<T, WritesBehind>("a write behind the output", "outside");
    expect_failure<T, WritesBefore>("a write before the output", "outside");
    expect_failure<T, ReadsBehind>("a read behind the input", "is not finite");
    expect_failure<T, WritesInput>("a write to an input", "written to");
    expect_failure<T, DependsOnThreads>("other bits for other threads", "other bits for 3 threads");
    for (const ConvParams& p : {small, large}) {
        CHECK(verdict<T>(broken<T, Nothing>, p) == "");
        CHECK(verdict<T>(forgets_last<T>, p).find("is not finite") != std::string::npos);
        CHECK(weight_verdict<T>(overwrites_dweight<T>, p).find("dweight") != std::string::npos);
        CHECK(weight_verdict<T>(accumulates_twice<T>, p).find("dweight") != std::string::npos);
        CHECK(weight_verdict<T>(drops_last_pixel<T>, p).find("dweight") != std::string::npos);
    }
}

int kind_of(const std::function<void()>& body, std::string* sentence = nullptr) {
    try {
        body();
    } catch (const Error& error) {
        if (sentence) *sentence = error.what();
        return static_cast<int>(error.kind());
    }
    return 0;
}

}  // namespace

TEST_CASE("harness: a broken float32 row is found") { expect_all_failures<float>(); }
TEST_CASE("harness: a broken float64 row is found") { expect_all_failures<double>(); }

TEST_CASE("harness: a wrong gradient is found, a right one is not") {
    const auto square = [](const std::vector<Tensor>& at) { return dot(at[0], at[0]); };
    CHECK(check_gradient(square, {tensor_of({1, -2, 3})}, {tensor_of({2, -4, 6})}) == "");
    CHECK(check_gradient(square, {tensor_of({1, -2, 3})}, {tensor_of({2, -4, 6.001})}) != "");
    CHECK(check_gradient(square, {tensor_of({1, -2, 3})}, {tensor_of({-2, 4, -6})}) != "");
    CHECK(check_gradient(square, {tensor_of({1, -2, 3})}, {tensor_of({2, std::nan(""), 6})}) != "");
}

TEST_CASE("harness: difference finds a NaN on either side first") {
    const double nan = std::nan("");
    CHECK(difference(tensor_of({1, nan}).view(), tensor_of({1, 2}).view(), 1e9, 1e9).find("is not finite") !=
          std::string::npos);
    CHECK(difference(tensor_of({1, 2}).view(), tensor_of({1, nan}).view(), 1e9, 1e9).find("is not finite") !=
          std::string::npos);
    CHECK(difference(tensor_of({1}).view(), tensor_of({1, 2}).view(), 1e9, 1e9) != "");
    CHECK(difference(tensor_of({1, 2}).view(), tensor_of({1, 2}).view(), 0, 0) == "");
    CHECK(difference(tensor_of({1, 2.01}).view(), tensor_of({1, 2}).view(), 0.001, 1) != "");
    CHECK(difference(tensor_of({1, 2.01}).view(), tensor_of({1, 2}).view(), 0.1, 1e-4) != "");
    CHECK(difference(tensor_of({1, 2.01}).view(), tensor_of({1, 2}).view(), 0.1, 0.01) == "");
}

TEST_CASE("harness: a tolerance that would hide a missing term is refused") {
    const Tensor one = tensor_of({1}).converted(DType::float32);
    CHECK(compare_output({.name = "y", .count = 1, .terms = 1e4}, one.view(), one.view(), DType::float32) == "");
    CHECK(compare_output({.name = "y", .count = 1, .terms = 1e6}, one.view(), one.view(), DType::float32) != "");
}

TEST_CASE("harness: every public op has a table test") {
    std::vector<std::string> registered = registered_tables(), expected;
    for (const PublicOp& op : public_ops()) expected.push_back(op.name);
    std::sort(registered.begin(), registered.end());
    std::sort(expected.begin(), expected.end());
    CHECK(registered == expected);
}

TEST_CASE("dispatch: the last row that can run is taken, a named one must exist") {
    const auto never = [](const ElementwiseParams&, const DeviceFacts&) { return false; };
    const auto run = [](View, ConstView, const ElementwiseParams&, Stream&) {};
    const ScaleVariant table[] = {
        {"plain", Device::cpu, DType::float32, Math::exact, always<ElementwiseParams>, run},
        {"plain", Device::cpu, DType::float64, Math::exact, always<ElementwiseParams>, run},
        {"wide", Device::cpu, DType::float32, Math::exact, needs_avx2<ElementwiseParams>, run},
        {"wider", Device::cpu, DType::float32, Math::exact, needs_avx512<ElementwiseParams>, run},
        {"no", Device::cpu, DType::float32, Math::exact, never, run},
        {"rounded", Device::cpu, DType::float32, Math::tf32, always<ElementwiseParams>, run},
        {"simple", Device::cuda, DType::float32, Math::exact, always<ElementwiseParams>, run},
        {"untried", Device::cuda, DType::float32, Math::exact, always<ElementwiseParams>, run},
        {"tried", Device::cuda, DType::float32, Math::tf32, always<ElementwiseParams>, run, true},
        {"latest", Device::cuda, DType::float32, Math::tf32, always<ElementwiseParams>, run},
    };
    const std::span<const ScaleVariant> rows = table;
    const DeviceFacts bare, avx2{.avx2 = true}, avx512{.avx2 = true, .avx512 = true};
    KernelSelection selection;
    Stream stream = cpu_stream();
    const auto taken = [&](DType dtype) { return std::string(select("scale", rows, {}, dtype, stream).name); };
    stream.facts = &bare;
    CHECK(taken(DType::float32) == "plain");
    stream.facts = &avx2;
    CHECK(taken(DType::float32) == "wide");
    CHECK(taken(DType::float64) == "plain");
    stream.facts = &avx512;
    CHECK(taken(DType::float32) == "wider");
    stream.math = Math::tf32;
    CHECK(taken(DType::float32) == "rounded");
    // Where nothing rounds, TF32 allowed is the exact row.
    CHECK(taken(DType::float64) == "plain");
    // On a CUDA device what has not been proven there stands back, unless it is named.
    stream.device = Device::cuda;
    CHECK(taken(DType::float32) == "tried");
    stream.math = Math::exact;
    CHECK(taken(DType::float32) == "simple");
    stream.selection = &selection;
    selection.rows = {{"scale", "untried"}};
    CHECK(taken(DType::float32) == "untried");
    stream.device = Device::cpu;
    selection.rows = {{"scale", "plain"}};
    CHECK(taken(DType::float32) == "plain");
    selection.rows = {{"add", "plain"}};
    CHECK(taken(DType::float32) == "wider");
    std::string sentence;
    selection.rows = {{"scale", "no"}};
    CHECK(kind_of([&] { taken(DType::float32); }, &sentence) == static_cast<int>(ErrorKind::configuration));
    CHECK(sentence.find("'no'") != std::string::npos);
    selection.rows = {{"scale", "absent"}};
    CHECK(kind_of([&] { taken(DType::float32); }) == static_cast<int>(ErrorKind::configuration));
    stream.selection = nullptr;
    CHECK(kind_of([&] { taken(DType::bfloat16); }, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(sentence.find("wider") != std::string::npos);
}

TEST_CASE("dispatch: a view of the wrong size or type is refused") {
    Tensor a = Tensor::zeros({4}), b = Tensor::zeros({4}), y = Tensor::zeros({4}),
           wrong = Tensor::zeros({4}, DType::float64);
    const ElementwiseParams p{.count = 4};
    const int internal = static_cast<int>(ErrorKind::internal);
    CHECK(kind_of([&] { add(y.view(), a.view(), b.view(), p, cpu_stream()); }) == 0);
    CHECK(kind_of([&] { add(y.view(), a.view(), b.view(), {.count = 5}, cpu_stream()); }) == internal);
    CHECK(kind_of([&] { add(y.view(), a.view(), wrong.view(), p, cpu_stream()); }) == internal);
    CHECK(kind_of([&] { add(wrong.view(), a.view(), b.view(), p, cpu_stream()); }) == internal);
    CHECK(kind_of([&] { add(View{}, a.view(), b.view(), p, cpu_stream()); }) == internal);
}

}  // namespace cover::test
