// Where a convolution's pixels and taps lie: shared by the rungs of the ladder.
#pragma once

#include <cmath>

#include "kernels/conv.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

struct Pixel {
    std::int64_t n, d, h, w;
};

__device__ inline std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

__device__ inline Pixel pixel_of(const cover::Grid& grid, std::int64_t index) {
    const std::int64_t w = index % grid.w, line = index / grid.w, h = line % grid.h, plane = line / grid.h;
    return {plane / grid.d, plane % grid.d, h, w};
}

// The pixel at `at` shifted by the tap's offset (sign 1) or against it (sign -1); -1 outside of the image.
__device__ inline std::int64_t neighbour(const ConvParams& p, const Pixel& at, int tap, int sign) {
    if (p.kernel == 1) return ((at.n * p.grid.d + at.d) * p.grid.h + at.h) * p.grid.w + at.w;
    const std::int64_t d = at.d + (p.grid.spatial_dims == 2 ? 0 : sign * (tap / 9 - 1)),
                       h = at.h + sign * (tap / 3 % 3 - 1), w = at.w + sign * (tap % 3 - 1);
    if (d < 0 || d >= p.grid.d || h < 0 || h >= p.grid.h || w < 0 || w >= p.grid.w) return -1;
    return ((at.n * p.grid.d + d) * p.grid.h + h) * p.grid.w + w;
}

// Image lines of the whole batch, (n, d, h) flattened.
COVER_HOST_DEVICE inline std::int64_t lines_of(const ConvParams& p) { return p.n * p.grid.d * p.grid.h; }

// How a weight gradient's lines are cut into slices, by shape alone: some thousand pixels each, and no more slices than
// keep the partial sums below 16 M elements.
struct Slices {
    std::int64_t count, lines;  // lines of each slice but the last

    static Slices of(const ConvParams& p) {
        const std::int64_t all = lines_of(p), wanted = (all * p.grid.w + 2047) / 2048;
        std::int64_t most = (std::int64_t{1} << 24) / p.weight_count();
        if (most < 1) most = 1;
        if (most > 65535) most = 65535;  // of grid.y
        std::int64_t count = wanted < most ? wanted : most;
        if (count > all) count = all;
        const std::int64_t lines = (all + count - 1) / count;
        return {(all + lines - 1) / lines, lines};
    }
};

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
