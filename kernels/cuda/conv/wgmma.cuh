// Rung 6 of the convolution's ladder: wgmma and the TMA, for Hopper alone (sm_90a). bfloat16 features, float32 sums;
// the float32 weights are rounded into a packed copy first.
//
// A tile is four blocks of 8 x 8 pixels, anywhere in the batch, and 64 or 128 output channels. One warp asks the TMA
// for what comes next: 64 channels of each block's pixels with their halo (zeros outside of the image), and the weights
// of one tap for these channels. Two warpgroups multiply, two blocks of pixels each: the 64 rows of a product are a
// block's pixels, so that a tap is nothing but another place to start in the block with its halo. Two rings of barriers
// lie between: full, when the bytes have landed; empty, when all eight warps have read them.
#pragma once

#include "kernels/cuda/conv/geometry.cuh"
#include "kernels/cuda/hopper.h"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

struct WgmmaShape {
    int n, d, h, w, c_in, c_out;
    int kernel_depth;
    int down, across;  // blocks of pixels
    int pixel_blocks;  // of the batch
    int tiles, whole;  // whole tiles come first, then halves: half as many blocks of pixels
};

// lead: by how many taps the first warpgroup is ahead of the second, so that one multiplies while the other stores.
template <int outputs_, int pixel_stages_, int weight_stages_, int lead_>
struct WgmmaTile {
    static constexpr int outputs = outputs_, pixel_stages = pixel_stages_, weight_stages = weight_stages_, lead = lead_;
    static constexpr int depth = 64;  // channels of a step: rows of 128 bytes
    static constexpr int own = 2, consumers = 2, blocks = own * consumers;
    static constexpr int threads = (consumers + 1) * hopper::warpgroup;
    static constexpr int row_bytes = 10 * 128, box_bytes = 10 * row_bytes;  // a block with its halo
    static constexpr int block_bytes = (box_bytes + 1023) / 1024 * 1024;
    static constexpr int pixel_bytes = blocks * block_bytes, weight_bytes = outputs * 128;
    static constexpr std::size_t shared_bytes = 1024 + static_cast<std::size_t>(pixel_stages) * pixel_bytes +
                                                static_cast<std::size_t>(weight_stages) * weight_bytes +
                                                16 * (pixel_stages + weight_stages) + 16;
};

// Where a ring stands: which stage, and the parity of its phase.
struct RingPlace {
    int stage = 0;
    unsigned parity = 0;
    __device__ void advance(int stages) {
        if (++stage == stages) stage = 0, parity ^= 1;
    }
    __device__ void skip(int count, int stages) {
        for (stage += count; stage >= stages; parity ^= 1) stage -= stages;
    }
};

#if COVER_SM90A
// Where a thread stores what it holds of a block of pixels: two pixels, `line` elements apart, from output channel
// o + 8 (t % 4) on. Known before the products, so that nothing but the sums is waited for.
struct StorePlace {
    std::uint16_t* pixel;
    bool first, second;
};
__device__ inline StorePlace store_place(std::uint16_t* out, const WgmmaShape& s, int block, int o) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
    const int w = block % s.across * 8 + lane / 4, line = block / s.across, h = line % s.down * 8 + 2 * warp;
    const std::int64_t plane = line / s.down;
    const bool inside = block < s.pixel_blocks && w < s.w;
    return {out + ((plane * s.h + h) * s.w + w) * s.c_out + o + 8 * (lane % 4), inside && h < s.h,
            inside && h + 1 < s.h};
}

// The biases of the channels of which a thread holds sums; zeros where there are none.
template <int pairs>
__device__ void load_bias(float2 (&b)[pairs], const float* __restrict__ bias, int o) {
#pragma unroll
    for (int j = 0; j < pairs; ++j)
        b[j] = bias ? __ldg(reinterpret_cast<const float2*>(bias + o + 8 * j + threadIdx.x % 4 * 2)) : float2{0, 0};
}

