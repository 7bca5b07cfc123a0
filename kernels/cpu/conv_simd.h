// The inner loops of the CPU convolutions, written once with GCC's vector types and compiled once per instruction set:
// the including .cpp defines COVER_ISA_NAMESPACE and COVER_ISA_LANES (floats per vector). No standard library code may
// be used here: an inline function shared with other translation units would carry this unit's instruction set there.
#pragma once

#include "kernels/cpu/conv_kernels.h"

namespace cover::cpu::COVER_ISA_NAMESPACE {

constexpr int L = COVER_ISA_LANES;
// Rows of a register tile of two vectors: 12 accumulators of 16 registers, 24 of 32.
constexpr int rows_of_two = L == 16 ? 12 : 6;
constexpr int rows_of_one = 12;

typedef float Vec __attribute__((vector_size(L * 4)));
typedef float VecUnaligned __attribute__((vector_size(L * 4), aligned(4), may_alias));

#define COVER_INLINE inline __attribute__((always_inline))

COVER_INLINE const VecUnaligned& at(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
COVER_INLINE VecUnaligned& at(float* p) { return *reinterpret_cast<VecUnaligned*>(p); }

// P output pixels x V vectors of output channels: y (=, +=) strip * panel.
template <int P, int V>
static void forward_tile(const ConvBlock& b, i64 first) {
    Vec acc[P][V];
    float* y = b.y + first * b.y_stride;
    const bool whole = b.channels == V * L;
    float edge[V * L];
    if (b.bias) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[p][v] = at(b.bias + v * L);
    } else if (whole) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[p][v] = at(y + p * b.y_stride + v * L);
    } else {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
            for (int c = 0; c < V * L; ++c) edge[c] = c < b.channels ? y[p * b.y_stride + c] : 0.0f;
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[p][v] = at(edge + v * L);
        }
    }
    const float* w = b.panel;
    for (int r = 0; r < b.rows; ++r) {
        const float* x[P];
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) x[p] = b.x + b.pixel[first + p] * b.pixel_stride + b.row_offset[r];
        for (i64 k = 0; k < b.run; ++k) {
            Vec weight[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) weight[v] = at(w + v * L);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) {
                const float value = x[p][k];
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) acc[p][v] += weight[v] * value;
            }
            w += V * L;
        }
    }
    if (whole) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) at(y + p * b.y_stride + v * L) = acc[p][v];
    } else {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) at(edge + v * L) = acc[p][v];
            for (int c = 0; c < b.channels; ++c) y[p * b.y_stride + c] = edge[c];
        }
    }
}

using ForwardTile = void(const ConvBlock&, i64);
constexpr ForwardTile* forward_two[] = {
    nullptr,
    forward_tile<1, 2>,
    forward_tile<2, 2>,
    forward_tile<3, 2>,
    forward_tile<4, 2>,
    forward_tile<5, 2>,
    forward_tile<6, 2>,
#if COVER_ISA_LANES == 16
    forward_tile<7, 2>,
    forward_tile<8, 2>,
    forward_tile<9, 2>,
    forward_tile<10, 2>,
    forward_tile<11, 2>,
    forward_tile<12, 2>,
#endif
};
constexpr ForwardTile* forward_one[] = {
    nullptr,
    forward_tile<1, 1>,
    forward_tile<2, 1>,
    forward_tile<3, 1>,
    forward_tile<4, 1>,
    forward_tile<5, 1>,
    forward_tile<6, 1>,
    forward_tile<7, 1>,
    forward_tile<8, 1>,
    forward_tile<9, 1>,
    forward_tile<10, 1>,
    forward_tile<11, 1>,
    forward_tile<12, 1>,
};

// Tiles of nearly equal size: the last one is never a slow sliver.
static void forward_block(const ConvBlock& b) {
    const int most = b.vectors == 2 ? rows_of_two : rows_of_one;
    const i64 tiles = (b.pixels + most - 1) / most, larger = b.pixels % tiles;
    const int rows = static_cast<int>(b.pixels / tiles);
    ForwardTile* const* table = b.vectors == 2 ? forward_two : forward_one;
    i64 first = 0;
    for (i64 t = 0; t < tiles; ++t) {
        const int p = rows + (t < larger);
        table[p](b, first);
        first += p;
    }
}

