// The rows of the convolution's ladder; each rung is a file of conv/. docs/ladder/conv.md walks up it.
#include "kernels/cuda/conv/first_layer.cuh"
#include "kernels/cuda/conv/ldmatrix.cuh"
#include "kernels/cuda/conv/ldmatrix_weight.cuh"
#include "kernels/cuda/conv/naive.cuh"
#include "kernels/cuda/conv/slices.cuh"
#include "kernels/cuda/conv/tensor.cuh"
#include "kernels/cuda/conv/tensor_weight.cuh"
#include "kernels/cuda/conv/tile.cuh"
#include "kernels/cuda/conv/tile_weight.cuh"
#include "kernels/cuda/conv/wgmma_rows.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace conv {

template <class T>
void run_naive_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    launch(stream, "conv naive_forward", blocks_for(p.y_count()), threads_per_block, 0, naive_forward<T>, y.as<T>(),
           x.as<T>(), weight.as<float>(), bias.as<float>(), p);
}

template <class T>
void run_naive_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    launch(stream, "conv naive_backward_data", blocks_for(p.x_count()), threads_per_block, 0, naive_backward_data<T>,
           dx.as<T>(), dy.as<T>(), weight.as<float>(), p);
}

template <class T>
void run_naive_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                               Stream& stream) {
    accumulate_slices<T>(dweight, dbias, dy, p, stream, [&](float* partial, const Slices& slices) {
        launch(stream, "conv naive_backward_weight",
               dim3(blocks_for(p.weight_count()), static_cast<unsigned>(slices.count)), threads_per_block, 0,
               naive_backward_weight<T>, partial, dy.as<T>(), x.as<T>(), p, slices.lines);
    });
}

void run_tile_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                              Stream& stream) {
    accumulate_slices<float>(dweight, dbias, dy, p, stream, [&](float* partial, const Slices& slices) {
        (p.kernel == 1 ? launch_tile_weight<1, const float*>
                       : launch_tile_weight<3, const float*>)("conv tile_backward_weight", partial, dy, x.as<float>(),
                                                              0, p, slices, stream);
    });
}

template <class T>
void run_matrix_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    (p.kernel == 1 ? choose_matrix<T, 1> : choose_matrix<T, 3>)(y, x, weight.as<float>(), bias.as<float>(), p, false,
                                                                stream);
}

template <class T>
void run_matrix_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    ConvParams mirrored = p;
    mirrored.c_in = p.c_out;
    mirrored.c_out = p.c_in;
    (p.kernel == 1 ? choose_matrix<T, 1> : choose_matrix<T, 3>)(dx, dy, weight.as<float>(), nullptr, mirrored, true,
                                                                stream);
}

void run_matrix_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                                Stream& stream) {
    const ConvParams flat = without_neighbours(p);
    (p.kernel == 1 ? launch_matrix_weight<WeightTile<1, 2, 2>>
                   : launch_matrix_weight<WeightTile<3, 2, 2>>)(dweight, dbias, dy, x, flat, stream);
}

void run_tensor_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                                Stream& stream) {
    (p.kernel == 1 ? launch_tensor_weight<TensorWeightTile<1>, const float*>
                   : launch_tensor_weight<TensorWeightTile<3>, const float*>)("conv tensor_backward_weight", dweight,
                                                                              dbias, dy, x.as<float>(), 0,
                                                                              without_neighbours(p), stream);
}

template <class T>
void run_first_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    (p.kernel == 1 ? launch_first_forward<T, 1> : launch_first_forward<T, 3>)(y, x, weight, bias, p, stream);
}

template <class T>
void run_first_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                               Stream& stream) {
    (p.kernel == 1 ? launch_first_weight<T, 1> : launch_first_weight<T, 3>)(dweight, dbias, dy, x, p, stream);
}

// Rung 5 takes the network's first layer as well, by kernels of its own, so that one name serves a whole network.
template <class T>
bool fits_rung_5(const ConvParams& p, const DeviceFacts& facts) {
    return fits_first_layer(p, facts) || fits_matrices<T>(p, facts);
}

template <class T>
void run_rung_5_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    (p.c_in == 1 ? run_first_forward<T> : run_matrix_forward<T>)(y, x, weight, bias, p, stream);
}

void run_rung_5_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p,
                                Stream& stream) {
    (p.c_in == 1 ? run_first_backward_weight<bfloat16> : run_matrix_backward_weight)(dweight, dbias, dy, x, p, stream);
}

}  // namespace conv

std::span<const ConvVariant> conv_rows() {
    static constexpr ConvVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>, conv::run_naive_forward<float>},
        {"cuda_1_naive", this_device, DType::bfloat16, Math::exact, always<ConvParams>,
         conv::run_naive_forward<bfloat16>},
        {"cuda_2_shared", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_forward<conv::SharedTile>, true},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_forward<conv::RegisterTile>, true},
        {"cuda_3_one_channel", this_device, DType::float32, Math::exact, conv::fits_first_layer,
         conv::run_first_forward<float>},
        {"cuda_4_tensor", this_device, DType::float32, Math::tf32, conv::fits_tensor_cores, conv::run_tensor_forward,
         true},
        {"cuda_5_tf32", this_device, DType::float32, Math::tf32, conv::fits_rung_5<float>,
         conv::run_rung_5_forward<float>},
        {"cuda_5_ldmatrix", this_device, DType::bfloat16, Math::exact, conv::fits_rung_5<bfloat16>,
         conv::run_rung_5_forward<bfloat16>, true},
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma, conv::run_wgmma_forward, true},
    };
    return rows;
}
std::span<const ConvBackwardDataVariant> conv_backward_data_rows() {
    static constexpr ConvBackwardDataVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_naive_backward_data<float>},
        {"cuda_1_naive", this_device, DType::bfloat16, Math::exact, always<ConvParams>,
         conv::run_naive_backward_data<bfloat16>},
        {"cuda_2_shared", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_data<conv::SharedTile>, true},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_data<conv::RegisterTile>, true},
        {"cuda_4_tensor", this_device, DType::float32, Math::tf32, conv::fits_tensor_cores,
         conv::run_tensor_backward_data, true},
        {"cuda_5_tf32", this_device, DType::float32, Math::tf32, conv::fits_matrices<float>,
         conv::run_matrix_backward_data<float>},
        {"cuda_5_ldmatrix", this_device, DType::bfloat16, Math::exact, conv::fits_matrices<bfloat16>,
         conv::run_matrix_backward_data<bfloat16>, true},
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_backward_data,
         conv::run_wgmma_backward_data, true},
    };
    return rows;
}
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows() {
    static constexpr ConvBackwardWeightVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_naive_backward_weight<float>},
        {"cuda_1_naive", this_device, DType::bfloat16, Math::exact, always<ConvParams>,
         conv::run_naive_backward_weight<bfloat16>},
        {"cuda_3_register", this_device, DType::float32, Math::exact, always<ConvParams>,
         conv::run_tile_backward_weight, true},
        {"cuda_3_one_channel", this_device, DType::float32, Math::exact, conv::fits_first_layer,
         conv::run_first_backward_weight<float>},
        {"cuda_4_tensor", this_device, DType::float32, Math::tf32, conv::fits_tensor_cores,
         conv::run_tensor_backward_weight, true},
        {"cuda_5_ldmatrix", this_device, DType::bfloat16, Math::exact, conv::fits_rung_5<bfloat16>,
         conv::run_rung_5_backward_weight, true},
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_backward_weight,
         conv::run_wgmma_backward_weight, true},
    };
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
