// Vector code of up-sampling, once per instruction set. Up-sampling and its gradient are the same operation with other
// tables: each output row is a weighted sum of input rows, then each of its pixels a weighted sum of that row's pixels.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct UpsampleParams;
}  // namespace cover

namespace cover::cpu {

// Output index j of an axis reads the inputs index[k] with weight[k], k in [start[j], start[j + 1]).
struct AxisTable {
    const std::int32_t* start;
    const std::int32_t* index;
    const float* weight;
};

struct ResizeKernels {
    // out[i] = sum over rows k of weights[k] * in[offsets[k] + i]
    void (*blend)(float* out, const float* in, const std::int64_t* offsets, const float* weights, int rows,
                  std::int64_t count);
    // Along one row of `width` output pixels.
    void (*resample)(float* out, const float* in, AxisTable table, std::int64_t width, std::int64_t channels,
                     bool streaming);
};

namespace avx2 {
extern const ResizeKernels resize_kernels;
}
namespace avx512 {
extern const ResizeKernels resize_kernels;
}

void upsample(const ResizeKernels& kernels, View y, ConstView x, const UpsampleParams& params, Stream& stream);
void upsample_backward(const ResizeKernels& kernels, View dx, ConstView dy, const UpsampleParams& params,
                       Stream& stream);

}  // namespace cover::cpu
