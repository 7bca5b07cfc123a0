// What the driver of the CPU convolutions (conv.cpp) and its inner loops (conv_simd.h) say to each other.
#pragma once

#include <cstdint>

namespace cover::cpu {

using i64 = std::int64_t;

// A strip of output pixels, one block of input channels, one tile of output channels.
//   y[p, c] (= bias[c], or +=) sum over rows r and k of x[pixel[p] * pixel_stride + row_offset[r] + k] * panel[r, k, c]
// A row is one (depth, height) tap; its run covers the width taps and the channels of the block, which are adjacent in
// the padded strip.
struct ConvBlock {
    const float* x;
    const std::int32_t* pixel;
    i64 pixels;
    i64 pixel_stride;
    const i64* row_offset;
    int rows;
    i64 run;
    const float* panel;  // (rows, run, vectors * lanes)
    const float* bias;   // vectors * lanes values; null: add to y
    float* y;
    i64 y_stride;
    int vectors;   // 1 or 2
    int channels;  // of the tile; at most vectors * lanes
    // Lines that will be wanted soon; they are called for little by little while this block is computed.
    const float* const* prefetch;
    i64 prefetches;
};

// out[r, k, c] (=, +=) sum over pixels p of x[offset[p] + row_offset[r] + k] * dy[p, c]
struct ConvWeightBlock {
    const float* x;
    const std::int32_t* offset;
    i64 pixels;
    const i64* row_offset;
    i64 rows, run;
    const float* dy;  // pixels rows of vectors * lanes values, dy_stride apart
    i64 dy_stride;
    float* out;  // (rows, run, vectors * lanes)
    int vectors;
    bool accumulate;
    // For weight_tree_block alone: samples that follow at these strides are summed in a fixed binary tree, and the sum
    // is added to the gradient (tap, all_channels_in, all_channels_out) at out.
    i64 samples, x_sample_stride, dy_sample_stride;
    i64 channels_in, all_channels_in, channels_out, all_channels_out;
};

// weight_tree_block takes fewer than 2^conv_tree_levels samples.
constexpr int conv_tree_levels = 10;

struct ConvKernels {
    int lanes;
    void (*forward_block)(const ConvBlock&);
    void (*weight_block)(const ConvWeightBlock&);
    void (*weight_tree_block)(const ConvWeightBlock&);
    void (*add_rows)(float* target, i64 stride, const float* source, i64 width, i64 rows, i64 channels);
    void (*sum_pixels)(float* target, const float* panel, i64 stride, i64 pixels, int vectors, bool accumulate);
    void (*copy_panel)(float* panel, const float* source, i64 rows, i64 stride, i64 channels, i64 width);
    void (*copy_panel_transposed)(float* panel, const float* source, i64 depth, i64 stride, i64 channels, i64 width);
};

extern const ConvKernels conv_kernels_avx2;
extern const ConvKernels conv_kernels_avx512;

}  // namespace cover::cpu
