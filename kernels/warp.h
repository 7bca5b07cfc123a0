// Warping by a displacement field, multilinear, zero outside. Spec section 5.
//
//   exact:      y(p) = source(p + field(p))
//   reference:  y(p) = source(q * S/(S-1) - 1/2) with q = p + field(p), per axis of side S (the authors' grid_sample)
//
// source, y (N,D,H,W,C); field (N,D,H,W,nd), in pixels, ordered (D,)H,W; it and its gradient have the real type of the
// source's (core/dtype.h). Corners outside contribute zero. On an axis of side 1 the reference convention divides by
// zero; there q - 1/2 is read.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

enum class WarpConvention : std::uint8_t { exact, reference };

struct WarpParams {
    std::int64_t n = 1;
    Grid grid;
    std::int64_t channels = 1;
    WarpConvention convention = WarpConvention::exact;

    constexpr std::int64_t source_count() const { return n * grid.pixels() * channels; }
    constexpr std::int64_t field_count() const { return n * grid.pixels() * grid.spatial_dims; }
};

// Throws Error(internal) on sides below 1 or a 2D grid with D != 1.
void validate(const WarpParams& params);

using WarpRun = void(View y, ConstView source, ConstView field, const WarpParams&, Stream&);
using WarpBackwardRun = void(View dsource, View dfield, ConstView dy, ConstView source, ConstView field,
                             const WarpParams&, Stream&);
using WarpVariant = Variant<WarpParams, WarpRun>;
using WarpBackwardVariant = Variant<WarpParams, WarpBackwardRun>;

std::span<const WarpVariant> warp_table();
std::span<const WarpBackwardVariant> warp_backward_table();

// y is overwritten.
WarpRun warp;
// dsource and dfield are overwritten; either may be left out (a default View). No floating-point atomics: the order in
// which contributions reach a source pixel depends on shapes alone.
WarpBackwardRun warp_backward;

namespace ref {
std::span<const WarpVariant> warp_rows();
std::span<const WarpBackwardVariant> warp_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const WarpVariant> warp_rows();
std::span<const WarpBackwardVariant> warp_backward_rows();
}  // namespace cpu

}  // namespace cover
