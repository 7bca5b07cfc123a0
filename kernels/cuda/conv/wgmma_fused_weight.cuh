// The weight gradient of rung 6 (wgmma_weight.cuh) where something is pending on x: warps of their own prepare the
// boxes of x, by the barriers of wgmma_fused.cuh. dy comes by copies alone and is read as soon as it is there: the warp
// that sums it for the bias waits for raw and arrives at empty, beside the warpgroups that multiply.
#pragma once

#include "kernels/cuda/conv/wgmma_pending.cuh"
#include "kernels/cuda/conv/wgmma_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// Four warpgroups. The first warp of the first copies, its last sums the bias, the two between prepare; so does the
// last where this block has no bias to sum, and all of the fourth warpgroup where only two multiply.
template <class Tile>
struct FusedWeightTile {
    static constexpr int threads = 4 * hopper::warpgroup, most_preparing = Tile::consumers == 3 ? 3 : 7;
    static constexpr int consumer_registers = Tile::consumers == 3 ? 144 : 168,
                         preparing_registers = Tile::consumers == 3 ? 80 : 88;
    static constexpr int skipped = Tile::by_kh ? 0 : 1;  // rows of a box that are not there
    static constexpr int coarse = most_preparing * coarse_bytes;
    static constexpr int shared_bytes = static_cast<int>(Tile::shared_bytes) + coarse + 8 * Tile::stages;
    static_assert(shared_bytes <= 227 * 1024);
};

// As wgmma_backward_weight: partial (slices, taps, c_in, c_out), bias (slices, 2, c_out).
template <class Tile>
__global__ void __launch_bounds__(FusedWeightTile<Tile>::threads, 1)
    wgmma_fused_weight(const __grid_constant__ hopper::TensorMap first_map,
                       const __grid_constant__ hopper::TensorMap second_map,
                       const __grid_constant__ hopper::TensorMap dy, const __grid_constant__ WgmmaInput input,
                       float* __restrict__ partial, float* __restrict__ bias, WgmmaWeightShape s) {
#if COVER_SM90A
    using namespace hopper;
    using Fused = FusedWeightTile<Tile>;
    COVER_SHARED_MEMORY(all);
    unsigned char* const stages = all + (1024 - shared_address(all) % 1024) % 1024;
    unsigned char* const coarse = stages + Tile::stages * Tile::stage_bytes;
    auto* const raw = reinterpret_cast<std::uint64_t*>(coarse + Fused::coarse);
    auto* const full = raw + Tile::stages;
    auto* const empty = full + Tile::stages;
    constexpr int block_inputs = Tile::inputs * Tile::chunks, dy_at = Tile::chunks * Tile::chunk_bytes;
    const int tiles_o = s.c_out / Tile::outputs, tiles_i = s.c_in / block_inputs;
    int rest = static_cast<int>(blockIdx.x);
    const int o = rest % tiles_o * Tile::outputs;
    rest /= tiles_o;
    const int c = rest % tiles_i * block_inputs, kd = rest / tiles_i;
    const bool sums_bias = c == 0 && kd == 0;
    const int preparing = Fused::most_preparing - (sums_bias ? 1 : 0);
    if (threadIdx.x == 0) {
        for (int i = 0; i < Tile::stages; ++i) {
            barrier_init(raw + i, 1);
            barrier_init(full + i, static_cast<unsigned>(preparing));
            barrier_init(empty + i, 4 * Tile::consumers + (sums_bias ? 1 : 0));
        }
        barrier_init_fence();
        prefetch_map(dy);
    }
    block_sync();

    const int first = static_cast<int>(blockIdx.y) * s.slice_blocks;
    const int last = first + s.slice_blocks < s.pixel_blocks ? first + s.slice_blocks : s.pixel_blocks;
    const int warp = shuffle(static_cast<int>(threadIdx.x) / 32, 0);
    if (warp < 4 || warp >= 4 * (Tile::consumers + 1)) {
        registers_decrease<Fused::preparing_registers>();
        RingPlace ring;
        if (warp == 0) {
            if (threadIdx.x != 0) return;
#pragma unroll 1
            for (int block = first; block < last; ++block) {
                const BoxPlace at = box_place(s, block, kd), centre = box_place(s, block, s.kernel_depth / 2);
                unsigned char* const stage = stages + ring.stage * Tile::stage_bytes;
                unsigned landing = Tile::dy_box;
#pragma unroll
                for (int chunk = 0; chunk < Tile::chunks; ++chunk) {
                    int c_part = c + chunk * Tile::inputs;
                    if (input.parts[part_of(input, c_part)].by_copy()) landing += Tile::x_box;
                }
                barrier_wait(empty + ring.stage, ring.parity ^ 1, 100 + ring.stage);
                barrier_arrive_expecting(raw + ring.stage, landing);
#pragma unroll 1
                for (int chunk = 0; chunk < Tile::chunks; ++chunk) {
                    int c_part = c + chunk * Tile::inputs;
                    const int part = part_of(input, c_part);
                    unsigned char* const box = stage + chunk * Tile::chunk_bytes;
                    if (!input.parts[part].by_copy()) continue;
                    if (part == 0)
                        copy_box(box, first_map, raw + ring.stage, c_part, at.w, at.h + Fused::skipped, at.d, at.n);
                    else
                        copy_box(box, second_map, raw + ring.stage, c_part, at.w, at.h + Fused::skipped, at.d, at.n);
                }
                copy_box(stage + dy_at, dy, raw + ring.stage, o, centre.w + 1, centre.h + 1, centre.d, centre.n);
                ring.advance(Tile::stages);
            }
        } else if (warp == 3 && sums_bias) {
            // Both halves of what two warps have in wgmma_backward_weight.
            const int lane = static_cast<int>(threadIdx.x) % 32;
            float sum[2][8] = {};
#pragma unroll 1
            for (int block = first; block < last; ++block) {
                barrier_wait(raw + ring.stage, ring.parity, 500 + ring.stage);
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    add_pixels<Tile>(sum[half], stages + ring.stage * Tile::stage_bytes + dy_at, lane + 32 * half);
                warp_sync();
                if (lane == 0) barrier_arrive(empty + ring.stage);
                ring.advance(Tile::stages);
            }
            constexpr int pieces = Tile::outputs / 8;
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
                for (int e = 0; e < 8; ++e) {
#pragma unroll
                    for (int lanes = pieces; lanes < 32; lanes *= 2) sum[half][e] += shuffle_xor(sum[half][e], lanes);
                    if (lane < pieces)
                        bias[(static_cast<std::int64_t>(blockIdx.y) * 2 + half) * s.c_out + o + 8 * lane + e] =
                            sum[half][e];
                }
        } else {
            Preparing own(coarse, warp == 3 ? Fused::most_preparing - 1 : warp < 3 ? warp - 1 : warp - 10, preparing);
#pragma unroll 1
            for (int block = first; block < last; ++block) {
                barrier_wait(raw + ring.stage, ring.parity, 600);
#pragma unroll 1
                for (int chunk = 0; chunk < Tile::chunks; ++chunk) {
                    int c_part = c + chunk * Tile::inputs;
                    const WgmmaPart& part = input.parts[part_of(input, c_part)];
                    prepare_box<Tile::inputs, Fused::skipped>(
                        stages + ring.stage * Tile::stage_bytes + chunk * Tile::chunk_bytes, own, part, c_part, s,
                        [&] { return box_place(s, block, kd); });
                }
                arrive_prepared(full + ring.stage);
                ring.advance(Tile::stages);
            }
        }
    } else {
        registers_increase<Fused::consumer_registers>();
        multiply_slice<Tile>(stages, full, empty, partial, first, last, warp / 4 - 1, c, o, kd, s);
    }
#endif
}

