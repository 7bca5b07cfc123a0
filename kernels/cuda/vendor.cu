// The vendors' rows of this device. Built by nvcc alone: cuDNN and cuBLAS run on a GPU. (A test builds vendor/rows.cuh
// over the emulation, with a stand-in for either library.)
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/vendor/rows.cuh"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const ConvVariant> vendor_conv_rows() { return vendor::forward_rows(); }
std::span<const ConvBackwardDataVariant> vendor_conv_backward_data_rows() { return vendor::backward_data_rows(); }
std::span<const ConvBackwardWeightVariant> vendor_conv_backward_weight_rows() { return vendor::backward_weight_rows(); }

}  // namespace cover::cuda::COVER_CUDA_BUILD
