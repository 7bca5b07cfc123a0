// The rows of the convolution's ladder; each rung is a file of conv/. docs/ladder/conv.md walks up it.
#include "kernels/cuda/conv/naive.cuh"
#include "kernels/cuda/conv/tensor.cuh"
#include "kernels/cuda/conv/tile.cuh"
#include "kernels/cuda/conv/tile_weight.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace conv {

void run_naive_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    launch(stream, "conv naive_forward", blocks_for(p.y_count()), threads_per_block, 0, naive_forward, y.as<float>(),
           x.as<float>(), weight.as<float>(), bias.as<float>(), p);
}

void run_naive_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    launch(stream, "conv naive_backward_data", blocks_for(p.x_count()), threads_per_block, 0, naive_backward_data,
           dx.as<float>(), dy.as<float>(), weight.as<float>(), p);
}

// dbias += the sum of dy over pixels.
void accumulate_bias(View dbias, ConstView dy, const ConvParams& p, const Slices& slices, Stream& stream) {
    Workspace<float> partial(slices.count * p.c_out, stream);
    launch(stream, "conv bias_partial", dim3(blocks_for(p.c_out), static_cast<unsigned>(slices.count)),
           threads_per_block, 0, bias_partial, partial.data(), dy.as<float>(), p, slices.lines);
    launch(stream, "conv add_slices", blocks_for(p.c_out), threads_per_block, 0, add_slices, dbias.as<float>(),
           partial.data(), p.c_out, slices.count);
}

void run_naive_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                               Stream& stream) {
    const Slices slices = Slices::of(p);
    const std::int64_t count = p.weight_count();
    Workspace<float> partial(slices.count * count, stream);
    launch(stream, "conv naive_backward_weight", dim3(blocks_for(count), static_cast<unsigned>(slices.count)),
           threads_per_block, 0, naive_backward_weight, partial.data(), dy.as<float>(), x.as<float>(), p, slices.lines);
    launch(stream, "conv add_slices", blocks_for(count), threads_per_block, 0, add_slices, dweight.as<float>(),
           partial.data(), count, slices.count);
    accumulate_bias(dbias, dy, p, slices, stream);
}

void run_tile_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                              Stream& stream) {
    const Slices slices = Slices::of(p);
    const std::int64_t count = p.weight_count();
    Workspace<float> partial(slices.count * count, stream);
    (p.kernel == 1 ? launch_tile_weight<1> : launch_tile_weight<3>)(partial.data(), dy, x, p, slices, stream);
    launch(stream, "conv add_slices", blocks_for(count), threads_per_block, 0, add_slices, dweight.as<float>(),
           partial.data(), count, slices.count);
    accumulate_bias(dbias, dy, p, slices, stream);
}

}  // namespace conv

std::span<const ConvVariant> conv_rows() {
    static constexpr ConvVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>, conv::run_naive_forward},
        {"cuda_2_shared", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_forward<conv::SharedTile>},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_forward<conv::RegisterTile>},
        {"cuda_4_tensor", this_device, DType::float32, Math::tf32, conv::fits_tensor_cores, conv::run_tensor_forward}};
    return rows;
}
std::span<const ConvBackwardDataVariant> conv_backward_data_rows() {
    static constexpr ConvBackwardDataVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>, conv::run_naive_backward_data},
        {"cuda_2_shared", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_data<conv::SharedTile>},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_data<conv::RegisterTile>},
        {"cuda_4_tensor", this_device, DType::float32, Math::tf32, conv::fits_tensor_cores,
         conv::run_tensor_backward_data}};
    return rows;
}
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows() {
    static constexpr ConvBackwardWeightVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>, conv::run_naive_backward_weight},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_weight}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
