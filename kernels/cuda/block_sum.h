// Sums over a thread block of threads_per_block in a fixed tree: the same bits in every run.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

inline constexpr int lanes_per_warp = 32;
inline constexpr int warps_per_block = threads_per_block / lanes_per_warp;

// What block_sum needs of the launch's shared_bytes, taken by Shared::take<T>(warps_per_block).
template <class T>
constexpr std::size_t block_sum_bytes() {
    return Shared::shared_bytes_of<T>(warps_per_block);
}

// The sum of `value` over the block, known to every thread. Every thread has to come here.
template <class T>
__device__ T block_sum(T value, T* scratch) {
    for (int lanes = lanes_per_warp / 2; lanes > 0; lanes /= 2) value += shuffle_xor(value, lanes);
    block_sync();  // an earlier sum's scratch has been read
    if (threadIdx.x % lanes_per_warp == 0) scratch[threadIdx.x / lanes_per_warp] = value;
    block_sync();
    T sum = scratch[0];
    for (int warp = 1; warp < warps_per_block; ++warp) sum += scratch[warp];
    return sum;
}

// The sum of values[0], values[step], ... below `count`, taken by one block.
template <class T>
__device__ T block_sum_of(const T* values, std::int64_t count, std::int64_t step, T* scratch) {
    T sum = 0;
    for (std::int64_t i = threadIdx.x; i * step < count; i += threads_per_block) sum += values[i * step];
    return block_sum(sum, scratch);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
