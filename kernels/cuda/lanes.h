// A pixel shared by some lanes of one warp, which go through its channels side by side.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

// The lanes of a pixel: 1 << bits of them, so that no pixel lies in two warps.
struct Lanes {
    int bits;

    constexpr int count() const { return 1 << bits; }
    constexpr std::int64_t threads(std::int64_t pixels) const { return pixels << bits; }
    constexpr std::int64_t pixel_of(std::int64_t thread) const { return thread >> bits; }
    constexpr int lane_of(std::int64_t thread) const { return static_cast<int>(thread & (count() - 1)); }
};

// About four channels to a lane, or one access of `per_lane`: what a pixel costs once is then shared, and a warp still
// reads whole sectors.
constexpr Lanes lanes_for(std::int64_t channels, int per_lane = 4) {
    Lanes lanes{0};
    while (lanes.count() < 32 && per_lane * lanes.count() < channels) ++lanes.bits;
    return lanes;
}

// The sum of `value` over the lanes of a pixel, known to each. Every lane of the warp has to come here.
__device__ inline float lane_sum(float value, const Lanes& lanes) {
    for (int other = lanes.count() / 2; other > 0; other /= 2) value += shuffle_xor(value, other);
    return value;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
