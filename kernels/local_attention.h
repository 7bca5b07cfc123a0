// MoV, the mixture of vectors: attention of each pixel of F over a small window of M, whose values are the offsets
// themselves. Spec section 3.
//
//   logit[o] = sum over c in head of q_c(i) * k_c(i + o) / sqrt(head_dim)    o in {-radius..radius}^nd
//   logit[o] = -1000                                                        where i + o lies outside
//   y(i)     = mean over heads of sum over o of softmax_o(logit)[o] * o
//
// q, k (N,D,H,W, heads * head_dim); channel c belongs to head c mod heads (the head is the fast index).
// y (N,D,H,W,nd), components ordered (D,)H,W; it and its gradient have the real type of q's (core/dtype.h). The window
// volume is never stored.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct LocalAttentionParams {
    std::int64_t n = 1;
    Grid grid;
    int heads = 1, head_dim = 8, radius = 2;

    constexpr std::int64_t channels() const { return std::int64_t{heads} * head_dim; }
    constexpr std::int64_t q_count() const { return n * grid.pixels() * channels(); }
    constexpr std::int64_t y_count() const { return n * grid.pixels() * grid.spatial_dims; }
    constexpr int window() const {
        const int side = 2 * radius + 1;
        return grid.spatial_dims == 2 ? side * side : side * side * side;
    }
};

// Throws Error(internal) unless sides, heads, head_dim and radius are positive.
void validate(const LocalAttentionParams& params);

using LocalAttentionRun = void(View y, ConstView q, ConstView k, const LocalAttentionParams&, Stream&);
using LocalAttentionBackwardRun = void(View dq, View dk, ConstView dy, ConstView q, ConstView k,
                                       const LocalAttentionParams&, Stream&);
using LocalAttentionVariant = Variant<LocalAttentionParams, LocalAttentionRun>;
using LocalAttentionBackwardVariant = Variant<LocalAttentionParams, LocalAttentionBackwardRun>;

std::span<const LocalAttentionVariant> local_attention_table();
std::span<const LocalAttentionBackwardVariant> local_attention_backward_table();

// y is overwritten.
LocalAttentionRun local_attention;
// dq and dk are overwritten; the softmax is recomputed.
LocalAttentionBackwardRun local_attention_backward;

namespace ref {
std::span<const LocalAttentionVariant> local_attention_rows();
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const LocalAttentionVariant> local_attention_rows();
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows();
}  // namespace cpu

}  // namespace cover
