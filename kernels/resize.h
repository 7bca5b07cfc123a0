// Up-sampling by two, bilinear or trilinear, in both alignments. Spec sections 2 (align_corners = false, half-pixel
// centres) and 4 (align_corners = true, for displacement fields).
//
// x (N,D,H,W,C) -> y (N,2D,2H,2W,C); in 2D the depth stays 1. With L input pixels on an axis, output index j reads the
// input at
//   align_corners = false:  max((j + 1/2) / 2 - 1/2, 0), its right neighbour clamped to L - 1
//   align_corners = true:   j * (L - 1) / (2 L - 1); an axis of one pixel is repeated
// y is multiplied by gain (2 for displacements, whose unit is the pixel of their own grid). x and y have one type.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct UpsampleParams {
    std::int64_t n = 1;
    Grid grid;  // of x
    std::int64_t channels = 8;
    bool align_corners = false;
    double gain = 1.0;

    constexpr std::int64_t x_count() const { return n * grid.pixels() * channels; }
    constexpr std::int64_t y_count() const { return x_count() * (grid.spatial_dims == 2 ? 4 : 8); }
};

// Throws Error(internal) on sides below 1 or a 2D grid with D != 1.
void validate(const UpsampleParams& params);

using UpsampleRun = void(View y, ConstView x, const UpsampleParams&, Stream&);
using UpsampleBackwardRun = void(View dx, ConstView dy, const UpsampleParams&, Stream&);
using UpsampleVariant = Variant<UpsampleParams, UpsampleRun>;
using UpsampleBackwardVariant = Variant<UpsampleParams, UpsampleBackwardRun>;

std::span<const UpsampleVariant> upsample_table();
std::span<const UpsampleBackwardVariant> upsample_backward_table();

// y is overwritten.
UpsampleRun upsample;
// dx is overwritten: each input pixel gathers from the outputs that read it.
UpsampleBackwardRun upsample_backward;

namespace ref {
std::span<const UpsampleVariant> upsample_rows();
std::span<const UpsampleBackwardVariant> upsample_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const UpsampleVariant> upsample_rows();
std::span<const UpsampleBackwardVariant> upsample_backward_rows();
}  // namespace cpu

}  // namespace cover
