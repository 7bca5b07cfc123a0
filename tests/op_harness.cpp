// The harness must be able to fail: each row here is broken on purpose, and check_row has to say so. Also: dispatch.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/elementwise.h"
#include "tests/op_conv.h"

namespace cover::test {
namespace {

// What stands beside activations of T: real_type as a type.
template <class T>
using Real = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;

template <class T>
void add_to(T& at, Real<T> value) {
    at = T(Real<T>(at) + value);
}

Tensor float32_of(ConstView v) {
    Tensor t = Tensor::empty({v.count}, v.dtype);
    std::memcpy(t.view().data, v.data, t.bytes());
    return t.converted(DType::float32);
}

// y = x rounded as it is stored there.
void store(View y, const Tensor& x) {
    const Tensor stored = x.converted(y.dtype);
    std::memcpy(y.data, stored.view().data, stored.bytes());
}

// The convolution that a row of bfloat16 owes, before it is stored. The CPU has no such row.
Tensor bfloat16_sums(ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream,
                     bool weights_rounded = true) {
    Tensor y = Tensor::empty({p.y_count()}), w = float32_of(weight);
    if (weights_rounded) w = w.converted(DType::bfloat16).converted(DType::float32);
    conv(y.view(), float32_of(x).view(), w.view(), bias, p, stream);
    return y;
}

template <class T>
void right_conv(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    if constexpr (std::is_same_v<T, bfloat16>)
        store(y, bfloat16_sums(x, weight, bias, p, stream));
    else
        conv(y, x, weight, bias, p, stream);
}

template <class T>
void right_weight_gradient(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    if constexpr (std::is_same_v<T, bfloat16>)
        conv_backward_weight(dweight, dbias, float32_of(dy).view(), float32_of(x).view(), p, stream);
    else
        conv_backward_weight(dweight, dbias, dy, x, p, stream);
}

// The right convolution first; `Break` then spoils it.
template <class T, class Break>
void broken(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    right_conv<T>(y, x, weight, bias, p, stream);
    Break{}(y.as<T>(), x.as<T>(), weight.as<Real<T>>(), p, stream);
}

// As if the kernel read the pixel to the left of the one that it should, for the last output only.
struct ShiftedTap {
    template <class T>
    void operator()(T* y, const T* x, const Real<T>* weight, const ConvParams& p, Stream&) const {
        const std::int64_t last = p.n * p.grid.pixels() - 1, centre = p.taps() / 2;
        const Real<T>* row = weight + centre * p.c_in * p.c_out;
        const T* pixel = x + last * p.c_in;
        Real<T> change = 0;
        for (std::int64_t i = 0; i < p.c_in; ++i)
            change += (Real<T>(pixel[i - p.c_in]) - Real<T>(pixel[i])) * row[i * p.c_out];
        add_to(y[last * p.c_out], change);
    }
};

// One product of the longest sum is missing, in one element.
struct DroppedTerm {
    template <class T>
    void operator()(T* y, const T* x, const Real<T>* weight, const ConvParams& p, Stream&) const {
        const std::int64_t middle = p.n * p.grid.pixels() / 2, centre = p.taps() / 2, i = p.c_in - 1;
        add_to(y[middle * p.c_out], -Real<T>(x[middle * p.c_in + i]) * weight[(centre * p.c_in + i) * p.c_out]);
    }
};

struct PlantedNaN {
    template <class T>
    void operator()(T* y, const T*, const Real<T>*, const ConvParams& p, Stream&) const {
        y[p.y_count() / 2] = T(std::numeric_limits<Real<T>>::quiet_NaN());
    }
};

struct PlantedInfinity {
    template <class T>
    void operator()(T* y, const T*, const Real<T>*, const ConvParams&, Stream&) const {
        y[0] = T(std::numeric_limits<Real<T>>::infinity());
    }
};

struct WritesBehind {
    template <class T>
    void operator()(T* y, const T*, const Real<T>*, const ConvParams& p, Stream&) const {
        y[p.y_count()] = T(0);
    }
};

struct WritesBefore {
    template <class T>
    void operator()(T* y, const T*, const Real<T>*, const ConvParams&, Stream&) const {
        y[-1] = T(0);
    }
};

// Reads one element past x and gives it no weight: harmless unless something else lies there.
struct ReadsBehind {
    template <class T>
    void operator()(T* y, const T* x, const Real<T>*, const ConvParams& p, Stream&) const {
        add_to(y[0], 0 * Real<T>(x[p.x_count()]));
    }
};

struct WritesInput {
    template <class T>
    void operator()(T*, const T* x, const Real<T>*, const ConvParams&, Stream&) const {
        add_to(const_cast<T*>(x)[0], 1);
    }
};

struct DependsOnThreads {
    template <class T>
    void operator()(T* y, const T*, const Real<T>*, const ConvParams&, Stream& stream) const {
        if (stream.pool->threads() != 3) return;
        if constexpr (std::is_same_v<T, bfloat16>)
            y[0].bits ^= 1;
        else
            y[0] = std::nextafter(y[0], T(100));
    }
};

struct Nothing {
    template <class T>
    void operator()(T*, const T*, const Real<T>*, const ConvParams&, Stream&) const {}
};

template <class T>
void forgets_last(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    Tensor whole = Tensor::empty({p.y_count()}, dtype_of<T>);
    right_conv<T>(whole.view(), x, weight, bias, p, stream);
    std::copy_n(whole.data<T>(), p.y_count() - 1, y.as<T>());
}

// Cuts the lower half off instead of rounding.
void truncates(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    const Tensor sums = bfloat16_sums(x, weight, bias, p, stream);
    for (std::int64_t i = 0; i < p.y_count(); ++i)
        y.as<bfloat16>()[i].bits =
            static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(sums.data<float>()[i]) >> 16);
}

void keeps_weights_unrounded(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p,
                             Stream& stream) {
    store(y, bfloat16_sums(x, weight, bias, p, stream, false));
}

// Rounds twice, as a row does that stores a partial sum in bfloat16.
void rounds_a_partial_sum(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    const Tensor none = Tensor::zeros({p.c_out});
    Tensor sums = bfloat16_sums(x, weight, none.view(), p, stream).converted(DType::bfloat16).converted(DType::float32);
    for (std::int64_t i = 0; i < p.y_count(); ++i) sums.data<float>()[i] += bias.as<float>()[i % p.c_out];
    store(y, sums);
}

template <class T>
std::string verdict(ConvRun* run, const ConvParams& p) {
    return check_row(conv_test(), {"broken", Device::cpu, dtype_of<T>, Math::exact, always<ConvParams>, run}, p);
}

template <class T>
void overwrites_dweight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    std::fill_n(dweight.as<Real<T>>(), dweight.count, Real<T>(0));
    right_weight_gradient<T>(dweight, dbias, dy, x, p, stream);
}