// J rows of the weight (tap and input channel) x V vectors of output channels, summed over the pixels of the block.
template <int J, int V>
static void weight_tile(const ConvWeightBlock& b, i64 first) {
    Vec acc[J][V];
    float* out = b.out + first * V * L;
    const float* x[J];
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
        const i64 row = (first + j) / b.run;
        x[j] = b.x + b.row_offset[row] + (first + j - row * b.run);
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[j][v] = b.accumulate ? at(out + (j * V + v) * L) : Vec{};
    const float* dy = b.dy;
    for (i64 p = 0; p < b.pixels; ++p) {
        const i64 offset = b.offset[p];
        Vec grad[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) grad[v] = at(dy + v * L);
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j) {
            const float value = x[j][offset];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[j][v] += grad[v] * value;
        }
        dy += V * L;
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) at(out + (j * V + v) * L) = acc[j][v];
}

using WeightTile = void(const ConvWeightBlock&, i64);
constexpr WeightTile* weight_two[] = {
    nullptr,           weight_tile<1, 2>, weight_tile<2, 2>, weight_tile<3, 2>,  weight_tile<4, 2>,  weight_tile<5, 2>,
    weight_tile<6, 2>,
#if COVER_ISA_LANES == 16
    weight_tile<7, 2>, weight_tile<8, 2>, weight_tile<9, 2>, weight_tile<10, 2>, weight_tile<11, 2>, weight_tile<12, 2>,
#endif
};
constexpr WeightTile* weight_one[] = {
    nullptr,
    weight_tile<1, 1>,
    weight_tile<2, 1>,
    weight_tile<3, 1>,
    weight_tile<4, 1>,
    weight_tile<5, 1>,
    weight_tile<6, 1>,
    weight_tile<7, 1>,
    weight_tile<8, 1>,
    weight_tile<9, 1>,
    weight_tile<10, 1>,
    weight_tile<11, 1>,
    weight_tile<12, 1>,
};

static void weight_block(const ConvWeightBlock& b) {
    const int most = b.vectors == 2 ? rows_of_two : rows_of_one;
    const i64 count = b.rows * b.run, tiles = (count + most - 1) / most, larger = count % tiles;
    const int rows = static_cast<int>(count / tiles);
    WeightTile* const* table = b.vectors == 2 ? weight_two : weight_one;
    i64 first = 0;
    for (i64 t = 0; t < tiles; ++t) {
        const int j = rows + (t < larger);
        table[j](b, first);
        first += j;
    }
}

// target += source
static void add(float* target, const float* source, i64 count) {
    for (i64 i = 0; i < count; ++i) target[i] += source[i];
}

// target[c] (=, +=) sum over pixels of a panel (pixels, width); four partial sums, joined in a fixed order.
static void sum_pixels(float* target, const float* panel, i64 pixels, int vectors, bool accumulate) {
    const i64 width = vectors * L;
    for (int v = 0; v < vectors; ++v) {
        Vec s[4] = {};
        i64 p = 0;
        for (; p + 4 <= pixels; p += 4)
            for (int i = 0; i < 4; ++i) s[i] += at(panel + (p + i) * width + v * L);
        for (; p < pixels; ++p) s[0] += at(panel + p * width + v * L);
        const Vec sum = (s[0] + s[1]) + (s[2] + s[3]);
        at(target + v * L) = accumulate ? at(target + v * L) + sum : sum;
    }
}

// Rows of `channels` floats, `stride` apart, to rows of `width` floats with zeros behind.
static void copy_panel(float* panel, const float* source, i64 rows, i64 stride, i64 channels, i64 width) {
    if (channels == width && width % L == 0) {
        for (i64 r = 0; r < rows; ++r)
            for (i64 c = 0; c < width; c += L) at(panel + r * width + c) = at(source + r * stride + c);
        return;
    }
    for (i64 r = 0; r < rows; ++r)
        for (i64 c = 0; c < width; ++c) panel[r * width + c] = c < channels ? source[r * stride + c] : 0.0f;
}

// panel[k][c] = source[c * stride + k] for k in [0, depth), zero for c from channels on.
static void copy_panel_transposed(float* panel, const float* source, i64 depth, i64 stride, i64 channels, i64 width) {
    for (i64 c = 0; c < width; ++c)
        for (i64 k = 0; k < depth; ++k) panel[k * width + c] = c < channels ? source[c * stride + k] : 0.0f;
}

constexpr ConvKernels conv_kernels_here = {
    L, forward_block, weight_block, add, sum_pixels, copy_panel, copy_panel_transposed,
};

}  // namespace cover::cpu::COVER_ISA_NAMESPACE
