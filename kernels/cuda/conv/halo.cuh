// What the convolutions on tensor cores share: which tile of pixels a block works on, and how pixels come to shared
// memory.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// A kernel of side 1 sees no neighbours: its pixels may lie in any rectangle, best in one that tiles fill.
inline ConvParams without_neighbours(ConvParams p) {
    if (p.kernel != 1) return p;
    const std::int64_t pixels = p.n * p.grid.pixels();
    for (const std::int64_t width : {16, 8})
        if (pixels % width == 0) {
            p.n = 1;
            p.grid = {2, 1, pixels / width, width};
            break;
        }
    return p;
}

// The image cut into tiles of one plane, in the order (n, d, down, across).
struct HaloTiles {
    int n, d, h, w, kernel_depth;
    int across, down, tiles;

    static HaloTiles of(const ConvParams& p, int height, int width) {
        const std::int64_t across = (p.grid.w + width - 1) / width, down = (p.grid.h + height - 1) / height;
        const std::int64_t tiles = p.n * p.grid.d * down * across;
        constexpr std::int64_t most = std::numeric_limits<int>::max() - 4096;
        require(tiles <= most && p.grid.h <= most && p.grid.w * p.c_in <= most && p.grid.w * p.c_out <= most,
                ErrorKind::device, "[conv] ", tiles, " tiles of ", height, " x ", width, " pixels, lines of ", p.grid.w,
                ": too many for this row; use a smaller batch or patch");
        return {static_cast<int>(p.n),      static_cast<int>(p.grid.d), static_cast<int>(p.grid.h),
                static_cast<int>(p.grid.w), p.kernel_depth(),           static_cast<int>(across),
                static_cast<int>(down),     static_cast<int>(tiles)};
    }
};

// The tile's first pixel, on plane n D + d of the batch, and the planes of the kernel that lie inside of the image
// there.
struct HaloPlace {
    int plane, h, w, first_plane, planes;
};

__device__ inline HaloPlace halo_place(const HaloTiles& t, int tile, int height, int width) {
    const int line = tile / t.across, plane = line / t.down, reach = t.kernel_depth / 2;
    HaloPlace at{plane, (line - plane * t.down) * height, (tile - line * t.across) * width, 0, 1};
    if (reach == 0) return at;
    const int d = plane % t.d, behind = t.d - 1 - d;
    at.first_plane = d < reach ? reach - d : 0;
    at.planes = t.kernel_depth - at.first_plane - (behind < reach ? reach - behind : 0);
    return at;
}

__device__ inline unsigned two_bf16(float low, float high) {
    return bfloat16(low).bits | static_cast<unsigned>(bfloat16(high).bits) << 16;
}

// Two neighbouring channels as they are stored.
template <class T>
__device__ auto pair_of(float low, float high) {
    if constexpr (std::is_same_v<T, float>)
        return make_float2(low, high);
    else
        return two_bf16(low, high);
}
// Eight of them, one access of 16 bytes or two.
struct TwoQuads {
    float4 low, high;
};
__device__ inline uint4 eight_of(unsigned a, unsigned b, unsigned c, unsigned d) { return make_uint4(a, b, c, d); }
__device__ inline TwoQuads eight_of(float2 a, float2 b, float2 c, float2 d) {
    return {make_float4(a.x, a.y, b.x, b.y), make_float4(c.x, c.y, d.x, d.y)};
}
template <class T>
using Eight = std::conditional_t<std::is_same_v<T, float>, TwoQuads, uint4>;

// Asks for the copies of rows x columns pixels from (h, w) of a plane on, plane n D + d of the batch, `pieces` times 16
// bytes of channels of each from channel c0 on; zeros outside of the image and behind the last channel.
template <int rows, int columns, int pieces, int pitch, int threads, class T>
__device__ void stage_pixels(T* to, const T* from, const HaloTiles& t, int channels, int plane, int h, int w, int c0) {
    constexpr unsigned piece_channels = 16 / sizeof(T);
    const std::int64_t line = static_cast<std::int64_t>(t.w) * channels;
    const std::int64_t corner =
        (static_cast<std::int64_t>(plane) * t.h + h) * line + static_cast<std::int64_t>(w) * channels + c0;
#pragma unroll 1
    for (unsigned e = threadIdx.x; e < rows * columns * pieces; e += threads) {
        const unsigned piece = e % pieces, at = e / pieces, row = at / columns, column = at % columns;
        const bool inside = static_cast<unsigned>(h + static_cast<int>(row)) < static_cast<unsigned>(t.h) &&
                            static_cast<unsigned>(w + static_cast<int>(column)) < static_cast<unsigned>(t.w) &&
                            c0 + static_cast<int>(piece_channels * piece) < channels;
        const std::int64_t offset = corner + row * line + column * channels + piece_channels * piece;
        copy_async_16(to + at * pitch + piece_channels * piece, from + (inside ? offset : 0), inside);
    }
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
