// Direct convolution on the CPU for any set of inner loops: how the work is cut into strips, packed and spread over
// threads. Where sums are split depends on the shape alone.
#pragma once

#include "kernels/conv.h"
#include "kernels/cpu/conv_kernels.h"

namespace cover::cpu {

// The convolution of conv.h, or, transposed, its data gradient: then x is dy, y is dx and there is no bias.
void conv_forward(const ConvKernels& kernels, float* y, const float* x, const float* weight, const float* bias,
                  bool transposed, const ConvParams& params, Stream& stream);
// dweight and dbias are added to; dbias may be null.
void conv_weight_gradient(const ConvKernels& kernels, float* dweight, float* dbias, const float* dy, const float* x,
                          const ConvParams& params, Stream& stream);

}  // namespace cover::cpu
