// Rung 4 of the convolution's ladder: tensor cores, float32 operands rounded to TF32. The tile of rung 3, 8 x 16 pixels
// and 32 output channels, is a product of matrices per tap: a row of 16 pixels is the 16 rows of a fragment, eight
// channels its depth. The next eight channels are on their way (cp.async) while these are multiplied.
//
// As in tile.cuh the data gradient is the same kernel, with dy in the place of x and the weights mirrored and
// transposed. Channels are multiples of 8 and pointers are aligned to 16 bytes.
#pragma once

#include "kernels/cuda/conv/tile.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

template <int side, bool transposed>
struct TensorTile {
    static constexpr int warps = 4, threads = 32 * warps, outputs = 32;
    static constexpr int halo = side / 2, rows = tile_height + 2 * halo, columns = tile_width + 2 * halo;
    static constexpr int plane_taps = side * side;
    // Floats between neighbouring pixels: 12 (l / 4) + l % 4 names 32 different banks, and 48 bytes keep copies
    // aligned.
    static constexpr int pixel_pitch = 12;
    // Weights lie as they do in memory: (tap, channel, output) forward, (tap, output, channel) transposed. Both pitches
    // let the lanes of a fragment read 32 different banks.
    static constexpr int weight_rows = transposed ? outputs : tile_channels,
                         weight_row = transposed ? tile_channels : outputs, weight_pitch = transposed ? 12 : 40;
    static constexpr int pixel_floats = rows * columns * pixel_pitch;
    static constexpr int weight_floats = plane_taps * weight_rows * weight_pitch;
};

// Where a block works; its planes of the kernel are those that lie inside of the image.
struct BlockPlace {
    std::int64_t n, d, h, w, o;
    int first_plane, planes;
};

__device__ inline BlockPlace block_place(const ConvParams& p, int outputs) {
    const std::int64_t across = (p.grid.w + tile_width - 1) / tile_width,
                       down = (p.grid.h + tile_height - 1) / tile_height;
    BlockPlace place{};
    std::int64_t rest = blockIdx.x;
    place.w = rest % across * tile_width;
    rest /= across;
    place.h = rest % down * tile_height;
    rest /= down;
    place.d = rest % p.grid.d;
    place.n = rest / p.grid.d;
    place.o = static_cast<std::int64_t>(blockIdx.y) * outputs;
    const int reach = p.kernel_depth() / 2;
    place.first_plane = place.d < reach ? static_cast<int>(reach - place.d) : 0;
    const std::int64_t behind = p.grid.d - 1 - place.d;
    place.planes = p.kernel_depth() - place.first_plane - (behind < reach ? static_cast<int>(reach - behind) : 0);
    return place;
}

// Asks for the copies of one step: eight channels of the tile and its halo in one plane, and their weights.
template <int side, bool transposed>
__device__ void stage(float* pixels, float* weights, const float* in, const float* weight, const ConvParams& p,
                      const BlockPlace& place, int kd, std::int64_t c0) {
    using Tile = TensorTile<side, transposed>;
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t d = place.d + kd - p.kernel_depth() / 2;
#pragma unroll 1
    for (int e = thread; e < Tile::rows * Tile::columns * 2; e += Tile::threads) {
        const int half = e % 2, at = e / 2, row = at / Tile::columns, column = at % Tile::columns;
        const std::int64_t h = place.h + row - Tile::halo, w = place.w + column - Tile::halo;
        const bool inside = h >= 0 && h < p.grid.h && w >= 0 && w < p.grid.w;
        const std::int64_t from =
            inside ? (((place.n * p.grid.d + d) * p.grid.h + h) * p.grid.w + w) * p.c_in + c0 + 4 * half : 0;
        copy_async_16(pixels + at * Tile::pixel_pitch + 4 * half, in + from, inside);
    }
    constexpr int pieces = Tile::weight_row / 4;
#pragma unroll 1
    for (int e = thread; e < Tile::plane_taps * Tile::weight_rows * pieces; e += Tile::threads) {
        const int piece = e % pieces, row = e / pieces % Tile::weight_rows, tap = e / (pieces * Tile::weight_rows);
        const std::int64_t forward = kd * Tile::plane_taps + tap, all = p.kernel_depth() * Tile::plane_taps;
        const std::int64_t o = place.o + (transposed ? row : 4 * piece);
        const bool inside = o < p.c_out;
        const std::int64_t at = transposed ? ((all - 1 - forward) * p.c_out + o) * p.c_in + c0 + 4 * piece
                                           : (forward * p.c_in + c0 + row) * p.c_out + o;
        copy_async_16(weights + (tap * Tile::weight_rows + row) * Tile::weight_pitch + 4 * piece,
                      weight + (inside ? at : 0), inside);
    }
}

