#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cover {
namespace {

template <class F>
void with_type(DType dtype, F&& f) {
    switch (dtype) {
    case DType::float32: f(float{}); return;
    case DType::float64: f(double{}); return;
    case DType::bfloat16: f(bfloat16{}); return;
    }
}

template <class T>
T from_double(double value) {
    if constexpr (std::is_same_v<T, bfloat16>)
        return bfloat16(static_cast<float>(value));
    else
        return static_cast<T>(value);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
    Tensor t;
    t.shape_ = shape;
    t.dtype_ = dtype;
    t.storage_ = Storage::allocate(static_cast<std::size_t>(shape.count()) * size_of(dtype), device);
    return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
    Tensor t = empty(shape, dtype, device);
    std::memset(t.view().data, 0, t.bytes());
    return t;
}

View Tensor::view() {
    if (!storage_) return {};
    return {static_cast<char*>(storage_->data()) + static_cast<std::size_t>(offset_) * size_of(dtype_), dtype_,
            count()};
}

ConstView Tensor::view() const {
    if (!storage_) return {};
    return {static_cast<const char*>(storage_->data()) + static_cast<std::size_t>(offset_) * size_of(dtype_), dtype_,
            count()};
}

Tensor Tensor::clone() const {
    Tensor t = empty(shape_, dtype_, device());
    std::memcpy(t.view().data, view().data, bytes());
    return t;
}

Tensor Tensor::reshaped(const Shape& shape) const {
    require(shape.count() == count(), ErrorKind::internal, "[tensor] cannot view ", shape_.to_string(), " as ",
            shape.to_string());
    Tensor t = *this;
    t.shape_ = shape;
    return t;
}

Tensor Tensor::slice(std::int64_t offset, const Shape& shape) const {
    require(offset >= 0 && offset + shape.count() <= count(), ErrorKind::internal, "[tensor] a slice ",
            shape.to_string(), " at element ", offset, " does not fit in ", shape_.to_string());
    Tensor t = *this;
    t.shape_ = shape;
    t.offset_ += offset;
    return t;
}

Tensor Tensor::converted(DType dtype) const {
    Tensor t = empty(shape_, dtype, device());
    with_type(dtype_, [&](auto from) {
        using From = decltype(from);
        with_type(dtype, [&](auto to) {
            using To = decltype(to);
            const From* source = data<From>();
            To* target = t.data<To>();
            for (std::int64_t i = 0; i < count(); ++i) target[i] = from_double<To>(static_cast<double>(source[i]));
        });
    });
    return t;
}

void Tensor::fill(double value) {
    with_type(dtype_, [&](auto type) {
        using T = decltype(type);
        std::fill_n(data<T>(), count(), from_double<T>(value));
    });
}

bool Tensor::all_finite() const {
    if (dtype_ == DType::bfloat16) return converted(DType::float32).all_finite();
    const auto finite = [this](const auto* values) {
        return std::all_of(values, values + count(), [](auto x) { return std::isfinite(x); });
    };
    return dtype_ == DType::float32 ? finite(data<float>()) : finite(data<double>());
}

}  // namespace cover
