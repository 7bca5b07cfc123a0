// The weight gradient of rung 5 as a fused convolution: matrix_backward_weight on an input on which something is
// pending.
#pragma once

#include "kernels/cuda/conv/ldmatrix_weight.cuh"
#include "kernels/cuda/conv/pending.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

template <class Tile>
using WeightPixels =
    StagedPixels<bfloat16, Tile::side, Tile::rows, Tile::columns, Tile::inputs, Tile::x_pitch, Tile::threads, 4>;

// partial (slices, weight_count + c_out). blockIdx as of matrix_backward_weight. With side 3 a block fewer to a
// processor: what is pending needs registers beside the sums.
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::side == 1 ? 4 : 3)
    fused_backward_weight(float* partial, const bfloat16* dy, PendingParts<bfloat16> input, WeightPlan plan,
                          int small_count) {
    using Staged = WeightPixels<Tile>;
    Shared shared;
    bfloat16* const staged_x = shared.take<bfloat16>(Tile::stages * Tile::x_count);
    bfloat16* const staged_dy = shared.take<bfloat16>(Tile::stages * Tile::dy_count);
    PendingPart<bfloat16>* const parts = shared.take<PendingPart<bfloat16>>(2);
    bfloat16* const small = shared.take<bfloat16>(small_count);

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_i = warp % Tile::warps_i, warp_o = warp / Tile::warps_i;
    const int tiles_o = (plan.c_out + Tile::outputs - 1) / Tile::outputs;
    const int tile_i = static_cast<int>(blockIdx.x) / tiles_o, tile_o = static_cast<int>(blockIdx.x) - tile_i * tiles_o;
    const int kd = static_cast<int>(blockIdx.z), shift = kd - plan.tiles.kernel_depth / 2;
    const bool with_bias = tile_i == 0 && warp_i == 0 && shift == 0;

    share(parts, input);
    block_sync();
    const auto place = [&](const HaloPlace& at) {
        return StagedPlace{at.plane + shift, at.h - Tile::halo, at.w - Tile::halo, tile_i * Tile::inputs};
    };
    const auto request = [&](int tile, int slot) {
        const HaloPlace at = halo_place(plan.tiles, tile, Tile::height, Tile::width);
        request_pixels<Staged>(staged_x + slot * Tile::x_count, small, parts, plan.tiles, plan.c_in, place(at));
        stage_pixels<Tile::height, Tile::width, Tile::outputs / 8, Tile::dy_pitch, Tile::threads>(
            staged_dy + slot * Tile::dy_count, dy, plan.tiles, plan.c_out, at.plane, at.h, at.w,
            tile_o * Tile::outputs);
        copy_commit();
    };
    const int lane_in_x = (lane / 16 * Tile::columns + lane % 8) * Tile::x_pitch + 16 * warp_i + lane / 8 % 2 * 8;
    const int lane_in_dy = (lane / 8 % 2 * Tile::width + lane % 8) * Tile::dy_pitch + 16 * warp_o + lane / 16 * 8;

    float sum[Tile::plane_taps][2][4] = {}, bias_sum[2][4] = {};
    const int first = static_cast<int>(blockIdx.y) * plan.tiles_per_slice;
    const int end = first + plan.tiles_per_slice < plan.tiles.tiles ? first + plan.tiles_per_slice : plan.tiles.tiles;
    int tile = seek_tile(plan.tiles, first, end, kd), slot = 0;
    if (tile < end) request(tile, slot);
    while (tile < end) {
        copy_wait<0>();
        finish_pixels<Staged>(staged_x + slot * Tile::x_count, small, parts, plan.tiles, plan.c_in,
                              place(halo_place(plan.tiles, tile, Tile::height, Tile::width)));
        block_sync();  // this tile is there, the last one is no longer read
        tile = seek_tile(plan.tiles, tile + 1, end, kd);
        if (tile < end) request(tile, 1 - slot);
        multiply_pixels<Tile>(sum, bias_sum, staged_x + slot * Tile::x_count + lane_in_x,
                              staged_dy + slot * Tile::dy_count + lane_in_dy, with_bias);
        slot = 1 - slot;
    }
    store_gradient<Tile>(partial + static_cast<std::int64_t>(blockIdx.y) * plan.slice_count(Tile::plane_taps), sum,
                         bias_sum, plan, kd, tile_i * Tile::inputs + 16 * warp_i, tile_o * Tile::outputs + 16 * warp_o,
                         with_bias);
}

template <class Tile>
std::size_t fused_weight_bytes(int small_count) {
    return matrix_weight_bytes<Tile>() + Shared::shared_bytes_of<PendingPart<bfloat16>>(2) +
           Shared::shared_bytes_of<bfloat16>(small_count);
}

template <class Tile>
void launch_fused_weight(View dweight, View dbias, ConstView dy, const PendingInput& input, const FusedConvParams& p,
                         Stream& stream) {
    FusedConvParams stored = p;
    stored.conv = fused_geometry(p);
    const int small_count = small_elements<WeightPixels<Tile>>(p);
    const WeightPlan plan = WeightPlan::of<Tile>(stored.conv);
    const std::int64_t parts = WeightPlan::tiles_of_channels<Tile>(p.conv);
    accumulate_gradients(dweight, dbias, plan, p.conv.weight_count(), stream, [&](float* partial, unsigned slices) {
        launch(stream, "fused_conv matrix_backward_weight",
               dim3(static_cast<unsigned>(parts), slices, static_cast<unsigned>(p.conv.kernel_depth())), Tile::threads,
               fused_weight_bytes<Tile>(small_count), fused_backward_weight<Tile>, partial, dy.as<bfloat16>(),
               pending_parts<bfloat16>(input, stored), plan, small_count);
    });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
