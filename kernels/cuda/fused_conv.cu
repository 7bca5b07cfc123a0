#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const FusedConvVariant> fused_conv_rows() { return {}; }
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows() { return {}; }
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows() { return {}; }

}  // namespace cover::cuda::COVER_CUDA_BUILD
