// Statistics that a convolution leaves of what it stores: of each tile of pixels and each unit of channels, merged
// later per sample and group in the order of their index, which depends on the shape alone.
#pragma once

#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/norm.h"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr int unit_channels = 8;

// Of the elements of some pixels in one unit: their mean, the sum of the squares about it, how many they are.
struct UnitMoments {
    float mean, squares, count;
};

// units (N, tiles of a sample, units of a pixel). One block per (sample, group).
__global__ void merge_unit_moments(float* mean, float* rstd, const UnitMoments* units, std::int64_t tiles,
                                   unsigned pixel_units, unsigned groups, double epsilon) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const unsigned n = blockIdx.x / groups, width = pixel_units / groups;
    const UnitMoments* first = units + n * tiles * pixel_units + (blockIdx.x - n * groups) * width;
    const auto tile_step = threads_per_block / width, rest = threads_per_block - tile_step * width;
    // Of this thread's share, the one after (tile, unit).
    const auto over_all = [&](const auto& use) {
        std::int64_t tile = threadIdx.x / width;
        unsigned unit = threadIdx.x - static_cast<unsigned>(tile) * width;
#pragma unroll 4
        for (; tile < tiles;) {
            use(first[tile * pixel_units + unit]);
            tile += tile_step;
            unit += rest;
            if (unit >= width) unit -= width, ++tile;
        }
    };
    double sum = 0, elements = 0;
    over_all([&](const UnitMoments& own) {
        elements += static_cast<double>(own.count);
        sum += static_cast<double>(own.count) * static_cast<double>(own.mean);
    });
    const double count = block_sum(elements, scratch), centre = block_sum(sum, scratch) / count;
    double spread = 0;
    over_all([&](const UnitMoments& own) {
        const double step = static_cast<double>(own.mean) - centre;
        spread += static_cast<double>(own.squares) + static_cast<double>(own.count) * step * step;
    });
    spread = block_sum(spread, scratch);
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = static_cast<float>(centre);
    rstd[blockIdx.x] = static_cast<float>(1.0 / std::sqrt(spread / count + epsilon));
}

// The groups of p have to be made of whole units.
inline void launch_merge_unit_moments(View mean, View rstd, const UnitMoments* units, std::int64_t tiles,
                                      const GroupNormParams& p, Stream& stream) {
    launch(stream, "conv merge_unit_moments", blocks_for(p.n * p.groups, 1), threads_per_block,
           block_sum_bytes<double>(), merge_unit_moments, mean.as<float>(), rstd.as<float>(), units, tiles,
           static_cast<unsigned>(p.channels / unit_channels), static_cast<unsigned>(p.groups), p.epsilon);
}

inline bool has_whole_units(std::int64_t channels, std::int64_t groups) {
    return groups == 0 || channels / groups % unit_channels == 0;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
