// What the CPU rows of all ops share: pieces of work cut by shape alone, scratch memory, and the pair of table rows of
// an op whose vector code exists once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/storage.h"
#include "kernels/variant.h"

namespace cover::cpu {

// [0, total) in pieces of `size`; the last one may be shorter. Depends on the shape alone, never on threads.
struct Pieces {
    std::int64_t total, size;

    // Pieces of about `target` elements when each of the total items holds `item_elements`.
    static Pieces of(std::int64_t total, std::int64_t item_elements, std::int64_t target) {
        return {total, std::max<std::int64_t>(1, target / std::max<std::int64_t>(1, item_elements))};
    }
    std::int64_t count() const { return (total + size - 1) / size; }
    std::int64_t begin(std::int64_t piece) const { return piece * size; }
    std::int64_t length(std::int64_t piece) const { return std::min(size, total - begin(piece)); }
};

// Elements of float32 in one task of a memory-bound op: some 10 to 50 microseconds.
inline constexpr std::int64_t task_elements = 32768;

// True where an output is too large to be still in a cache when it is read, and its rows of `channels` keep every
// vector aligned: then stores that go past the caches save reading the old contents first. The values are the same.
inline bool worth_streaming(const float* out, std::int64_t count, std::int64_t channels) {
    constexpr std::int64_t large = 4 << 20;  // 16 MiB of float32
    return count >= large && channels % 16 == 0 && reinterpret_cast<std::uintptr_t>(out) % Storage::alignment == 0;
}

// Scratch of `count` elements of T, undefined at first, from the pool of storages.
template <class T>
class Workspace {
public:
    explicit Workspace(std::int64_t count)
        : storage_(Storage::allocate(sizeof(T) * static_cast<std::size_t>(std::max<std::int64_t>(1, count)))) {}
    T* data() { return static_cast<T*>(storage_->data()); }
    const T* data() const { return static_cast<const T*>(storage_->data()); }
    T& operator[](std::int64_t i) { return data()[i]; }

private:
    std::shared_ptr<Storage> storage_;
};

// Sum over rows [0, rows) of `values` (rows, width), added up in place into row 0 as a fixed binary tree.
inline void tree_sum(double* values, std::int64_t rows, std::int64_t width) {
    for (std::int64_t stride = 1; stride < rows; stride *= 2)
        for (std::int64_t row = 0; row + stride < rows; row += 2 * stride)
            for (std::int64_t i = 0; i < width; ++i) values[row * width + i] += values[(row + stride) * width + i];
}

template <auto driver, const auto& kernels, class Run>
struct WithKernels;
template <auto driver, const auto& kernels, class... Arguments>
struct WithKernels<driver, kernels, void(Arguments...)> {
    static void run(Arguments... arguments) { driver(kernels, arguments...); }
};

// The rows cpu_avx2 and cpu_avx512 of an op: driver(kernels, arguments of Run...) with the vector code of each.
template <class Row, class Params, class Run, auto driver, const auto& kernels_avx2, const auto& kernels_avx512>
std::span<const Row> simd_rows() {
    static constexpr Row rows[] = {
        {"cpu_avx2", Device::cpu, DType::float32, Math::exact, needs_avx2<Params>,
         WithKernels<driver, kernels_avx2, Run>::run},
        {"cpu_avx512", Device::cpu, DType::float32, Math::exact, needs_avx512<Params>,
         WithKernels<driver, kernels_avx512, Run>::run},
    };
    return rows;
}

}  // namespace cover::cpu
