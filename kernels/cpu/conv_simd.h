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

template <int P, int V>
COVER_INLINE void add_products(Vec (&acc)[P][V], const float* const (&x)[P], const float* w, i64 k) {
    Vec weight[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weight[v] = at(w + v * L);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
        const float value = x[p][k];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[p][v] += weight[v] * value;
    }
}

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
            // The compiler must not see that the inputs lie at known distances: it would then compute addresses in the
            // loop.
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) asm("" : "+r"(x[p]));
        i64 k = 0;
        for (; k < b.run; ++k, w += V * L) add_products<P, V>(acc, x, w, k);
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
        for (i64 i = b.prefetches * t / tiles; i < b.prefetches * (t + 1) / tiles; ++i)
            __builtin_prefetch(b.prefetch[i]);
        table[p](b, first);
        first += p;
    }
}

// Where the rows of a weight tile begin: (row tap, position in its run) of the first, then one after another.
template <int J>
COVER_INLINE void find_inputs(const float* (&x)[J], const ConvWeightBlock& b, i64 first) {
    i64 row = first / b.run, column = first - row * b.run;
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
        x[j] = b.x + b.row_offset[row] + column;
        if (++column == b.run) {
            column = 0;
            ++row;
        }
    }
}

template <int J, int V>
COVER_INLINE void add_pixels(Vec (&acc)[J][V], const float* const (&x)[J], const float* dy, i64 dy_stride,
                             const std::int32_t* offset, i64 pixels) {
    for (i64 p = 0; p < pixels; ++p) {
        const i64 at_pixel = offset[p];
        Vec gradient[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) gradient[v] = at(dy + v * L);
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j) {
            const float value = x[j][at_pixel];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[j][v] += gradient[v] * value;
        }
        dy += dy_stride;
    }
}

// J rows of the weight (tap and input channel) x V vectors of output channels, summed over the pixels of the block.
template <int J, int V>
static void weight_tile(const ConvWeightBlock& b, i64 first) {
    Vec acc[J][V];
    const float* x[J];
    float* out = b.out + first * V * L;
    find_inputs(x, b, first);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[j][v] = b.accumulate ? at(out + (j * V + v) * L) : Vec{};
    add_pixels(acc, x, b.dy, b.dy_stride, b.offset, b.pixels);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) at(out + (j * V + v) * L) = acc[j][v];
}

// The same for few pixels and many weights: the samples' sums meet in a fixed binary tree while they are in registers,
// and the total goes straight to the gradient, whose lines are called for before the sums begin.
template <int J, int V>
static void weight_tree_tile(const ConvWeightBlock& b, i64 first) {
    Vec acc[J][V], stack[conv_tree_levels][J][V];
    const float* x[J];
    float* target[J];
    find_inputs(x, b, first);
    i64 tap = first / b.channels_in, channel = first - tap * b.channels_in;
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
        target[j] = b.out + (tap * b.all_channels_in + channel) * b.all_channels_out;
        __builtin_prefetch(target[j], 1);
        if (V * L > 16) __builtin_prefetch(target[j] + 16, 1);
        if (++channel == b.channels_in) {
            channel = 0;
            ++tap;
        }
    }
    int top = 0;
    for (i64 n = 0; n < b.samples; ++n) {
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[j][v] = Vec{};
        add_pixels(acc, x, b.dy + n * b.dy_sample_stride, b.dy_stride, b.offset, b.pixels);
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j) x[j] += b.x_sample_stride;
        // Level k holds 2^k samples; behind the last sample all levels are joined.
        for (i64 s = n + 1; top > 0 && (s % 2 == 0 || n + 1 == b.samples); s /= 2) {
            --top;
#pragma GCC unroll 16
            for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) acc[j][v] = stack[top][j][v] + acc[j][v];
        }
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) stack[top][j][v] = acc[j][v];
        ++top;
    }
    for (int j = 0; j < J; ++j) {
        if (b.channels_out == V * L)
            for (int v = 0; v < V; ++v) at(target[j] + v * L) += stack[0][j][v];
        else
            for (int c = 0; c < b.channels_out; ++c) target[j][c] += stack[0][j][c / L][c % L];
    }
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
constexpr WeightTile* weight_tree_two[] = {
    nullptr,
    weight_tree_tile<1, 2>,
    weight_tree_tile<2, 2>,
    weight_tree_tile<3, 2>,
    weight_tree_tile<4, 2>,
    weight_tree_tile<5, 2>,
    weight_tree_tile<6, 2>,
#if COVER_ISA_LANES == 16
    weight_tree_tile<7, 2>,
    weight_tree_tile<8, 2>,
    weight_tree_tile<9, 2>,
    weight_tree_tile<10, 2>,
    weight_tree_tile<11, 2>,
    weight_tree_tile<12, 2>,
#endif
};
constexpr WeightTile* weight_tree_one[] = {
    nullptr,
    weight_tree_tile<1, 1>,
    weight_tree_tile<2, 1>,
    weight_tree_tile<3, 1>,
    weight_tree_tile<4, 1>,
    weight_tree_tile<5, 1>,
    weight_tree_tile<6, 1>,
    weight_tree_tile<7, 1>,
    weight_tree_tile<8, 1>,
    weight_tree_tile<9, 1>,
    weight_tree_tile<10, 1>,
    weight_tree_tile<11, 1>,
    weight_tree_tile<12, 1>,
};

