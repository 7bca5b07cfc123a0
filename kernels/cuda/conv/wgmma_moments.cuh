// What the multiplying warpgroups of a fused kernel do with a tile's sums: they store them as wgmma.cuh does, and keep
// the statistics of what is stored.
#pragma once

#include "kernels/cuda/conv/unit_moments.cuh"
#include "kernels/cuda/conv/wgmma_pending.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr int fused_threads = 4 * hopper::warpgroup, preparing_warps = 7;
// Of what a warp stores of a block of pixels in one unit: mean, the sum of the squares about it, how many elements.
struct StripMoments {
    float mean, squares, count;
};

// What a fused kernel has in shared memory besides its stages and barriers: statistics of strips (the 16 pixels that a
// warp has of a block of pixels), twice for each warpgroup, and what the preparing warps keep. Registers of the two
// warpgroups that copy and prepare, and of the two that multiply, are 128 on average.
template <class Tile>
struct FusedTile {
    static constexpr int units = Tile::outputs / unit_channels;
    static constexpr int strips = Tile::own * 4 * units;  // of a warpgroup
    static constexpr int coarse = preparing_warps * coarse_bytes;
    static constexpr int bytes = coarse + 4 * strips * static_cast<int>(sizeof(StripMoments));
    static constexpr int multiplying_registers = Tile::own * Tile::outputs > 128 ? 192 : 168,
                         preparing_registers = 256 - multiplying_registers;
};

#if COVER_SM90A

// The thread's number in its warpgroup. Kept in a register over a tile's products it would push sums out.
__device__ inline int thread_of_warpgroup() { return hopper::read_thread_index() % hopper::warpgroup; }

// store_place after the products, where few registers are left for what is known before them.
__device__ inline StorePlace strip_place(std::uint16_t* out, const WgmmaShape& s, int block, int o) {
    const int thread = thread_of_warpgroup(), lane = thread % 32;
    const int w = block % s.across * 8 + lane / 4, line = block / s.across, h = line % s.down * 8 + thread / 32 * 2;
    const std::int64_t plane = line / s.down;
    const bool inside = block < s.pixel_blocks && w < s.w;
    return {out + ((plane * s.h + h) * s.w + w) * s.c_out + o + 8 * (lane % 4), inside && h < s.h,
            inside && h + 1 < s.h};
}

// The sums of four values over the lanes of a warp: afterwards a lane holds that of value lane / 8. Halves are
// exchanged first, so that each step has half as many values left.
__device__ inline float sum_by_lanes(const float (&value)[4]) {
    const bool upper = threadIdx.x & 16, odd = threadIdx.x & 8;
    const float first = (upper ? value[2] : value[0]) + shuffle_xor(upper ? value[0] : value[2], 16),
                second = (upper ? value[3] : value[1]) + shuffle_xor(upper ? value[1] : value[3], 16);
    float sum = (odd ? second : first) + shuffle_xor(odd ? first : second, 8);
#pragma unroll
    for (int lanes = 4; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
    return sum;
}

// Stores a warp's strip of a block of pixels, as store_block does, and leaves in `strip` the moments of each unit of
// what was stored. bias(u) gives those of the two channels that a lane has of unit u. Four units at a time.
template <int count, class Bias>
__device__ void store_strip(const StorePlace& place, const float (&sum)[count], const Bias& bias, std::int64_t line,
                            StripMoments* strip) {
    const int lane = thread_of_warpgroup() % 32;
    const bool odd = lane & 1, upper = lane & 2;
    // A lane has two channels of a pixel.
    const float elements = static_cast<float>(2 * (__popc(ballot(place.first)) + __popc(ballot(place.second))));
    const float share = elements > 0 ? __fdividef(1.0f, elements) : 0;
#pragma unroll
    for (int j = 0; j < count / 4; j += 4) {
        unsigned pair[2][4];
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const float2 b = bias(j + q);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int at = 4 * (j + q) + 2 * r;
                pair[r][q] = hopper::round_pair(sum[at] + b.x, sum[at + 1] + b.y);
            }
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const unsigned got0 = shuffle_xor(upper ? pair[r][0] : pair[r][2], 2),
                           got1 = shuffle_xor(upper ? pair[r][1] : pair[r][3], 2);
            const unsigned low0 = upper ? got0 : pair[r][0], high0 = upper ? pair[r][2] : got0;
            const unsigned low1 = upper ? got1 : pair[r][1], high1 = upper ? pair[r][3] : got1;
            const unsigned low = shuffle_xor(odd ? low0 : low1, 1), high = shuffle_xor(odd ? high0 : high1, 1);
            const uint4 all = odd ? uint4{low, low1, high, high1} : uint4{low0, low, high0, high};
            if (r == 0 ? place.first : place.second) *reinterpret_cast<uint4*>(place.pixel + r * line + 8 * j) = all;
        }
        const auto over_pixels = [&](int q, const auto& term) {
            float part = 0;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float more = term(__uint_as_float(pair[r][q] << 16), __uint_as_float(pair[r][q] & 0xffff0000u));
                part += (r == 0 ? place.first : place.second) ? more : 0;
            }
            return part;
        };
        float part[4];
