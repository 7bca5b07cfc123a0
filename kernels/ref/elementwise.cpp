#include "kernels/elementwise.h"

#include <algorithm>

namespace cover::ref {
namespace {

template <class T>
void add_run(View y, ConstView a, ConstView b, const ElementwiseParams& p, Stream&) {
    T* out = y.as<T>();
    const T *left = a.as<T>(), *right = b.as<T>();
    for (std::int64_t i = 0; i < p.count; ++i) out[i] = left[i] + right[i];
}

template <class T>
void scale_run(View y, ConstView x, const ElementwiseParams& p, Stream&) {
    T* out = y.as<T>();
    const T* in = x.as<T>();
    for (std::int64_t i = 0; i < p.count; ++i) out[i] = static_cast<T>(p.factor * static_cast<double>(in[i]));
}

template <class To, class From>
void cast_run(View y, ConstView x, const ElementwiseParams& p, Stream&) {
    To* out = y.as<To>();
    const From* in = x.as<From>();
    for (std::int64_t i = 0; i < p.count; ++i) out[i] = To(in[i]);
}

template <class T>
void concat_run(View y, ConstView a, ConstView b, const ConcatParams& p, Stream&) {
    T* out = y.as<T>();
    const T *left = a.as<T>(), *right = b.as<T>();
    for (std::int64_t pixel = 0; pixel < p.pixels; ++pixel) {
        out = std::copy_n(left + pixel * p.c_a, p.c_a, out);
        out = std::copy_n(right + pixel * p.c_b, p.c_b, out);
    }
}

template <class T>
void split_run(View a, View b, ConstView y, const ConcatParams& p, Stream&) {
    T *left = a.as<T>(), *right = b.as<T>();
    const T* in = y.as<T>();
    for (std::int64_t pixel = 0; pixel < p.pixels; ++pixel, in += p.c_a + p.c_b) {
        std::copy_n(in, p.c_a, left + pixel * p.c_a);
        std::copy_n(in + p.c_a, p.c_b, right + pixel * p.c_b);
    }
}

}  // namespace

std::span<const AddVariant> add_rows() {
    static constexpr AddVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ElementwiseParams>, add_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ElementwiseParams>, add_run<double>}};
    return rows;
}

std::span<const ScaleVariant> scale_rows() {
    static constexpr ScaleVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ElementwiseParams>, scale_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ElementwiseParams>, scale_run<double>}};
    return rows;
}

std::span<const CastVariant> cast_rows() {
    static constexpr CastVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ElementwiseParams>, cast_run<bfloat16, float>},
        {"ref", Device::cpu, DType::bfloat16, Math::exact, always<ElementwiseParams>, cast_run<float, bfloat16>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ElementwiseParams>, cast_run<double, double>}};
    return rows;
}

std::span<const ConcatVariant> concat_rows() {
    static constexpr ConcatVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ConcatParams>, concat_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ConcatParams>, concat_run<double>}};
    return rows;
}

std::span<const SplitVariant> split_rows() {
    static constexpr SplitVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ConcatParams>, split_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ConcatParams>, split_run<double>}};
    return rows;
}

}  // namespace cover::ref