static void weight_tiles(const ConvWeightBlock& b, WeightTile* const* table) {
    const int most = b.vectors == 2 ? rows_of_two : rows_of_one;
    const i64 count = b.rows * b.run, tiles = (count + most - 1) / most, larger = count % tiles;
    const int rows = static_cast<int>(count / tiles);
    i64 first = 0;
    for (i64 t = 0; t < tiles; ++t) {
        const int j = rows + (t < larger);
        table[j](b, first);
        first += j;
    }
}

static void weight_block(const ConvWeightBlock& b) { weight_tiles(b, b.vectors == 2 ? weight_two : weight_one); }
static void weight_tree_block(const ConvWeightBlock& b) {
    weight_tiles(b, b.vectors == 2 ? weight_tree_two : weight_tree_one);
}

// target[r * stride + c] += source[r * width + c]
static void add_rows(float* target, i64 stride, const float* source, i64 width, i64 rows, i64 channels) {
    for (i64 r = 0; r < rows; ++r, target += stride, source += width) {
        i64 c = 0;
        for (; c + L <= channels; c += L) at(target + c) += at(source + c);
        for (; c < channels; ++c) target[c] += source[c];
    }
}

// target[c] (=, +=) sum over pixels of a panel; four partial sums, joined in a fixed order.
static void sum_pixels(float* target, const float* panel, i64 stride, i64 pixels, int vectors, bool accumulate) {
    for (int v = 0; v < vectors; ++v) {
        Vec s[4] = {};
        i64 p = 0;
        for (; p + 4 <= pixels; p += 4)
            for (int i = 0; i < 4; ++i) s[i] += at(panel + (p + i) * stride + v * L);
        for (; p < pixels; ++p) s[0] += at(panel + p * stride + v * L);
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

typedef float Eight __attribute__((vector_size(32)));
typedef float EightUnaligned __attribute__((vector_size(32), aligned(4), may_alias));
typedef int EightIndex __attribute__((vector_size(32)));

COVER_INLINE void transpose_eight(float* out, i64 out_stride, const float* in, i64 in_stride) {
    Eight r[8], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = *reinterpret_cast<const EightUnaligned*>(in + i * in_stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        s[i] = __builtin_shuffle(r[i], r[i + 1], EightIndex{0, 8, 1, 9, 4, 12, 5, 13});
        s[i + 1] = __builtin_shuffle(r[i], r[i + 1], EightIndex{2, 10, 3, 11, 6, 14, 7, 15});
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
            r[i + 2 * h] = __builtin_shuffle(s[i + h], s[i + h + 2], EightIndex{0, 1, 8, 9, 4, 5, 12, 13});
            r[i + 2 * h + 1] = __builtin_shuffle(s[i + h], s[i + h + 2], EightIndex{2, 3, 10, 11, 6, 7, 14, 15});
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        s[i] = __builtin_shuffle(r[i], r[i + 4], EightIndex{0, 1, 2, 3, 8, 9, 10, 11});
        s[i + 4] = __builtin_shuffle(r[i], r[i + 4], EightIndex{4, 5, 6, 7, 12, 13, 14, 15});
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) *reinterpret_cast<EightUnaligned*>(out + i * out_stride) = s[i];
}

// panel[k][c] = source[c * stride + k] for k in [0, depth), zero for c from channels on.
static void copy_panel_transposed(float* panel, const float* source, i64 depth, i64 stride, i64 channels, i64 width) {
    const i64 whole_k = depth / 8 * 8, whole_c = channels / 8 * 8;
    for (i64 c = 0; c < whole_c; c += 8)
        for (i64 k = 0; k < whole_k; k += 8)
            transpose_eight(panel + k * width + c, width, source + c * stride + k, stride);
    for (i64 c = 0; c < width; ++c)
        for (i64 k = c < whole_c ? whole_k : 0; k < depth; ++k)
            panel[k * width + c] = c < channels ? source[c * stride + k] : 0.0f;
}

constexpr ConvKernels conv_kernels_here = {
    L, forward_block, weight_block, weight_tree_block, add_rows, sum_pixels, copy_panel, copy_panel_transposed,
};

}  // namespace cover::cpu::COVER_ISA_NAMESPACE