// Sums the weight gradient twice: once too often.
template <class T>
void accumulates_twice(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    right_weight_gradient<T>(dweight, dbias, dy, x, p, stream);
    right_weight_gradient<T>(dweight, dbias, dy, x, p, stream);
}

// The last pixel of the last sample is left out of the sum.
template <class T>
void drops_last_pixel(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    right_weight_gradient<T>(dweight, dbias, dy, x, p, stream);
    const std::int64_t last = p.n * p.grid.pixels() - 1, centre = p.taps() / 2;
    dweight.as<Real<T>>()[centre * p.c_in * p.c_out] -=
        Real<T>(x.as<T>()[last * p.c_in]) * Real<T>(dy.as<T>()[last * p.c_out]);
}

// A gradient that went through bfloat16 on its way into the float32 sum.
void rounds_dweight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    right_weight_gradient<bfloat16>(dweight, dbias, dy, x, p, stream);
    store(dweight, float32_of(dweight).converted(DType::bfloat16).converted(DType::float32));
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
        CHECK(weight_verdict<T>(right_weight_gradient<T>, p) == "");
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
TEST_CASE("harness: a broken bfloat16 row is found") {
    expect_all_failures<bfloat16>();
    for (const ConvParams& p : {small, large}) {
        CHECK(verdict<bfloat16>(truncates, p).find("off by") != std::string::npos);
        CHECK(verdict<bfloat16>(keeps_weights_unrounded, p).find("off by") != std::string::npos);
        CHECK(verdict<bfloat16>(rounds_a_partial_sum, p).find("off by") != std::string::npos);
        CHECK(weight_verdict<bfloat16>(rounds_dweight, p).find("dweight") != std::string::npos);
    }
}

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
    CHECK(compare_output({.name = "y", .count = 1, .terms = 1e9}, one.view(), one.view(), DType::float32) != "");
    const Tensor half = one.converted(DType::bfloat16);
    CHECK(compare_output({.name = "y", .count = 1, .terms = 5e3}, half.view(), one.view(), DType::bfloat16) == "");
    CHECK(compare_output({.name = "y", .count = 1, .terms = 5e4}, half.view(), one.view(), DType::bfloat16) != "");
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
        {.name = "guest",
         .device = Device::cuda,
         .dtype = DType::float32,
         .math = Math::exact,
         .can_run = always<ElementwiseParams>,
         .run = run,
         .proven = true,
         .by_name_only = true},
        {.name = "barred",
         .device = Device::cuda,
         .dtype = DType::float32,
         .math = Math::exact,
         .can_run = never,
         .run = run,
         .by_name_only = true,
         .why_not = [](const ElementwiseParams&, const DeviceFacts&) { return std::string("[guest] is not at home"); }},
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
    selection.rows = {{"scale", "guest"}};
    CHECK(taken(DType::float32) == "guest");
    stream.math = Math::tf32;
    CHECK(taken(DType::float32) == "guest");
    std::string sentence;
    selection.rows = {{"scale", "barred"}};
    CHECK(kind_of([&] { taken(DType::float32); }, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(sentence == "[guest] is not at home");
    stream.device = Device::cpu;
    stream.math = Math::exact;
    CHECK(kind_of([&] { taken(DType::float32); }, &sentence) == static_cast<int>(ErrorKind::configuration));
    selection.rows = {{"scale", "plain"}};
    CHECK(taken(DType::float32) == "plain");
    selection.rows = {{"add", "plain"}};
    CHECK(taken(DType::float32) == "wider");
    selection.rows = {{"scale", "no"}};
    CHECK(kind_of([&] { taken(DType::float32); }, &sentence) == static_cast<int>(ErrorKind::configuration));
    CHECK(sentence.find("'no'") != std::string::npos);
    selection.rows = {{"scale", "absent"}};
    CHECK(kind_of([&] { taken(DType::float32); }) == static_cast<int>(ErrorKind::configuration));
    stream.selection = nullptr;
    CHECK(kind_of([&] { taken(DType::bfloat16); }, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(sentence.find("wider") != std::string::npos);
}

TEST_CASE("dispatch: beside bfloat16 activations parameters are float32") {
    const ConvParams p{1, {2, 1, 1, 1}, 1, 1, 1};
    Tensor x = Tensor::zeros({1}, DType::bfloat16), y = Tensor::zeros({1}, DType::bfloat16), real = Tensor::zeros({1});
    Stream* stream = device_stream(Device::emulated);
    REQUIRE(stream != nullptr);
    const auto on = [](const Tensor& t) { return t.to(Device::emulated); };
    Tensor out = on(y), out_real = on(real);
    const Tensor in = on(x), parameter = on(real);
    const int internal = static_cast<int>(ErrorKind::internal);
    CHECK(kind_of([&] { conv(out.view(), in.view(), parameter.view(), parameter.view(), p, *stream); }) == 0);
    CHECK(kind_of([&] { conv(out.view(), in.view(), in.view(), parameter.view(), p, *stream); }) == internal);
    CHECK(kind_of([&] { conv(out.view(), in.view(), parameter.view(), in.view(), p, *stream); }) == internal);
    CHECK(kind_of([&] { conv(out_real.view(), in.view(), parameter.view(), parameter.view(), p, *stream); }) ==
          internal);
    CHECK(kind_of([&] { cast(out_real.view(), in.view(), {.count = 1}, *stream); }) == 0);
    CHECK(kind_of([&] { cast(out.view(), in.view(), {.count = 1}, *stream); }) == internal);
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
