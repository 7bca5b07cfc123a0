// Settings of one sample that stand in device memory as a struct: a float64 tensor holds its bytes, whatever its
// members are.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "core/tensor.h"

namespace cover {

// Elements of float64 that `count` records take.
template <class Record>
constexpr std::int64_t record_elements(std::int64_t count) {
    static_assert(std::is_trivially_copyable_v<Record> && sizeof(Record) % sizeof(double) == 0);
    return count * static_cast<std::int64_t>(sizeof(Record) / sizeof(double));
}

template <class Record>
Tensor records_on(Device device, std::span<const Record> records) {
    Tensor tensor = Tensor::empty({record_elements<Record>(static_cast<std::int64_t>(records.size()))}, DType::float64);
    std::memcpy(tensor.view().data, records.data(), records.size_bytes());
    return tensor.to(device);
}

template <class Record>
const Record* records_of(const ConstView& view) {
    static_assert(alignof(Record) <= alignof(double));
    return static_cast<const Record*>(view.data);
}

}  // namespace cover
