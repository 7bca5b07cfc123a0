// Storage types of tensors: float32, float64 (reference rows, golden numbers, gradient checks) and bfloat16.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/host_device.h"

namespace cover {

// The upper half of a float32. Arithmetic happens in float32; this is a storage type.
struct bfloat16 {
    std::uint16_t bits = 0;

    bfloat16() = default;
    // Rounds to nearest even; NaN stays NaN.
    COVER_HOST_DEVICE explicit bfloat16(float value) {
        const auto u = std::bit_cast<std::uint32_t>(value);
        if ((u & 0x7fffffffu) > 0x7f800000u)
            bits = static_cast<std::uint16_t>((u >> 16) | 0x0040u);
        else
            bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
    COVER_HOST_DEVICE operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

enum class DType : std::uint8_t { float32, float64, bfloat16 };

constexpr std::size_t size_of(DType dtype) {
    switch (dtype) {
    case DType::float32: return 4;
    case DType::float64: return 8;
    case DType::bfloat16: return 2;
    }
    return 0;
}

constexpr const char* name_of(DType dtype) {
    switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::bfloat16: return "bfloat16";
    }
    return "?";
}

// What is not an activation keeps this type where activations are `activations`: parameters and their gradients,
// statistics, displacement fields, masks, losses, and every sum. See docs/architecture.md.
constexpr DType real_type(DType activations) { return activations == DType::bfloat16 ? DType::float32 : activations; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<bfloat16> {
    static constexpr DType value = DType::bfloat16;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace cover
