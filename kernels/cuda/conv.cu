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

// fill(partial, slices) leaves the weight gradient of each slice of lines in partial (slices, weight_count); both
// gradients grow by the sum of their slices in their order.
template <class Fill>
void accumulate_slices(View dweight, View dbias, ConstView dy, const ConvParams& p, Stream& stream, const Fill& fill) {
    const Slices slices = Slices::of(p);
    const auto add = [&](View out, float* partial, std::int64_t count) {
        launch(stream, "conv add_slices", blocks_for(count), threads_per_block, 0, add_slices, out.as<float>(), partial,
               count, slices.count);
    };
    Workspace<float> weights(slices.count * p.weight_count(), stream), biases(slices.count * p.c_out, stream);
    fill(weights.data(), slices);
    add(dweight, weights.data(), p.weight_count());
    launch(stream, "conv bias_partial", dim3(blocks_for(p.c_out), static_cast<unsigned>(slices.count)),
           threads_per_block, 0, bias_partial, biases.data(), dy.as<float>(), p, slices.lines);
    add(dbias, biases.data(), p.c_out);
}

void run_naive_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                               Stream& stream) {
    accumulate_slices(dweight, dbias, dy, p, stream, [&](float* partial, const Slices& slices) {
        launch(stream, "conv naive_backward_weight",
               dim3(blocks_for(p.weight_count()), static_cast<unsigned>(slices.count)), threads_per_block, 0,
               naive_backward_weight, partial, dy.as<float>(), x.as<float>(), p, slices.lines);
    });
}

void run_tile_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                              Stream& stream) {
    accumulate_slices(dweight, dbias, dy, p, stream, [&](float* partial, const Slices& slices) {
        (p.kernel == 1 ? launch_tile_weight<1> : launch_tile_weight<3>)(partial, dy, x, p, slices, stream);
    });
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
