#include "kernels/cpu/conv_input_simd.h"

#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

// Calls body.template operator()<L, vectors>(c) for blocks of vectors * L channels that cover [0, channels): the tables
// of a block stay in registers while the pixels of a line pass.
template <class Body>
COVER_INLINE void for_wide_channels(std::int64_t channels, Body body) {
    for_channel_runs(
        channels, [=]<int L>(std::int64_t c, std::int64_t end) __attribute__((always_inline)) {
            for (; c + 4 * L <= end; c += 4 * L) body.template operator()<L, 4>(c);
            for (; c + 2 * L <= end; c += 2 * L) body.template operator()<L, 2>(c);
            for (; c < end; c += L) body.template operator()<L, 1>(c);
        });
}

void activate(PixelLine line, const float* x, NormAffine affine) {
    for_wide_channels(line.channels, [=]<int L, int vectors>(std::int64_t c) {
        Float<L> scale[vectors], shift[vectors];
        for (int v = 0; v < vectors; ++v) {
            scale[v] = load<L>(affine.scale + c + v * L);
            shift[v] = load<L>(affine.shift + c + v * L);
        }
        const float* from = x + c;
        float* to = line.out + c;
        for (std::int64_t i = 0; i < line.pixels; ++i, from += line.x_stride, to += line.out_stride)
            for (int v = 0; v < vectors; ++v)
                store<L>(to + v * L, affine_leaky<L>(load<L>(from + v * L), scale[v], shift[v], affine.slope));
    });
}

template <int rows, bool activated>
void pool_line(PixelLine line, const float* x, const std::int64_t* offsets, NormAffine affine) {
    for_wide_channels(line.channels, [=]<int L, int vectors>(std::int64_t c) {
        Float<L> scale[vectors] = {}, shift[vectors] = {};
        if constexpr (activated) {
            for (int v = 0; v < vectors; ++v) {
                scale[v] = load<L>(affine.scale + c + v * L);
                shift[v] = load<L>(affine.shift + c + v * L);
            }
        }
        const float* from[rows];
        for (int r = 0; r < rows; ++r) from[r] = x + offsets[r] + c;
        for (std::int64_t i = 0; i < line.pixels; ++i) {
            for (int v = 0; v < vectors; ++v) {
                Float<L> best{};
                for (int k = 0; k < 2 * rows; ++k) {
                    Float<L> value = load<L>(from[k / 2] + (2 * i + k % 2) * line.x_stride + v * L);
                    if constexpr (activated) value = affine_leaky<L>(value, scale[v], shift[v], affine.slope);
                    if (k == 0)
                        best = value;
                    else
                        best = value > best ? value : best;
                }
                store<L>(line.out + i * line.out_stride + c + v * L, best);
            }
        }
    });
}

void pool(PixelLine line, const float* x, const std::int64_t* offsets, int rows, NormAffine affine) {
    if (rows == 2)
        affine.scale ? pool_line<2, true>(line, x, offsets, affine) : pool_line<2, false>(line, x, offsets, affine);
    else
        affine.scale ? pool_line<4, true>(line, x, offsets, affine) : pool_line<4, false>(line, x, offsets, affine);
}

}  // namespace

extern const ConvInputKernels conv_input_kernels;
const ConvInputKernels conv_input_kernels = {activate, pool};

}  // namespace cover::cpu::COVER_ISA
