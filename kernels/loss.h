// The two masked losses. Spec section 1. Both are one ratio over all pixels of the batch.
//
//   masked L1:      loss = sum mask * |target - prediction|_1 / sum mask          the norm sums the channels
//   masked cosine:  loss = 1 - sum mask * cos(a, b) / sum mask                    each norm floored at 1e-12
//
// prediction, target, a, b (N,D,H,W,C); mask (N,D,H,W,1), 0 or 1; loss and dloss are one element. The L1 norm is of
// fields: all of it has one type, float32 beside bfloat16 activations. a, b and their gradients are activations; their
// mask, loss and dloss have the real type of theirs (core/dtype.h). An empty mask is the caller's error (spec section
// 1): the kernels then write NaN.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct LossParams {
    std::int64_t n = 1;
    std::int64_t pixels = 1;  // D * H * W
    std::int64_t channels = 2;

    constexpr std::int64_t count() const { return n * pixels * channels; }
    constexpr std::int64_t mask_count() const { return n * pixels; }
};

// Throws Error(internal) on sides below 1.
void validate(const LossParams& params);

using MaskedL1Run = void(View loss, ConstView prediction, ConstView target, ConstView mask, const LossParams&, Stream&);
using MaskedL1BackwardRun = void(View dprediction, ConstView dloss, ConstView prediction, ConstView target,
                                 ConstView mask, const LossParams&, Stream&);
using MaskedCosineRun = void(View loss, ConstView a, ConstView b, ConstView mask, const LossParams&, Stream&);
using MaskedCosineBackwardRun = void(View da, View db, ConstView dloss, ConstView a, ConstView b, ConstView mask,
                                     const LossParams&, Stream&);
using MaskedL1Variant = Variant<LossParams, MaskedL1Run>;
using MaskedL1BackwardVariant = Variant<LossParams, MaskedL1BackwardRun>;
using MaskedCosineVariant = Variant<LossParams, MaskedCosineRun>;
using MaskedCosineBackwardVariant = Variant<LossParams, MaskedCosineBackwardRun>;

std::span<const MaskedL1Variant> masked_l1_table();
std::span<const MaskedL1BackwardVariant> masked_l1_backward_table();
std::span<const MaskedCosineVariant> masked_cosine_table();
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_table();

// loss is overwritten.
MaskedL1Run masked_l1;
// dprediction is overwritten; the derivative at prediction = target is 0.
MaskedL1BackwardRun masked_l1_backward;
// loss is overwritten.
MaskedCosineRun masked_cosine;
// da and db are overwritten. Below the floor a norm counts as the constant 1e-12.
MaskedCosineBackwardRun masked_cosine_backward;

namespace ref {
std::span<const MaskedL1Variant> masked_l1_rows();
std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows();
std::span<const MaskedCosineVariant> masked_cosine_rows();
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const MaskedL1Variant> masked_l1_rows();
std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows();
std::span<const MaskedCosineVariant> masked_cosine_rows();
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows();
}  // namespace cpu

}  // namespace cover
