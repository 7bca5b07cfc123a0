// Neighbouring elements read and written as one access of up to 16 bytes. Arithmetic is in float32: what is stored as
// bfloat16 becomes float32 when it is loaded, and is rounded once, when it is stored.
#pragma once

#include <bit>
#include <type_traits>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

// How many elements of T fill 16 bytes.
template <class T>
inline constexpr int wide = static_cast<int>(16 / sizeof(T));

template <class T, int width>
struct alignas(sizeof(T) * width < 16 ? sizeof(T) * width : 16) Pack {
    T values[width];
};

template <int width>
struct PackedWords {
    unsigned words[width / 2];
};

template <int width, class T>
__device__ inline void load(float (&to)[width], const T* from) {
    const auto pack = *reinterpret_cast<const Pack<T, width>*>(from);
    if constexpr (std::is_same_v<T, bfloat16> && width % 2 == 0) {
        const auto packed = std::bit_cast<PackedWords<width>>(pack);
        for (int k = 0; k < width / 2; ++k) {
            to[2 * k] = std::bit_cast<float>(packed.words[k] << 16);
            to[2 * k + 1] = std::bit_cast<float>(packed.words[k] & 0xffff0000u);
        }
    } else {
        for (int k = 0; k < width; ++k) to[k] = static_cast<float>(pack.values[k]);
    }
}

template <int width, class T>
__device__ inline void store(T* to, const float (&from)[width]) {
    auto& pack = *reinterpret_cast<Pack<T, width>*>(to);
    if constexpr (std::is_same_v<T, bfloat16> && width % 2 == 0) {
        PackedWords<width> packed;
        for (int k = 0; k < width / 2; ++k) packed.words[k] = round_bf16x2(from[2 * k], from[2 * k + 1]);
        pack = std::bit_cast<Pack<T, width>>(packed);
    } else {
        Pack<T, width> rounded;
        for (int k = 0; k < width; ++k) rounded.values[k] = static_cast<T>(from[k]);
        pack = rounded;
    }
}

// True where every view of T begins at a multiple of 16 bytes and rows of `count` elements keep it.
template <class T, class... Views>
bool keeps_alignment(std::int64_t count, const Views&... views) {
    return count % wide<T> == 0 && ((reinterpret_cast<std::uintptr_t>(views.data) % 16 == 0) && ...);
}

// Calls body(std::integral_constant<int, width>): wide<T> elements at a time where that is possible, else one.
template <class T, class Body>
void with_width(bool is_wide, const Body& body) {
    if (is_wide)
        body(std::integral_constant<int, wide<T>>());
    else
        body(std::integral_constant<int, 1>());
}

// A block that takes a row of `items`: enough threads for it, in whole warps.
inline unsigned threads_for_row(std::int64_t items) {
    const std::int64_t warps = (items + 31) / 32;
    return static_cast<unsigned>(warps < 8 ? 32 * warps : threads_per_block);
}

// Rows of `items` are counted with 32 bits inside a block.
inline unsigned items_of_row(std::int64_t items) {
    require(items < (std::int64_t{1} << 31), ErrorKind::device, "[cuda] a row of ", items,
            " elements is too long; use a smaller patch");
    return static_cast<unsigned>(items);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
