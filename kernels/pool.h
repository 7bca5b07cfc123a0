// Max pooling with window and stride 2 on every spatial axis. Spec section 2.
//
// x (N,D,H,W,C) -> y (N,D/2,H/2,W/2,C), of one type; in 2D the depth stays 1. Sides are even. A tie goes to the first
// pixel in memory order, forward and backward.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct MaxPoolParams {
    std::int64_t n = 1;
    Grid grid;  // of x
    std::int64_t channels = 8;

    constexpr std::int64_t x_count() const { return n * grid.pixels() * channels; }
    constexpr std::int64_t y_count() const { return x_count() / (grid.spatial_dims == 2 ? 4 : 8); }
};

// Throws Error(internal) unless the pooled sides are even and positive.
void validate(const MaxPoolParams& params);

using MaxPoolRun = void(View y, ConstView x, const MaxPoolParams&, Stream&);
using MaxPoolBackwardRun = void(View dx, ConstView dy, ConstView x, const MaxPoolParams&, Stream&);
using MaxPoolVariant = Variant<MaxPoolParams, MaxPoolRun>;
using MaxPoolBackwardVariant = Variant<MaxPoolParams, MaxPoolBackwardRun>;

std::span<const MaxPoolVariant> max_pool_table();
std::span<const MaxPoolBackwardVariant> max_pool_backward_table();

// y is overwritten.
MaxPoolRun max_pool;
// dx is overwritten; the winner is found again from x.
MaxPoolBackwardRun max_pool_backward;

namespace ref {
std::span<const MaxPoolVariant> max_pool_rows();
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const MaxPoolVariant> max_pool_rows();
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows();
}  // namespace cpu

}  // namespace cover
