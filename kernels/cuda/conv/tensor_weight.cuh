// The weight gradient of rung 4: tensor cores, float32 operands rounded to TF32. As in ldmatrix_weight.cuh a block owns
// a tile of (c_in, c_out), one depth of the kernel and a slice of the pixels, a warp 16 x 16 channels of all plane
// taps. Eight pixels of a row are the depth of a fragment. Each row of x, once for each shift along the row, meets the
// three rows of dy that lie above, at and below it, whose fragments a warp keeps.
#pragma once

#include "kernels/cuda/conv/ldmatrix_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

template <int side_>
struct TensorWeightTile {
    using Element = float;
    static constexpr int side = side_, threads = 128, inputs = 32, outputs = 32, plane_taps = side * side;
    static constexpr int height = 8, width = 8, halo = side / 2, rows = height + 2 * halo, columns = width + 2 * halo;
    // Floats between neighbouring pixels: 8 (l % 4) + l / 4 names 32 different banks.
    static constexpr int pitch = 40;
    static constexpr int x_count = rows * columns * pitch, dy_count = height * width * pitch;
};

// partial (slices, weight_count + c_out). blockIdx.x: tiles of (c_in, c_out); y: slice; z: depth of the kernel. X:
// const float*, or PendingTiles (fused_tensor_weight.cuh), an input on which something is pending.
template <class Tile, class X>
__global__ void __launch_bounds__(Tile::threads, 3)
    tensor_backward_weight(float* partial, const float* dy, X x, WeightPlan plan) {
    constexpr bool is_stored = std::is_pointer_v<X>;
    constexpr int side = Tile::side;
    Shared shared;
    float* const staged_x = shared.take<float>(2 * Tile::x_count);
    float* const staged_dy = shared.take<float>(2 * Tile::dy_count);
    if constexpr (!is_stored) {
        x.begin(shared);
        block_sync();
    }

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int quad = lane / 4, within = lane % 4;
    const int tiles_o = (plan.c_out + Tile::outputs - 1) / Tile::outputs;
    const int tile_i = static_cast<int>(blockIdx.x) / tiles_o, tile_o = static_cast<int>(blockIdx.x) - tile_i * tiles_o;
    const int warp_i = 16 * (warp % 2), warp_o = 16 * (warp / 2);
    const int kd = static_cast<int>(blockIdx.z), shift = kd - plan.tiles.kernel_depth / 2;
    const bool with_bias = tile_i == 0 && warp_i == 0 && shift == 0;

    const auto stage = [&](int tile, int slot) {
        const HaloPlace at = halo_place(plan.tiles, tile, Tile::height, Tile::width);
        if constexpr (is_stored)
            stage_pixels<Tile::rows, Tile::columns, Tile::inputs / 4, Tile::pitch, Tile::threads>(
                staged_x + slot * Tile::x_count, x, plan.tiles, plan.c_in, at.plane + shift, at.h - Tile::halo,
                at.w - Tile::halo, tile_i * Tile::inputs);
        else
            x.request(staged_x + slot * Tile::x_count, plan, at, shift, tile_i * Tile::inputs);
        stage_pixels<Tile::height, Tile::width, Tile::outputs / 4, Tile::pitch, Tile::threads>(
            staged_dy + slot * Tile::dy_count, dy, plan.tiles, plan.c_out, at.plane, at.h, at.w,
            tile_o * Tile::outputs);
        copy_commit();
    };

    float sum[Tile::plane_taps][2][4] = {}, bias_sum[2] = {};
    const int first = static_cast<int>(blockIdx.y) * plan.tiles_per_slice;
    const int end = first + plan.tiles_per_slice < plan.tiles.tiles ? first + plan.tiles_per_slice : plan.tiles.tiles;
    int tile = seek_tile(plan.tiles, first, end, kd), slot = 0;
    if (tile < end) stage(tile, slot);
    while (tile < end) {
        copy_wait<0>();
        if constexpr (!is_stored) x.finish(staged_x + slot * Tile::x_count, plan, tile, shift, tile_i * Tile::inputs);
        block_sync();  // this tile is there, the last one is no longer read
        tile = seek_tile(plan.tiles, tile + 1, end, kd);
        if (tile < end) stage(tile, 1 - slot);
        const float* const from = staged_x + slot * Tile::x_count + within * Tile::pitch + warp_i + quad;
        const float* const gradient = staged_dy + slot * Tile::dy_count + within * Tile::pitch + warp_o + quad;
        unsigned b[side][2][2] = {};  // of the rows of dy that row r of the halo meets at kh, at (r - kh) % side
#pragma unroll
        for (int r = 0; r < Tile::rows; ++r) {
            if (r < Tile::height)
#pragma unroll
                for (int j = 0; j < 2; ++j)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const float value = gradient[(r * Tile::width + 4 * half) * Tile::pitch + 8 * j];
                        b[r % side][j][half] = round_tf32(value);
                        if (with_bias) bias_sum[j] += value;
                    }
#pragma unroll
            for (int kw = 0; kw < side; ++kw) {
                const float* const pixel = from + (r * Tile::columns + kw) * Tile::pitch;
                unsigned a[4];
                a[0] = round_tf32(pixel[0]);
                a[1] = round_tf32(pixel[8]);
                a[2] = round_tf32(pixel[4 * Tile::pitch]);
                a[3] = round_tf32(pixel[4 * Tile::pitch + 8]);
#pragma unroll
                for (int kh = 0; kh < side; ++kh)
                    if (r - kh >= 0 && r - kh < Tile::height)
#pragma unroll
                        for (int j = 0; j < 2; ++j)
                            multiply_add_tf32(sum[kh * side + kw][j], a, b[(r - kh + side) % side][j]);
            }
        }
        slot = 1 - slot;
    }

    const std::int64_t weights = plan.weight_count(Tile::plane_taps);
    float* const slice = partial + static_cast<std::int64_t>(blockIdx.y) * (weights + plan.c_out);
    const int i = tile_i * Tile::inputs + warp_i + quad, o = tile_o * Tile::outputs + warp_o;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        for (const int lanes : {1, 2}) bias_sum[j] += shuffle_xor(bias_sum[j], lanes);
        if (o + 8 * j >= plan.c_out) continue;
#pragma unroll
        for (int tap = 0; tap < Tile::plane_taps; ++tap)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                if (i + 8 * half < plan.c_in)
                    *reinterpret_cast<float2*>(
                        slice + (std::int64_t{kd * Tile::plane_taps + tap} * plan.c_in + i + 8 * half) * plan.c_out +
                        o + 8 * j + 2 * within) = make_float2(sum[tap][j][2 * half], sum[tap][j][2 * half + 1]);
        if (with_bias && within == 0) slice[weights + o + 8 * j + quad] = bias_sum[j];
    }
}

// x_bytes: of shared memory, that X takes beside the tiles.
template <class Tile, class X>
void launch_tensor_weight(const char* name, View dweight, View dbias, ConstView dy, const X& x, std::size_t x_bytes,
                          const ConvParams& p, Stream& stream) {
    launch_gradient<Tile, float>(name, tensor_backward_weight<Tile, X>,
                                 Shared::shared_bytes_of<float>(2 * Tile::x_count) +
                                     Shared::shared_bytes_of<float>(2 * Tile::dy_count) + x_bytes,
                                 dweight, dbias, dy, x, p, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
