// Statistics that a convolution leaves of what it stores: moments of each tile of pixels and each unit of channels,
// (n, tiles of a sample, c_out / 8), merged per sample and group by norm/statistics.cuh in the order of their index.
#pragma once

#include "kernels/cuda/norm/statistics.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr int unit_channels = 8;

inline bool has_whole_units(std::int64_t channels, std::int64_t groups) {
    return channels % unit_channels == 0 && (groups == 0 || channels / groups % unit_channels == 0);
}

// How a sample is cut: by the tiles of a convolution, height x width pixels, which lie in the order (d, down, across).
struct TileCut {
    unsigned units, slices;  // of a pixel; tiles of a sample
    int across, down, h, w, height, width;

    // t: the image in tiles, as n, d, h, w, down and across of HaloTiles or WgmmaShape.
    template <class Tiles>
    static TileCut of(const Tiles& t, int c_out, int height, int width) {
        return {static_cast<unsigned>(c_out / unit_channels),
                static_cast<unsigned>(t.d * t.down * t.across),
                t.across,
                t.down,
                t.h,
                t.w,
                height,
                width};
    }
    // Pixels of a tile that are inside of the image.
    __host__ __device__ constexpr int length_of(unsigned slice) const {
        const int line = static_cast<int>(slice) / across, column = static_cast<int>(slice) - line * across;
        const int left_h = h - line % down * height, left_w = w - column * width;
        return (left_h < height ? left_h : height) * (left_w < width ? left_w : width);
    }
};

// The groups of p are of whole units.
inline void launch_tile_statistics(View mean, View rstd, const norm::Moments* moments, const GroupNormParams& p,
                                   const TileCut& cut, Stream& stream) {
    launch(stream, "fused_conv, groups", blocks_for(p.n * p.groups, 1), threads_per_block, block_sum_bytes<double>(),
           norm::group_statistics<TileCut>, mean.as<float>(), rstd.as<float>(), moments, p, cut);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
