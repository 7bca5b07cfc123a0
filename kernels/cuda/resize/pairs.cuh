// Which inputs an up-sampling by two reads, and with what weights.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD::resize {

__device__ inline int clamped(int at, int side) { return at < 0 ? 0 : at < side ? at : side - 1; }

// In both alignments outputs 2 p + 1 and 2 p + 2 of an axis read inputs p and p + 1, where p runs from -1 to side - 1.
// At either end one output and one input exist, here each twice at half the weight.
struct Pair {
    float left[2], right[2];  // of output 2 p + 1 and of 2 p + 2
};

__device__ inline Pair pair_of(int p, int side, bool align_corners) {
    if (p < 0 || p + 1 >= side) return {{0.5f, 0.5f}, {0.5f, 0.5f}};
    if (!align_corners) return {{0.75f, 0.25f}, {0.25f, 0.75f}};
    const float whole = static_cast<float>(2 * side - 1), first = static_cast<float>(side - 1 - p) / whole,
                second = static_cast<float>(2 * side - 2 - p) / whole;
    return {{1.0f - first, 1.0f - second}, {first, second}};
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::resize
