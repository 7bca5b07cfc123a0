// Vector code of local attention, once per instruction set. A vector holds neighbouring pixels along W. A tile of
// pixels and the halo around it are first copied channel by channel, so that a neighbour at any offset is one
// unaligned load; the logits of a vector's window live in a small buffer and nowhere else.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct LocalAttentionParams;
}  // namespace cover

namespace cover::cpu {

// One sample. Axes are ordered (D, H, W).
struct AttentionShape {
    std::int64_t sides[3];
    std::int64_t tile[3];  // largest extents of a tile
    int spatial_dims;
    int heads, head_dim;
    int radius[3];  // 0 along D in 2D
};

struct AttentionTile {
    std::int64_t begin[3], extent[3];
};

// Per head and pixel, planes (heads, 3, D, H, W): largest logit; scale / (heads * sum of exponentials); dy * v.
inline constexpr int attention_statistics = 3;

struct LocalAttentionKernels {
    // Floats of scratch that each of the functions below needs.
    std::int64_t (*scratch)(const AttentionShape& shape);
    void (*forward)(float* y, const float* q, const float* k, const AttentionShape& shape, const AttentionTile& tile,
                    float* scratch);
    // Writes dq and the statistics of the tile's pixels.
    void (*backward_query)(float* dq, float* statistics, const float* dy, const float* q, const float* k,
                           const AttentionShape& shape, const AttentionTile& tile, float* scratch);
    // Writes dk of the tile's pixels: gathers from the queries whose windows hold them. Needs their statistics.
    void (*backward_key)(float* dk, const float* statistics, const float* dy, const float* q, const float* k,
                         const AttentionShape& shape, const AttentionTile& tile, float* scratch);
};

namespace avx2 {
extern const LocalAttentionKernels local_attention_kernels;
}
namespace avx512 {
extern const LocalAttentionKernels local_attention_kernels;
}

void local_attention(const LocalAttentionKernels& kernels, View y, ConstView q, ConstView k,
                     const LocalAttentionParams& params, Stream& stream);
void local_attention_backward(const LocalAttentionKernels& kernels, View dq, View dk, ConstView dy, ConstView q,
                              ConstView k, const LocalAttentionParams& params, Stream& stream);

}  // namespace cover::cpu
