#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

void add(float* y, const float* a, const float* b, std::int64_t count) {
    for_channels(count, [=]<int L>(std::int64_t i) { store<L>(y + i, load<L>(a + i) + load<L>(b + i)); });
}

void scale(float* y, const float* x, float factor, std::int64_t count, bool streaming) {
    choose_stores(
        streaming, [=]<bool past>() __attribute__((always_inline)) {
            for_channels(count, [=]<int L>(std::int64_t i) { put<L, past>(y + i, load<L>(x + i) * factor); });
        });
}

void copy_rows(float* to, std::int64_t to_stride, const float* from, std::int64_t from_stride, std::int64_t pixels,
               std::int64_t channels, bool streaming) {
    choose_stores(
        streaming, [=]<bool past>() __attribute__((always_inline)) {
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
                for_channels(channels, [=]<int L>(std::int64_t c) {
                    put<L, past>(to + pixel * to_stride + c, load<L>(from + pixel * from_stride + c));
                });
        });
}

}  // namespace

extern const ElementwiseKernels elementwise_kernels;
const ElementwiseKernels elementwise_kernels = {add, scale, copy_rows};

}  // namespace cover::cpu::COVER_ISA
