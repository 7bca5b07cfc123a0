// Philox 4x32 with ten rounds (Salmon et al., SC 2011) and what is drawn from its blocks, in one header for every
// device: a number is the same whoever makes it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "core/host_device.h"

namespace cover {

using PhiloxBlock = std::array<std::uint32_t, 4>;

COVER_HOST_DEVICE inline PhiloxBlock philox4x32(PhiloxBlock c, std::array<std::uint32_t, 2> k) {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
        c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return c;
}

// The blocks of one stream of numbers (RandomStream::blocks()), as kernels are handed them.
struct PhiloxStream {
    std::uint32_t counter[3] = {};  // behind the block's index
    std::uint32_t key[2] = {};

    COVER_HOST_DEVICE PhiloxBlock block(std::uint32_t index) const {
        return philox4x32({index, counter[0], counter[1], counter[2]}, {key[0], key[1]});
    }
};

// [0, 1) in steps of 2^-24.
COVER_HOST_DEVICE inline float uniform_of(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// Box-Muller on one block: four standard normals. The same to rounding on every device, whose logarithms and cosines
// differ in their last bits.
COVER_HOST_DEVICE inline std::array<double, 4> normals(const PhiloxBlock& block) {
    std::array<double, 4> out{};
    for (unsigned pair = 0; pair < 2; ++pair) {
        const double u = (static_cast<double>(block[2 * pair]) + 1.0) * 0x1p-32;  // (0, 1]
        const double v = static_cast<double>(block[2 * pair + 1]) * 0x1p-32;
        const double radius = std::sqrt(-2.0 * std::log(u));
        out[2 * pair] = radius * std::cos(2.0 * std::numbers::pi * v);
        out[2 * pair + 1] = radius * std::sin(2.0 * std::numbers::pi * v);
    }
    return out;
}

}  // namespace cover
