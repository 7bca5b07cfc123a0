#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/device_memory.h"

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
    t.clear();
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
    t.copy_from(*this);
    return t;
}

Tensor Tensor::to(Device device) const {
    if (!storage_ || device == this->device()) return *this;
    Tensor t = empty(shape_, dtype_, device);
    t.copy_from(*this);
    return t;
}

void Tensor::copy_from(const Tensor& source) {
    require(source.shape_ == shape_ && source.dtype_ == dtype_, ErrorKind::internal, "[tensor] cannot copy ",
            source.shape_.to_string(), " of ", name_of(source.dtype_), " into ", shape_.to_string(), " of ",
            name_of(dtype_));
    const Device other = device() != Device::cpu ? device() : source.device();
    if (other == Device::cpu)
        std::memcpy(view().data, source.view().data, bytes());
    else if (device() == source.device())
        device_memory(other).copy_within(view().data, source.view().data, bytes());
    else
        device_memory(other).copy(view().data, source.view().data, bytes());
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
    if (device() != Device::cpu) return to(Device::cpu).converted(dtype).to(device());
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

void Tensor::clear() {
    if (device() == Device::cpu)
        std::memset(view().data, 0, bytes());
    else
        device_memory(device()).clear(view().data, bytes());
}

void Tensor::fill(double value) {
    if (device() != Device::cpu) {
        Tensor element = empty({1}, dtype_);
        element.fill(value);
        device_memory(device()).fill(view().data, element.view().data, size_of(dtype_), count());
        return;
    }
    with_type(dtype_, [&](auto type) {
        using T = decltype(type);
        std::fill_n(data<T>(), count(), from_double<T>(value));
    });
}

bool Tensor::all_finite() const {
    if (device() != Device::cpu) return to(Device::cpu).all_finite();
    if (dtype_ == DType::bfloat16) return converted(DType::float32).all_finite();
    const auto finite = [this](const auto* values) {
        return std::all_of(values, values + count(), [](auto x) { return std::isfinite(x); });
    };
    return dtype_ == DType::float32 ? finite(data<float>()) : finite(data<double>());
}

double Tensor::item() const {
    require(count() == 1, ErrorKind::internal, "[tensor] ", shape_.to_string(), " is not one element");
    const Tensor host = to(Device::cpu).converted(DType::float64);
    return *host.data<double>();
}

}  // namespace cover
