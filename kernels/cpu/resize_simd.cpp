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

template <int fixed, bool past>
COVER_INLINE void resample_pixel(float* out, const float* in, const std::int32_t* index, const float* weight, int reads,
                                 std::int64_t channels) {
    const int n = fixed ? fixed : reads;
    for_channels(channels, [=]<int L>(std::int64_t c) {
        Float<L> sum = load<L>(in + index[0] * channels + c) * weight[0];
        for (int k = 1; k < n; ++k) sum += load<L>(in + index[k] * channels + c) * weight[k];
        put<L, past>(out + c, sum);
    });
}

void resample(float* out, const float* in, AxisTable table, std::int64_t width, std::int64_t channels, bool streaming) {
    choose_stores(
        streaming, [=]<bool past>() __attribute__((always_inline)) {
            for (std::int64_t w = 0; w < width; ++w) {
                const std::int32_t begin = table.start[w], reads = table.start[w + 1] - begin;
                const std::int32_t* index = table.index + begin;
                const float* weight = table.weight + begin;
                float* to = out + w * channels;
                switch (reads) {
                case 1: resample_pixel<1, past>(to, in, index, weight, reads, channels); break;
                case 2: resample_pixel<2, past>(to, in, index, weight, reads, channels); break;
                case 3: resample_pixel<3, past>(to, in, index, weight, reads, channels); break;
                case 4: resample_pixel<4, past>(to, in, index, weight, reads, channels); break;
                default: resample_pixel<0, past>(to, in, index, weight, reads, channels);
                }
            }
        });
}

}  // namespace

extern const ResizeKernels resize_kernels;
const ResizeKernels resize_kernels = {blend, resample};

}  // namespace cover::cpu::COVER_ISA
