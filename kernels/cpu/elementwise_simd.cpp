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

template <int L>
struct Halves {
    typedef std::uint32_t Whole __attribute__((vector_size(4 * L)));
    typedef std::uint16_t Half __attribute__((vector_size(2 * L)));
};

// As core/dtype.h rounds: to nearest even, a NaN keeps its upper bits and becomes a quiet one.
void to_bfloat16(std::uint16_t* y, const float* x, std::int64_t count) {
    for_channels(count, [=]<int L>(std::int64_t i) {
        using Whole = typename Halves<L>::Whole;
        const Whole u = (Whole)load<L>(x + i), upper = u >> 16;
        const Whole rounded = (u + 0x7fffu + (upper & 1u)) >> 16;
        const auto bits = (u & 0x7fffffffu) > 0x7f800000u ? upper | 0x0040u : rounded;
        const auto half = __builtin_convertvector(bits, typename Halves<L>::Half);
        __builtin_memcpy(y + i, &half, sizeof(half));
    });
}

void from_bfloat16(float* y, const std::uint16_t* x, std::int64_t count) {
    for_channels(count, [=]<int L>(std::int64_t i) {
        typename Halves<L>::Half half;
        __builtin_memcpy(&half, x + i, sizeof(half));
        store<L>(y + i, (Float<L>)(__builtin_convertvector(half, typename Halves<L>::Whole) << 16));
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
const ElementwiseKernels elementwise_kernels = {add, scale, to_bfloat16, from_bfloat16, copy_rows};

}  // namespace cover::cpu::COVER_ISA