inline bool fits_wgmma_fused_weight(const FusedConvParams& p, const DeviceFacts& facts) {
    if (!fits_wgmma_backward_weight(p.conv, facts)) return false;
    bool fits = true;
    with_weight_tile(p.conv, [&]<class Tile>(Tile) {
        for (const PendingParams& part : p.parts)
            fits = fits && part.channels % Tile::inputs == 0 &&
                   (part.channels == 0 || has_whole_units(part.channels, part.groups));
    });
    return fits;
}

inline void run_wgmma_fused_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                   const FusedConvParams& p, Stream& stream) {
    const WgmmaInput parts = wgmma_input(input, p);
    const ConvParams& conv = p.conv;
    with_weight_tile(conv, [&]<class Tile>(Tile) {
        const WgmmaWeightLaunch of = wgmma_weight_launch<Tile>(conv);
        Workspace<float> weights(of.slices * conv.weight_count(), stream), biases(2 * of.slices * conv.c_out, stream);
        const hopper::TensorMap first = part_map(parts.parts[0], conv, Tile::inputs, Tile::x_rows),
                                second = part_map(parts.parts[1], conv, Tile::inputs, Tile::x_rows),
                                dy_map = hopper::tensor_map<5>(
                                    dy.data, {conv.c_out, conv.grid.w, conv.grid.h, conv.grid.d, conv.n},
                                    {Tile::outputs, 8, Tile::dy_rows, 1, 1});
        launch(stream, "fused_conv wgmma_fused_weight",
               dim3(static_cast<unsigned>(of.tiles), static_cast<unsigned>(of.slices)), FusedWeightTile<Tile>::threads,
               static_cast<std::size_t>(FusedWeightTile<Tile>::shared_bytes), wgmma_fused_weight<Tile>, first, second,
               dy_map, parts, weights.data(), biases.data(), of.shape);
        launch_wgmma_add(dweight.as<float>(), weights.data(), dbias.as<float>(), biases.data(), of.slices, conv,
                         stream);
    });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
