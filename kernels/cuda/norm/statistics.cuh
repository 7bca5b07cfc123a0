// The statistics of group norm from moments of pieces of a sample, however the sample was cut.
#pragma once

#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/norm.h"

namespace cover::cuda::COVER_CUDA_BUILD::norm {

// Mean of some elements, and sum of the squares about it.
struct alignas(16) Moments {
    double mean, squares;
};

// mean, rstd (N, groups) from slices (N, cut.slices, cut.units), each of cut.length_of(slice) pixels and as many
// channels as a unit has; a group is a run of units. One block per (sample, group).
template <class Cut>
__global__ void group_statistics(float* mean, float* rstd, const Moments* slices, GroupNormParams p, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const unsigned groups = static_cast<unsigned>(p.groups), units = cut.units / groups, n = blockIdx.x / groups;
    const Moments* first = slices + std::int64_t{n} * cut.slices * cut.units + (blockIdx.x - n * groups) * units;
    const double width = static_cast<double>(p.channels / cut.units),
                 count = static_cast<double>(p.pixels) * width * units;
    double sum = 0;
    for (unsigned i = threadIdx.x; i < cut.slices * units; i += threads_per_block) {
        const unsigned slice = i / units;
        sum += static_cast<double>(cut.length_of(slice)) * width * first[slice * cut.units + i % units].mean;
    }
    const double centre = block_sum(sum, scratch) / count;
    double spread = 0;
    for (unsigned i = threadIdx.x; i < cut.slices * units; i += threads_per_block) {
        const unsigned slice = i / units;
        const Moments own = first[slice * cut.units + i % units];
        const double step = own.mean - centre;
        spread += own.squares + static_cast<double>(cut.length_of(slice)) * width * step * step;
    }
    spread = block_sum(spread, scratch);
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = static_cast<float>(centre);
    rstd[blockIdx.x] = static_cast<float>(1.0 / std::sqrt(spread / count + p.epsilon));
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::norm