// Stores a block of pixels from a product's sums and the biases. A thread holds pairs of channels of two pixels; the
// four lanes of a pixel swap them, so that each stores eight channels in a row.
template <int count>
__device__ void store_block(const StorePlace& place, const float (&sum)[count], const float2 (&bias)[count / 4],
                            std::int64_t line) {
    const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        std::uint16_t* const pixel = place.pixel + r * line;
        const bool stored = r == 0 ? place.first : place.second;
#pragma unroll
        for (int j = 0; j < count / 16; ++j) {
            unsigned pair[4];
#pragma unroll
            for (int q = 0; q < 4; ++q) {
                const int at = 16 * j + 4 * q + 2 * r;
                pair[q] = hopper::round_pair(sum[at] + bias[4 * j + q].x, sum[at + 1] + bias[4 * j + q].y);
            }
            const unsigned got0 = shuffle_xor(upper ? pair[0] : pair[2], 2),
                           got1 = shuffle_xor(upper ? pair[1] : pair[3], 2);
            const unsigned low0 = upper ? got0 : pair[0], high0 = upper ? pair[2] : got0;
            const unsigned low1 = upper ? got1 : pair[1], high1 = upper ? pair[3] : got1;
            const unsigned low = shuffle_xor(odd ? low0 : low1, 1), high = shuffle_xor(odd ? high0 : high1, 1);
            const uint4 all = odd ? uint4{low, low1, high, high1} : uint4{low0, low, high0, high};
            if (stored) *reinterpret_cast<uint4*>(pixel + 32 * j) = all;
        }
    }
}
#endif

#if COVER_SM90A
// One warpgroup's products of a tile: `own` blocks of pixels, whose first lies `pixel_base` into a stage. The stages
// are given back one step late, when the products that read them have ended.
template <class Tile, int own>
__device__ void multiply_tile(float (&sum)[Tile::own][Tile::outputs / 2], int steps, RingPlace& pixel, RingPlace& by,
                              unsigned pixel_base, unsigned weight_base, std::uint64_t* pixels_full,
                              std::uint64_t* pixels_empty, std::uint64_t* weights_full, std::uint64_t* weights_empty,
                              std::uint64_t* lead) {
    using namespace hopper;
    const bool leader = threadIdx.x % 32 == 0;
    int accumulate = 0, read_pixel = -1, read_weight = -1;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        barrier_wait(pixels_full + pixel.stage, pixel.parity, 300 + pixel.stage);
        const unsigned x = pixel_base + pixel.stage * Tile::pixel_bytes;
#pragma unroll 1
        for (int tap = 0; tap < 9; ++tap) {
            barrier_wait(weights_full + by.stage, by.parity, 400 + by.stage);
            const std::uint64_t a = matrix<128>(x + tap / 3 * Tile::row_bytes + tap % 3 * 128, Tile::row_bytes);
            const std::uint64_t b = matrix<128>(weight_base + by.stage * Tile::weight_bytes, 1024);
            products_fence();
#pragma unroll
            for (int k = 0; k < Tile::depth / 16; ++k) {
#pragma unroll
                for (int i = 0; i < own; ++i)
                    multiply_add_warpgroup<0, 0>(sum[i], moved(a, i * Tile::block_bytes + 32 * k), moved(b, 32 * k),
                                                 accumulate);
                accumulate = 1;
            }
            products_commit();
            products_wait<1>();
            if (leader) {
                if (read_weight >= 0) barrier_arrive(weights_empty + read_weight);
                if (read_pixel >= 0) barrier_arrive(pixels_empty + read_pixel);
                if (lead && step == 0 && tap == Tile::lead) barrier_arrive(lead);
            }
            read_weight = by.stage;
            read_pixel = tap == 8 ? pixel.stage : -1;
            by.advance(Tile::weight_stages);
        }
        pixel.advance(Tile::pixel_stages);
    }
    products_wait<0>();
    if (leader) {
        barrier_arrive(weights_empty + read_weight);
        barrier_arrive(pixels_empty + read_pixel);
    }
}
#endif

