// What the rows of rung 6 run: which of its kernels serves a layer, and the packed weights.
#pragma once

#include "kernels/cuda/conv/wgmma_resident.cuh"
#include "kernels/cuda/conv/wgmma_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// Calls use(Tile, stages) with the tile of few channels that serves p, if any. p in the direction of the kernel.
template <class Use>
bool with_resident_tile(const ConvParams& p, const Use& use) {
    const auto take = [&]<class Tile>(Tile) {
        const int stages = resident_stages<Tile>(p, 227 * 1024);
        if (p.c_in % Tile::depth != 0 || p.c_out % Tile::outputs != 0 || stages == 0) return false;
        use(Tile{}, stages);
        return true;
    };
    if (take(ResidentTile<64, 64, 2>{})) return true;
    if (p.c_in % 64 == 0 && p.c_out % 64 == 0) return false;  // rather than in narrower pieces: streamed
    return take(ResidentTile<64, 32, 2>{}) || take(ResidentTile<96, 32, 2>{}) || take(ResidentTile<32, 64, 2>{}) ||
           take(ResidentTile<32, 32, 4>{}) || take(ResidentTile<32, 32, 4, false>{});
}

inline bool fits_wgmma(const ConvParams& p, const DeviceFacts& facts) {
    return fits_wgmma_counts(p, facts) &&
           ((p.c_in % 64 == 0 && p.c_out % 64 == 0) || with_resident_tile(p, [](auto, int) {}));
}

inline ConvParams mirrored(const ConvParams& p) {
    ConvParams of = p;
    of.c_in = p.c_out;
    of.c_out = p.c_in;
    return of;
}

inline bool fits_wgmma_backward_data(const ConvParams& p, const DeviceFacts& facts) {
    return fits_wgmma(mirrored(p), facts);
}

// p in the direction of the kernel: c_in of `in`, c_out of `out`.
inline void launch_wgmma_layer(void* out, const void* in, const std::uint16_t* packed, const float* bias,
                               const ConvParams& p, Stream& stream) {
    const bool wide = p.c_in % 64 == 0 && p.c_out % 128 == 0;
    if (!wide && with_resident_tile(p, [&]<class Tile>(Tile, int stages) {
            launch_wgmma_resident<Tile>(out, in, packed, bias, p, stages, stream);
        }))
        return;
    (wide ? launch_wgmma<WgmmaTile<128, 2, 7, 4>> : launch_wgmma<WgmmaTile<64, 2, 8, 4>>)(out, in, packed, bias, p,
                                                                                          stream);
}

inline void run_wgmma(View out, ConstView in, ConstView weight, const float* bias, bool transposed, const ConvParams& p,
                      Stream& stream) {
    Workspace<std::uint16_t> packed(p.weight_count(), stream);
    launch_wgmma_pack(packed.data(), weight.as<float>(), transposed, p, stream);
    launch_wgmma_layer(out.as<bfloat16>(), in.as<bfloat16>(), packed.data(), bias, p, stream);
}

inline void run_wgmma_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p,
                              Stream& stream) {
    run_wgmma(y, x, weight, bias.as<float>(), false, p, stream);
}

inline void run_wgmma_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    run_wgmma(dx, dy, weight, nullptr, true, mirrored(p), stream);
}

// dweight += the slices of weights (slices, count), dbias += those of biases (2 slices, c_out). Eight warps of a block
// share the slices of 128 sums; what each has is added in their order. count is a multiple of 128.
__global__ void __launch_bounds__(256) wgmma_add_slices(float* dweight, const float* weights, std::int64_t count,
                                                        float* dbias, const float* biases, int c_out, int slices) {
    const std::int64_t weight_blocks = count / 128;
    const bool of_bias = blockIdx.x >= weight_blocks;
    const std::int64_t width = of_bias ? c_out : count;
    const int column = static_cast<int>(threadIdx.x) % 32, part = static_cast<int>(threadIdx.x) / 32;
    const std::int64_t at = (blockIdx.x - (of_bias ? weight_blocks : 0)) * 128 + 4 * column;
    Shared shared;
    float4* const parts = shared.take<float4>(256);
    float4 sum{};
    const auto add = [&sum](const float4& more) {
        sum.x += more.x;
        sum.y += more.y;
        sum.z += more.z;
        sum.w += more.w;
    };
    if (at < width) {
        const float* const from = (of_bias ? biases : weights) + at;
#pragma unroll 4
        for (int slice = part; slice < (of_bias ? 2 * slices : slices); slice += 8)
            add(*reinterpret_cast<const float4*>(from + slice * width));
    }
    parts[threadIdx.x] = sum;
    block_sync();
    if (part != 0 || at >= width) return;
    for (int other = 1; other < 8; ++other) add(parts[32 * other + column]);
    float* const out = (of_bias ? dbias : dweight) + at;
    out[0] += sum.x;
    out[1] += sum.y;
    out[2] += sum.z;
    out[3] += sum.w;
}

void launch_wgmma_add(float* dweight, const float* weights, float* dbias, const float* biases, int slices,
                      const ConvParams& p, Stream& stream) {
    launch(stream, "conv wgmma_add_slices", blocks_for(p.weight_count(), 128) + blocks_for(p.c_out, 128), 256,
           Shared::shared_bytes_of<float4>(256), wgmma_add_slices, dweight, weights, p.weight_count(), dbias, biases,
           static_cast<int>(p.c_out), slices);
}

inline void run_wgmma_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                                      Stream& stream) {
    with_weight_tile(p, [&]<class Tile>(Tile) {
        const WgmmaWeightLaunch of = wgmma_weight_launch<Tile>(p);
        Workspace<float> weights(of.slices * p.weight_count(), stream), biases(2 * of.slices * p.c_out, stream);
        launch_wgmma_weight<Tile>(of, weights.data(), biases.data(), dy.as<bfloat16>(), x.as<bfloat16>(), p, stream);
        launch_wgmma_add(dweight.as<float>(), weights.data(), dbias.as<float>(), biases.data(), of.slices, p, stream);
    });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
