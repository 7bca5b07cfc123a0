// The fused convolution on the CPU: the drivers of the plain one, reading a pending input, with the statistics of y.
#pragma once

#include "kernels/cpu/conv_input_simd.h"
#include "kernels/cpu/conv_kernels.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/resize.h"
#include "kernels/fused_conv.h"

namespace cover::cpu {

struct FusedConvKernels {
    const ConvKernels& conv;
    const ConvInputKernels& input;
    const NormKernels& norm;
    const ResizeKernels& resize;
};

void fused_conv(const FusedConvKernels& kernels, View y, View mean, View rstd, const PendingInput& input,
                ConstView weight, ConstView bias, const FusedConvParams& params, Stream& stream);
void fused_conv_backward_data(const FusedConvKernels& kernels, View first, View second, ConstView dy, ConstView weight,
                              const FusedConvParams& params, Stream& stream);
void fused_conv_backward_weight(const FusedConvKernels& kernels, View dweight, View dbias, ConstView dy,
                                const PendingInput& input, const FusedConvParams& params, Stream& stream);

}  // namespace cover::cpu