template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    wgmma_conv(const __grid_constant__ hopper::TensorMap in, const __grid_constant__ hopper::TensorMap weight,
               std::uint16_t* __restrict__ out, const float* __restrict__ bias, WgmmaShape s) {
#if COVER_SM90A
    using namespace hopper;
    COVER_SHARED_MEMORY(all);
    unsigned char* const pixels = all + (1024 - shared_address(all) % 1024) % 1024;
    unsigned char* const weights = pixels + Tile::pixel_stages * Tile::pixel_bytes;
    auto* const pixels_full = reinterpret_cast<std::uint64_t*>(weights + Tile::weight_stages * Tile::weight_bytes);
    auto* const pixels_empty = pixels_full + Tile::pixel_stages;
    auto* const weights_full = pixels_empty + Tile::pixel_stages;
    auto* const weights_empty = weights_full + Tile::weight_stages;
    auto* const lead = weights_empty + Tile::weight_stages;
    if (threadIdx.x == 0) {
        for (int i = 0; i < Tile::pixel_stages; ++i) {
            barrier_init(pixels_full + i, 1);
            barrier_init(pixels_empty + i, 4 * Tile::consumers);
        }
        for (int i = 0; i < Tile::weight_stages; ++i) {
            barrier_init(weights_full + i, 1);
            barrier_init(weights_empty + i, 4 * Tile::consumers);
        }
        barrier_init(lead, 4);
        barrier_init_fence();
        prefetch_map(in);
        prefetch_map(weight);
    }
    block_sync();

    const int output_groups = s.c_out / Tile::outputs;
    // By shuffle, so that the compiler knows that it is one for a warp.
    const int group = shuffle(static_cast<int>(threadIdx.x) / warpgroup, 0);
    // The first block of pixels of a tile, and how many each warpgroup has of it.
    const auto place = [&](int tile, int& first, int& own, int& o) {
        own = tile < s.whole ? Tile::own : Tile::own / 2;
        o = tile % output_groups * Tile::outputs;
        first = tile < s.whole
                    ? tile / output_groups * Tile::blocks
                    : s.whole / output_groups * Tile::blocks + (tile - s.whole) / output_groups * (Tile::blocks / 2);
    };
    if (group == 0) {
        registers_decrease<40>();
        // A lane to each block of pixels; the first asks for the weights as well.
        if (threadIdx.x >= Tile::blocks) return;
        constexpr unsigned lanes = (1u << Tile::blocks) - 1;
        const int lane = static_cast<int>(threadIdx.x);
        RingPlace pixel, by;
#pragma unroll 1
        for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
            int first, own, o;
            place(tile, first, own, o);
            // Lanes 0 and 1 belong to the first warpgroup. A block past the last lies in an image past the last: zeros.
            const int block = first + lane / Tile::own * own + lane % Tile::own;
            const bool wanted = lane % Tile::own < own;
            const int w = block % s.across * 8 - 1, line = block / s.across, h = line % s.down * 8 - 1,
                      plane = line / s.down, d = plane % s.d - s.kernel_depth / 2, n = plane / s.d;
#pragma unroll 1
            for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                for (int c = 0; c < s.c_in; c += Tile::depth) {
                    if (lane == 0) {
                        barrier_wait(pixels_empty + pixel.stage, pixel.parity ^ 1, 100 + pixel.stage);
                        barrier_arrive_expecting(pixels_full + pixel.stage, Tile::consumers * own * Tile::box_bytes);
                    }
                    warp_sync(lanes);
                    if (wanted)
                        copy_box(pixels + pixel.stage * Tile::pixel_bytes + lane * Tile::block_bytes, in,
                                 pixels_full + pixel.stage, c, w, h, d + kd, n);
                    pixel.advance(Tile::pixel_stages);
                    if (lane == 0)
#pragma unroll 1
                        for (int tap = 9 * kd; tap < 9 * kd + 9; ++tap) {
                            barrier_wait(weights_empty + by.stage, by.parity ^ 1, 200 + by.stage);
                            barrier_arrive_expecting(weights_full + by.stage, Tile::weight_bytes);
                            copy_box(weights + by.stage * Tile::weight_bytes, weight, weights_full + by.stage, c,
                                     tap * s.c_out + o);
                            by.advance(Tile::weight_stages);
                        }
                }
        }
    } else {
        registers_increase<232>();
        const int consumer = group - 1, steps = s.kernel_depth * (s.c_in / Tile::depth);
        const unsigned pixel_base = shared_address(pixels) + consumer * Tile::own * Tile::block_bytes;
        RingPlace pixel, by;
        if (Tile::lead > 0 && consumer == 1) barrier_wait(lead, 0, 500);
        std::uint64_t* announced = Tile::lead > 0 && consumer == 0 ? lead : nullptr;
#pragma unroll 1
        for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
            int first, own, o;
            place(tile, first, own, o);
            first += consumer * own;
            float sum[Tile::own][Tile::outputs / 2];
            float2 biases[Tile::outputs / 8];
            load_bias(biases, bias, o);
            const auto multiply = [&]<int count>() {
                StorePlace places[count];
#pragma unroll
                for (int i = 0; i < count; ++i) places[i] = store_place(out, s, first + i, o);
                multiply_tile<Tile, count>(sum, steps, pixel, by, pixel_base, shared_address(weights), pixels_full,
                                           pixels_empty, weights_full, weights_empty, announced);
#pragma unroll
                for (int i = 0; i < count; ++i) store_block(places[i], sum[i], biases, std::int64_t{s.w} * s.c_out);
            };
            if (own == Tile::own)
                multiply.template operator()<Tile::own>();
            else
                multiply.template operator()<Tile::own / 2>();
            announced = nullptr;
        }
    }
