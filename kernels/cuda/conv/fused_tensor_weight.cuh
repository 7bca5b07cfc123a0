// The weight gradient of rung 4 as a fused convolution, float32 with operands rounded to TF32: tensor_backward_weight
// on an input on which something is pending.
#pragma once

#include "kernels/cuda/conv/pending.cuh"
#include "kernels/cuda/conv/tensor_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// As the X of tensor_backward_weight.
template <class Tile>
struct PendingTiles {
    using Staged =
        StagedPixels<float, Tile::side, Tile::rows, Tile::columns, Tile::inputs, Tile::pitch, Tile::threads, 4>;
    PendingParts<float> input;
    int small_count;
    PendingPart<float>* parts;  // in shared memory
    float* small;

    static PendingTiles of(const PendingInput& input, const FusedConvParams& p) {
        return {pending_parts<float>(input, p), small_elements<Staged>(p), nullptr, nullptr};
    }
    std::size_t shared_bytes() const {
        return Shared::shared_bytes_of<PendingPart<float>>(2) + Shared::shared_bytes_of<float>(small_count);
    }

    // What it leaves in shared memory is there behind the next block_sync.
    __device__ void begin(Shared& shared) {
        parts = shared.take<PendingPart<float>>(2);
        small = shared.take<float>(small_count);
        share(parts, input);
    }
    static __device__ StagedPlace place(const HaloPlace& at, int shift, int channel) {
        return {at.plane + shift, at.h - Tile::halo, at.w - Tile::halo, channel};
    }
    __device__ void request(float* to, const WeightPlan& plan, const HaloPlace& at, int shift, int channel) const {
        request_pixels<Staged>(to, small, parts, plan.tiles, plan.c_in, place(at, shift, channel));
    }
    __device__ void finish(float* to, const WeightPlan& plan, int tile, int shift, int channel) const {
        finish_pixels<Staged>(to, small, parts, plan.tiles, plan.c_in,
                              place(halo_place(plan.tiles, tile, Tile::height, Tile::width), shift, channel));
    }
};

template <class Tile>
void launch_fused_tensor_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                const FusedConvParams& p, Stream& stream) {
    FusedConvParams stored = p;
    stored.conv = fused_geometry(p);
    const auto tiles = PendingTiles<Tile>::of(input, stored);
    launch_tensor_weight<Tile>("fused_conv tensor_backward_weight", dweight, dbias, dy, tiles, tiles.shared_bytes(),
                               stored.conv, stream);
}

inline void run_fused_tensor_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                    const FusedConvParams& p, Stream& stream) {
    (p.conv.kernel == 1 ? launch_fused_tensor_weight<TensorWeightTile<1>>
                        : launch_fused_tensor_weight<TensorWeightTile<3>>)(dweight, dbias, dy, input, p, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