// A warp owns two rows of 16 pixels and all 32 outputs.
template <int side, bool transposed>
__global__ void __launch_bounds__(TensorTile<side, transposed>::threads)
    tensor_conv(float* out, const float* in, const float* weight, const float* bias, ConvParams p) {
    using Tile = TensorTile<side, transposed>;
    constexpr int fragments = Tile::outputs / 8;
    Shared shared;
    float* const pixels = shared.take<float>(2 * Tile::pixel_floats);
    float* const weights = shared.take<float>(2 * Tile::weight_floats);

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int quad = lane / 4, within = lane % 4;
    const BlockPlace place = block_place(p, Tile::outputs);
    const std::int64_t chunks = p.c_in / tile_channels, steps = place.planes * chunks;

    float sum[2][fragments][4] = {};
    stage<side, transposed>(pixels, weights, in, weight, p, place, place.first_plane, 0);
    copy_commit();
    for (std::int64_t step = 0; step < steps; ++step) {
        const int now = static_cast<int>(step % 2), next = 1 - now;
        if (step + 1 < steps)
            stage<side, transposed>(pixels + next * Tile::pixel_floats, weights + next * Tile::weight_floats, in,
                                    weight, p, place, place.first_plane + static_cast<int>((step + 1) / chunks),
                                    (step + 1) % chunks * tile_channels);
        copy_commit();  // possibly empty, so that the same count is waited for in every step
        copy_wait<1>();
        block_sync();
        const float* const x = pixels + now * Tile::pixel_floats;
        const float* const by = weights + now * Tile::weight_floats;
#pragma unroll 1
        for (int tap = 0; tap < Tile::plane_taps; ++tap) {
            const int kh = tap / side, kw = tap % side;
            unsigned b[fragments][2];
#pragma unroll
            for (int f = 0; f < fragments; ++f)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int c = within + 4 * half, o = 8 * f + quad;
                    const int at = transposed ? (tap * Tile::weight_rows + o) * Tile::weight_pitch + c
                                              : (tap * Tile::weight_rows + c) * Tile::weight_pitch + o;
                    b[f][half] = round_tf32(by[at]);
                }
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float* const row =
                    x + ((2 * warp + r + kh) * Tile::columns + kw + quad) * Tile::pixel_pitch + within;
                unsigned a[4];
                a[0] = round_tf32(row[0]);
                a[1] = round_tf32(row[8 * Tile::pixel_pitch]);
                a[2] = round_tf32(row[4]);
                a[3] = round_tf32(row[8 * Tile::pixel_pitch + 4]);
#pragma unroll
                for (int f = 0; f < fragments; ++f) multiply_add_tf32(sum[r][f], a, b[f]);
            }
        }
        block_sync();  // read to the end, before the next copies land here
    }

#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const std::int64_t h = place.h + 2 * warp + r;
#pragma unroll
        for (int f = 0; f < fragments; ++f)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const std::int64_t w = place.w + quad + e / 2 * 8, o = place.o + 8 * f + 2 * within + e % 2;
                if (h < p.grid.h && w < p.grid.w && o < p.c_out)
                    out[(((place.n * p.grid.d + place.d) * p.grid.h + h) * p.grid.w + w) * p.c_out + o] =
                        sum[r][f][e] + (bias ? bias[o] : 0.0f);
            }
    }
}

inline bool fits_tensor_cores(const ConvParams& p, const DeviceFacts& facts) {
    return p.c_in % tile_channels == 0 && p.c_out % tile_channels == 0 && facts.compute_capability >= 80;
}

template <int side, bool transposed>
void launch_tensor(View out, ConstView in, ConstView weight, const float* bias, const ConvParams& p, Stream& stream) {
    using Tile = TensorTile<side, transposed>;
    const std::int64_t tiles =
        p.n * p.grid.d * ((p.grid.h + tile_height - 1) / tile_height) * ((p.grid.w + tile_width - 1) / tile_width);
    const dim3 grid(blocks_for(tiles, 1), blocks_for(p.c_out, Tile::outputs));
    const std::size_t bytes = Shared::shared_bytes_of<float>(2 * Tile::pixel_floats) +
                              Shared::shared_bytes_of<float>(2 * Tile::weight_floats);
    launch(stream, "conv tensor_conv", grid, Tile::threads, bytes, tensor_conv<side, transposed>, out.as<float>(),
           in.as<float>(), weight.as<float>(), bias, p);
}

inline void run_tensor_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p,
                               Stream& stream) {
    (p.kernel == 1 ? launch_tensor<1, false> : launch_tensor<3, false>)(y, x, weight, bias.as<float>(), p, stream);
}

inline void run_tensor_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    ConvParams mirrored = p;
    mirrored.c_in = p.c_out;
    mirrored.c_out = p.c_in;
    (p.kernel == 1 ? launch_tensor<1, true> : launch_tensor<3, true>)(dx, dy, weight, nullptr, mirrored, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
