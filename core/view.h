// What kernels see: a pointer, its type and how many elements lie behind it. A default view means "not wanted" where a
// kernel allows that.
#pragma once

#include <cstdint>

#include "core/check.h"
#include "core/dtype.h"

namespace cover {

struct View {
    void* data = nullptr;
    DType dtype = DType::float32;
    std::int64_t count = 0;

    View() = default;
    View(void* data_, DType dtype_, std::int64_t count_) : data(data_), dtype(dtype_), count(count_) {}
    template <class T>
    View(T* data_, std::int64_t count_) : data(data_), dtype(dtype_of<T>), count(count_) {}

    explicit operator bool() const { return data != nullptr; }
    template <class T>
    T* as() const {
        require(!data || dtype == dtype_of<T>, ErrorKind::internal, "[view] holds ", name_of(dtype), ", asked for ",
                name_of(dtype_of<T>));
        return static_cast<T*>(data);
    }
};

struct ConstView {
    const void* data = nullptr;
    DType dtype = DType::float32;
    std::int64_t count = 0;

    ConstView() = default;
    ConstView(const void* data_, DType dtype_, std::int64_t count_) : data(data_), dtype(dtype_), count(count_) {}
    template <class T>
    ConstView(const T* data_, std::int64_t count_) : data(data_), dtype(dtype_of<T>), count(count_) {}
    ConstView(const View& v) : data(v.data), dtype(v.dtype), count(v.count) {}

    explicit operator bool() const { return data != nullptr; }
    template <class T>
    const T* as() const {
        require(!data || dtype == dtype_of<T>, ErrorKind::internal, "[view] holds ", name_of(dtype), ", asked for ",
                name_of(dtype_of<T>));
        return static_cast<const T*>(data);
    }
};

}  // namespace cover
