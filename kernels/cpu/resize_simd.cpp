#include "kernels/cpu/resize.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

// Few rows are the common case; their number is then known to the compiler.
template <int fixed>
void blend_rows(float* out, const float* in, const std::int64_t* offsets, const float* weights, int rows,
                std::int64_t count) {
    const int n = fixed ? fixed : rows;
    for_channels(count, [=]<int L>(std::int64_t i) {
        Float<L> sum = load<L>(in + offsets[0] + i) * weights[0];
        for (int k = 1; k < n; ++k) sum += load<L>(in + offsets[k] + i) * weights[k];
        store<L>(out + i, sum);
    });
}

void blend(float* out, const float* in, const std::int64_t* offsets, const float* weights, int rows,
           std::int64_t count) {
    switch (rows) {
    case 1: return blend_rows<1>(out, in, offsets, weights, rows, count);
    case 2: return blend_rows<2>(out, in, offsets, weights, rows, count);
    case 3: return blend_rows<3>(out, in, offsets, weights, rows, count);
    case 4: return blend_rows<4>(out, in, offsets, weights, rows, count);
    default: return blend_rows<0>(out, in, offsets, weights, rows, count);
    }
}

void resample(float* out, const float* in, AxisTable table, std::int64_t width, std::int64_t channels) {
    for (std::int64_t w = 0; w < width; ++w) {
        const std::int32_t begin = table.start[w], end = table.start[w + 1];
        for_channels(channels, [=]<int L>(std::int64_t c) {
            Float<L> sum = load<L>(in + table.index[begin] * channels + c) * table.weight[begin];
            for (std::int32_t k = begin + 1; k < end; ++k)
                sum += load<L>(in + table.index[k] * channels + c) * table.weight[k];
            store<L>(out + w * channels + c, sum);
        });
    }
}

}  // namespace

extern const ResizeKernels resize_kernels;
const ResizeKernels resize_kernels = {blend, resample};

}  // namespace cover::cpu::COVER_ISA
