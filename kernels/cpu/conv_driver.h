// Direct convolution on the CPU for any set of inner loops: how the work is cut into strips, packed and spread over
// threads. Where sums are split depends on the shape alone.
#pragma once

#include "kernels/conv.h"
#include "kernels/cpu/conv_kernels.h"

namespace cover::cpu {

class ConvInput;     // conv_input.h
class StripMoments;  // conv_statistics.h

// Where the result goes: one tensor, or two whose channels lie one behind another.
struct ConvOutput {
    float* parts[2];
    i64 channels[2];

    ConvOutput(float* y, i64 all) : parts{y, nullptr}, channels{all, 0} {}
    ConvOutput(float* first, i64 first_channels, float* second, i64 second_channels)
        : parts{first, second}, channels{first_channels, second_channels} {}
};

// The convolution of conv.h, or, transposed, its data gradient: then x is dy, y is dx and there is no bias. The moments
// of y, in one part, are summed where they are asked for.
void conv_forward(const ConvKernels& kernels, const ConvOutput& y, const ConvInput& x, const float* weight,
                  const float* bias, bool transposed, const ConvParams& params, Stream& stream,
                  StripMoments* moments = nullptr);
// dweight and dbias are added to; dbias may be null.
void conv_weight_gradient(const ConvKernels& kernels, float* dweight, float* dbias, const float* dy, const ConvInput& x,
                          const ConvParams& params, Stream& stream);

}  // namespace cover::cpu
