// Direct convolution on the CPU for any set of inner loops: how the work is cut into strips, packed and spread over
// threads. Where sums are split depends on the shape alone.
#pragma once

#include "kernels/conv.h"
#include "kernels/cpu/conv_kernels.h"

namespace cover::cpu {

class ConvInput;     // conv_input.h
class StripMoments;  // conv_statistics.h

// The convolution of conv.h, or, transposed, its data gradient: then x is dy, y is dx and there is no bias. The moments
// of y are summed where they are asked for.
void conv_forward(const ConvKernels& kernels, float* y, const ConvInput& x, const float* weight, const float* bias,
                  bool transposed, const ConvParams& params, Stream& stream, StripMoments* moments = nullptr);
// dweight and dbias are added to; dbias may be null.
void conv_weight_gradient(const ConvKernels& kernels, float* dweight, float* dbias, const float* dy, const ConvInput& x,
                          const ConvParams& params, Stream& stream);

}  // namespace cover::cpu
