// A contiguous array: shape, type and shared storage. Copying a Tensor shares its memory; clone() does not.
#pragma once

#include <cstdint>
#include <memory>

#include "core/dtype.h"
#include "core/shape.h"
#include "core/storage.h"
#include "core/view.h"

namespace cover {

class Tensor {
public:
    Tensor() = default;  // undefined: no storage
    // Contents are undefined.
    static Tensor empty(const Shape& shape, DType dtype = DType::float32, Device device = Device::cpu);
    static Tensor zeros(const Shape& shape, DType dtype = DType::float32, Device device = Device::cpu);

    bool defined() const { return storage_ != nullptr; }
    const Shape& shape() const { return shape_; }
    std::int64_t side(int axis) const { return shape_[axis]; }
    std::int64_t count() const { return shape_.count(); }
    DType dtype() const { return dtype_; }
    Device device() const { return storage_->device(); }
    std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype_); }

    View view();
    ConstView view() const;
    ConstView const_view() const { return view(); }
    // For the host: throws Error(internal) on a tensor of another device.
    template <class T>
    T* data() {
        require_host();
        return view().as<T>();
    }
    template <class T>
    const T* data() const {
        require_host();
        return view().as<T>();
    }

    // True when no other Tensor shares this memory.
    bool unique() const { return storage_.use_count() == 1; }
    Tensor clone() const;
    // Itself where it already lies there, else a copy on that device.
    Tensor to(Device device) const;
    // Overwrites the elements with those of `source`, which has the same shape and type and lies on any device.
    void copy_from(const Tensor& source);
    // Same memory under another shape of equal count.
    Tensor reshaped(const Shape& shape) const;
    // Same memory: count() of shape elements from element offset on.
    Tensor slice(std::int64_t offset, const Shape& shape) const;
    // Element-wise conversion between storage types (through double). This, fill and all_finite pass through the host.
    Tensor converted(DType dtype) const;
    void fill(double value);
    void clear();  // zeros
    bool all_finite() const;
    // The only element, as a double.
    double item() const;

private:
    void require_host() const {
        require(!storage_ || device() == Device::cpu, ErrorKind::internal, "[tensor] the host reads a tensor of ",
                name_of(device()));
    }

    Shape shape_;
    DType dtype_ = DType::float32;
    std::shared_ptr<Storage> storage_;
    std::int64_t offset_ = 0;  // in elements
};

}  // namespace cover
