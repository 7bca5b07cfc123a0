// The emulation has no vendor's rows: cuDNN and cuBLAS run on a GPU alone.
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::emulated {

std::span<const ConvVariant> vendor_conv_rows() { return {}; }
std::span<const ConvBackwardDataVariant> vendor_conv_backward_data_rows() { return {}; }
std::span<const ConvBackwardWeightVariant> vendor_conv_backward_weight_rows() { return {}; }

}  // namespace cover::cuda::emulated
