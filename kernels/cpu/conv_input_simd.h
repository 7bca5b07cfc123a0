// Vector code that fills lines of a convolution's input from what is still pending, once per instruction set.
#pragma once

#include "kernels/cpu/norm.h"

namespace cover::cpu {

// Channels [0, channels) of pixels that lie so many floats apart.
struct PixelLine {
    float* out;
    std::int64_t out_stride;
    std::int64_t x_stride;
    std::int64_t pixels;  // of out
    std::int64_t channels;
};

struct ConvInputKernels {
    // out = leaky(x * scale + shift)
    void (*activate)(PixelLine line, const float* x, NormAffine affine);
    // The largest of the activated values in windows of two by two: (rows 2) or two by two by two (rows 4), the rows
    // beginning at x + offsets[i]; where affine.scale is null, of the values themselves.
    void (*pool)(PixelLine line, const float* x, const std::int64_t* offsets, int rows, NormAffine affine);
};

namespace avx2 {
extern const ConvInputKernels conv_input_kernels;
}
namespace avx512 {
extern const ConvInputKernels conv_input_kernels;
}

}  // namespace cover::cpu
