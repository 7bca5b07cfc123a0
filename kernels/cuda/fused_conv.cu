// The rows of the fused convolution: rungs of the convolution's ladder that read what is pending (conv/pending.cuh).
#include "kernels/cuda/conv/fused.cuh"
#include "kernels/cuda/conv/fused_tensor_weight.cuh"
#include "kernels/cuda/conv/fused_tile.cuh"
#include "kernels/cuda/conv/fused_weight.cuh"
#include "kernels/cuda/conv/slices.cuh"
#include "kernels/cuda/conv/wgmma_fused_rows.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace conv {

// The first layer of the network has one channel, nothing pending, and kernels of its own; it is left to the plain ops.
bool is_first_layer(const FusedConvParams& p) { return p.conv.c_in == 1 && !p.any_pending(); }

// What is wanted of the output's statistics is of whole units.
bool fits_fused_tile(const FusedConvParams& p, const DeviceFacts&) {
    return !is_first_layer(p) && (p.groups == 0 || has_whole_units(p.conv.c_out, p.groups));
}
bool fits_fused_tile_weight(const FusedConvParams& p, const DeviceFacts&) { return !is_first_layer(p); }

void run_fused_tile_forward(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                            const FusedConvParams& p, Stream& stream) {
    (p.conv.kernel == 1 ? launch_fused_tile<1> : launch_fused_tile<3>)(y, mean, rstd, input, weight, bias, p, stream);
}

void run_fused_tile_backward_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                    const FusedConvParams& p, Stream& stream) {
    accumulate_slices<float>(dweight, dbias, dy, p.conv, stream, [&](float* partial, const Slices& slices) {
        (p.conv.kernel == 1 ? launch_fused_tile_weight<1> : launch_fused_tile_weight<3>)(partial, dy, input, p, slices,
                                                                                         stream);
    });
}

// Eight channels are a unit of the statistics, and one access or two.
template <class T>
bool fits_fused_matrices(const FusedConvParams& p, const DeviceFacts& facts) {
    using Largest = FewOutputs<T, 3>;
    const std::size_t bytes =
        matrix_bytes<Largest>(Largest::stages) + fused_bytes<Largest>(small_elements<MatrixPixels<Largest>>(p));
    return has_whole_units(p.parts[0].channels, p.parts[0].groups) &&
           has_whole_units(p.parts[1].channels, p.parts[1].groups) && has_whole_units(p.conv.c_out, p.groups) &&
           facts.compute_capability >= 80 && facts.shared_memory_per_block >= static_cast<std::int64_t>(bytes);
}

template <class T>
void run_fused_forward(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                       const FusedConvParams& p, Stream& stream) {
    const ConvParams flat = fused_geometry(p);
    const auto run = [&]<class Tile>(Tile) { launch_fused<Tile>(y, mean, rstd, input, weight, bias, p, flat, stream); };
    p.conv.kernel == 1 ? run(FewOutputs<T, 1>()) : with_matrix_tile<T, 3>(flat, run);
}

void run_fused_backward_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                               const FusedConvParams& p, Stream& stream) {
    (p.conv.kernel == 1 ? launch_fused_weight<WeightTile<1, 2, 2>>
                        : launch_fused_weight<WeightTile<3, 2, 2>>)(dweight, dbias, dy, input, p, stream);
}

// out (taps, channels, c_out) = weight (taps, c_in, c_out) from channel `first` on.
__global__ void copy_input_channels(float* out, const float* weight, ConvParams p, std::int64_t first,
                                    std::int64_t channels) {
    const std::int64_t at = global_thread(), row = channels * p.c_out;
    if (at < p.taps() * row) out[at] = weight[(at / row * p.c_in + first) * p.c_out + at % row];
}

// A plain data gradient for each part, with its channels of the weights.
template <Math math>
void run_fused_backward_data(View first, View second, ConstView dy, ConstView weight, const FusedConvParams& p,
                             Stream& caller) {
    Stream stream = caller;
    stream.math = math;
    std::int64_t channel = 0;
    for (const View& dx : {first, second}) {
        ConvParams part = p.conv;
        part.c_in = p.parts[channel > 0].channels;
        Workspace<float> weights(part.weight_count(), stream);
        launch(stream, "fused_conv copy_input_channels", blocks_for(part.weight_count()), threads_per_block, 0,
               copy_input_channels, weights.data(), weight.as<float>(), p.conv, channel, part.c_in);
        const auto row = select("conv_backward_data", conv_backward_data_rows(), part, dy.dtype, stream);
        row.ConvBackwardDataVariant::run(dx, dy, ConstView(weights.data(), part.weight_count()), part, stream);
        channel += part.c_in;
    }
}

bool fits_fused_backward_data(const FusedConvParams& p, const DeviceFacts& facts) {
    return has_two_parts(p, facts) && p.parts[0].channels % 8 == 0 && p.parts[1].channels % 8 == 0;
}

}  // namespace conv

std::span<const FusedConvVariant> fused_conv_rows() {
    static constexpr FusedConvVariant rows[] = {
        {"cuda_3_register", this_device, DType::float32, Math::exact, conv::fits_fused_tile,
         conv::run_fused_tile_forward},
        {"cuda_tf32", this_device, DType::float32, Math::tf32, conv::fits_fused_matrices<float>,
         conv::run_fused_forward<float>},
        {"cuda_5_ldmatrix", this_device, DType::bfloat16, Math::exact, conv::fits_fused_matrices<bfloat16>,
         conv::run_fused_forward<bfloat16>},
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_fused, conv::run_wgmma_fused},
    };
    return rows;
}
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows() {
    static constexpr FusedConvBackwardDataVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, has_two_parts, conv::run_fused_backward_data<Math::exact>},
        {"cuda_tf32", this_device, DType::float32, Math::tf32, conv::fits_fused_backward_data,
         conv::run_fused_backward_data<Math::tf32>},
        {"cuda", this_device, DType::bfloat16, Math::exact, conv::fits_fused_backward_data,
         conv::run_fused_backward_data<Math::exact>},
    };
    return rows;
}
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows() {
    static constexpr FusedConvBackwardWeightVariant rows[] = {
        {"cuda_3_register", this_device, DType::float32, Math::exact, conv::fits_fused_tile_weight,
         conv::run_fused_tile_backward_weight},
        {"cuda_tf32", this_device, DType::float32, Math::tf32, conv::fits_fused_matrices<float>,
         conv::run_fused_tensor_weight},
        {"cuda_5_ldmatrix", this_device, DType::bfloat16, Math::exact, conv::fits_fused_matrices<bfloat16>,
         conv::run_fused_backward_weight},
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_fused_weight,
         conv::run_wgmma_fused_weight},
    };
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