#endif
}

// Rounds the weights to bfloat16 into (tap, output, input); mirrored and transposed for the data gradient, whose inputs
// are the outputs: there they lie in that order already. Otherwise a block turns 64 x 64 weights of one tap around.
// Channels are multiples of 8. 256 threads.
template <bool transposed>
__global__ void wgmma_pack(std::uint16_t* packed, const float* weight, int taps, int c_in, int c_out) {
    const int tap = static_cast<int>(blockIdx.z), thread = static_cast<int>(threadIdx.x);
    const std::int64_t plane = static_cast<std::int64_t>(c_in) * c_out;
    const float* const from = weight + (transposed ? taps - 1 - tap : tap) * plane;
    std::uint16_t* const to = packed + tap * plane;
    const auto store = [&](std::int64_t at, const float(&eight)[8]) {
        unsigned pairs[4];
#pragma unroll
        for (int q = 0; q < 4; ++q)
            pairs[q] = bfloat16(eight[2 * q]).bits | static_cast<unsigned>(bfloat16(eight[2 * q + 1]).bits) << 16;
        *reinterpret_cast<uint4*>(to + at) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    };
    const int i0 = static_cast<int>(blockIdx.x) * 64, o0 = static_cast<int>(blockIdx.y) * 64;
    Shared shared;
    float* const turned = shared.take<float>(64 * 65);
    if constexpr (!transposed) {
#pragma unroll 4
        for (int e = thread; e < 64 * 64; e += 256) {
            const int i = e / 64, o = e % 64;
            if (i0 + i < c_in && o0 + o < c_out)
                turned[i * 65 + o] = from[static_cast<std::int64_t>(i0 + i) * c_out + o0 + o];
        }
        block_sync();
    }
#pragma unroll
    for (int e = thread; e < 64 * 8; e += 256) {
        const int o = e / 8, i = e % 8 * 8;
        if (i0 + i >= c_in || o0 + o >= c_out) continue;
        const std::int64_t at = static_cast<std::int64_t>(o0 + o) * c_in + i0 + i;
        float eight[8];
#pragma unroll
        for (int q = 0; q < 8; ++q) eight[q] = transposed ? from[at + q] : turned[(i + q) * 65 + o];
        store(at, eight);
    }
}