#pragma unroll
        for (int q = 0; q < 4; ++q) part[q] = over_pixels(q, [](float low, float high) { return low + high; });
        const float mean = sum_by_lanes(part) * share;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const float centre = shuffle(mean, 8 * q);
            part[q] = over_pixels(q, [centre](float low, float high) {
                return fmaf(high - centre, high - centre, (low - centre) * (low - centre));
            });
        }
        const float squares = sum_by_lanes(part);
        if (lane % 8 == 0) strip[j + lane / 8] = {mean, squares, elements};
        warp_sync();  // keeps the compiler from working on all units at once, for which registers do not last
    }
}

// Merges the four strips of each block of pixels and unit, and stores them to moments (blocks, units of a pixel); one
// thread each. strips (own, 4, units); blocks from `first` on, units from `unit` on.
template <int units>
__device__ void merge_strips(norm::Moments* moments, const StripMoments* strips, int own, int first, int pixel_blocks,
                             int unit, int pixel_units) {
    const int thread = thread_of_warpgroup(), i = thread / units, u = thread % units;
    if (i >= own || first + i >= pixel_blocks) return;
    const StripMoments* const from = strips + i * 4 * units + u;
    float count = 0, sum = 0;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        count += from[q * units].count;
        sum += from[q * units].count * from[q * units].mean;
    }
    const float mean = __fdividef(sum, count);
    float squares = 0;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        const float step = from[q * units].mean - mean;
        squares += from[q * units].squares + from[q * units].count * (step * step);
    }
    moments[static_cast<std::int64_t>(first + i) * pixel_units + unit + u] = {static_cast<double>(mean),
                                                                              static_cast<double>(squares)};
}

// Where a warpgroup leaves its strips: two buffers in turns. What is written to one is read after the warpgroup_sync of
// its tile, and written again two tiles later, after the sync of the tile between, at which the readers have arrived.
template <class Tile>
struct Statistics {
    norm::Moments* moments;  // null: none are wanted
    StripMoments* strips;
    int consumer, turn = 0;

    __device__ Statistics(norm::Moments* all, unsigned char* shared, int consumer_)
        : moments(all),
          strips(reinterpret_cast<StripMoments*>(shared) + consumer_ * 2 * FusedTile<Tile>::strips),
          consumer(consumer_) {}
    __device__ StripMoments* strip(int i) const {
        constexpr int units = FusedTile<Tile>::units;
        return strips + turn * FusedTile<Tile>::strips + (4 * i + thread_of_warpgroup() / 32) * units;
    }
    // Every thread of the warpgroup comes here, or none: moments is the same for all.
    __device__ void finish_tile(int own, int first, int o, const WgmmaShape& s) {
        if (!moments) return;
        hopper::warpgroup_sync(1 + consumer);
        merge_strips<FusedTile<Tile>::units>(moments, strips + turn * FusedTile<Tile>::strips, own, first,
                                             s.pixel_blocks, o / unit_channels, s.c_out / unit_channels);
        turn ^= 1;
    }
};

#endif

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
