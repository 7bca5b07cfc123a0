// Running sums of whole numbers on the device. Included by warp.cu alone.
#pragma once

#include "kernels/cuda/block_sum.h"

namespace cover::cuda::COVER_CUDA_BUILD::warp {

constexpr int scanned_per_thread = 8;
constexpr std::int64_t scanned_per_block = std::int64_t{scanned_per_thread} * threads_per_block;

// The sum of `value` over this thread and those before it in its warp.
__device__ int warp_scan(int value) {
    const int lane = static_cast<int>(threadIdx.x) % lanes_per_warp;
    for (int distance = 1; distance < lanes_per_warp; distance *= 2) {
        const int before = shuffle(value, lane >= distance ? lane - distance : lane);
        if (lane >= distance) value += before;
    }
    return value;
}

// Scans each block of values by itself and notes its total.
__global__ void scan_blocks(int* values, int* totals, std::int64_t count) {
    Shared shared;
    int* warp_totals = shared.take<int>(warps_per_block);
    const std::int64_t begin = global_thread() * scanned_per_thread;
    int read[scanned_per_thread], own = 0;
    for (int k = 0; k < scanned_per_thread; ++k) {
        read[k] = begin + k < count ? values[begin + k] : 0;
        own += read[k];
    }
    const int up_to_here = warp_scan(own), warp = static_cast<int>(threadIdx.x) / lanes_per_warp;
    if (threadIdx.x % lanes_per_warp == lanes_per_warp - 1) warp_totals[warp] = up_to_here;
    block_sync();
    int before = up_to_here - own;
    for (int other = 0; other < warp; ++other) before += warp_totals[other];
    for (int k = 0; k < scanned_per_thread && begin + k < count; ++k) {
        values[begin + k] = before;
        before += read[k];
    }
    if (threadIdx.x == threads_per_block - 1) totals[blockIdx.x] = before;
}

__global__ void add_totals(int* values, const int* totals, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) values[i] += totals[i / scanned_per_block];
}

// values[i] becomes the sum of the values before it; their total has to fit an int.
void exclusive_scan(int* values, std::int64_t count, Stream& stream) {
    const unsigned blocks = blocks_for(count, scanned_per_block);
    Workspace<int> totals(blocks, stream);
    launch(stream, "warp_backward, scan", blocks, threads_per_block, Shared::shared_bytes_of<int>(warps_per_block),
           scan_blocks, values, totals.data(), count);
    if (blocks == 1) return;
    exclusive_scan(totals.data(), blocks, stream);
    launch(stream, "warp_backward, scan", blocks_for(count), threads_per_block, 0, add_totals, values, totals.data(),
           count);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::warp