inline bool fits_wgmma_counts(const ConvParams& p, const DeviceFacts& facts) {
    constexpr std::int64_t most = std::int64_t{1} << 31;  // of the kernels' int
    return facts.compute_capability == 90 && facts.shared_memory_per_block >= 227 * 1024 && p.kernel == 3 &&
           (p.n + 1) * p.grid.d * (p.grid.h + 8) * (p.grid.w + 8) < most && p.taps() * p.c_out < most &&
           p.taps() * p.c_in < most;
}

inline void launch_wgmma_pack(std::uint16_t* packed, const float* weight, bool transposed, const ConvParams& p,
                              Stream& stream) {
    launch(stream, "conv wgmma_pack",
           dim3(blocks_for(p.c_in, 64), blocks_for(p.c_out, 64), static_cast<unsigned>(p.taps())), 256,
           Shared::shared_bytes_of<float>(64 * 65), transposed ? wgmma_pack<true> : wgmma_pack<false>, packed, weight,
           p.taps(), static_cast<int>(p.c_in), static_cast<int>(p.c_out));
}

inline WgmmaShape wgmma_shape(const ConvParams& p) {
    WgmmaShape s{};
    s.n = static_cast<int>(p.n);
    s.d = static_cast<int>(p.grid.d);
    s.h = static_cast<int>(p.grid.h);
    s.w = static_cast<int>(p.grid.w);
    s.c_in = static_cast<int>(p.c_in);
    s.c_out = static_cast<int>(p.c_out);
    s.kernel_depth = p.kernel_depth();
    s.down = (s.h + 7) / 8;
    s.across = (s.w + 7) / 8;
    s.pixel_blocks = s.n * s.d * s.down * s.across;
    return s;
}

// The tiles of a kernel whose blocks take them in turns. What is left over for the last round of `most` blocks is cut
// in halves, where these still fit into one.
inline void set_tiles(WgmmaShape& s, int pixel_tiles, int output_groups, int most) {
    s.tiles = s.whole = pixel_tiles * output_groups;
    const int left = (s.tiles % most + output_groups - 1) / output_groups;
    if (left > 0 && 2 * left * output_groups <= most) {
        s.whole = (pixel_tiles - left) * output_groups;
        s.tiles = s.whole + 2 * left * output_groups;
    }
}

template <class Tile>
void launch_wgmma(void* out, const void* in, const void* packed, const float* bias, const ConvParams& p,
                  Stream& stream) {
    WgmmaShape s = wgmma_shape(p);
    const int output_groups = s.c_out / Tile::outputs, most = hopper::multiprocessors();
    const int pixel_tiles = (s.pixel_blocks + Tile::blocks - 1) / Tile::blocks;
    set_tiles(s, pixel_tiles, output_groups, most);
    const hopper::TensorMap in_map =
        hopper::tensor_map<5>(in, {p.c_in, p.grid.w, p.grid.h, p.grid.d, p.n}, {Tile::depth, 10, 10, 1, 1});
    const hopper::TensorMap weight_map =
        hopper::tensor_map<2>(packed, {p.c_in, p.taps() * p.c_out}, {Tile::depth, Tile::outputs});
    launch(stream, "conv wgmma_conv", dim3(static_cast<unsigned>(s.tiles < most ? s.tiles : most)), Tile::threads,
           Tile::shared_bytes, wgmma_conv<Tile>, in_map, weight_map, static_cast<std::uint16_t*>(out), bias, s);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
