// The geometry of two views of an image, spec sections 1 and 6: displacement field, overlap mask and both crops.
//
//   field(p)  = psi(corner + p), psi = affine + elastic_scale * elastic, times `factor`, held within +-limit
//   mask(p)   = 1 where p + field(p) lies inside of the patch (kernels/affine.h), else 0
//   moving(p) = image(corner + p)
//   fixed(p)  = warp(image, psi)(corner + p), by the convention of kernels/warp.h on the whole image
//
// images (N,D,H,W,C), whole; elastic (N,D,H,W,nd), whole, may be left out; moving, fixed (N,d,h,w,C), field
// (N,d,h,w,nd), mask (N,d,h,w,1): patches; facts (draws, 2): how many pixels of the mask are 1, and the largest
// |component| of the field.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/shape.h"
#include "kernels/affine.h"
#include "kernels/records.h"
#include "kernels/variant.h"
#include "kernels/warp.h"

namespace cover {

// One sample to be made, a record of the argument `draws`.
struct ViewDraw {
    AffineDisplacement affine;
    std::int64_t corner[3] = {};  // of the patch in the image, (D, H, W)
    std::int64_t sample = 0;      // which image, and which patch of each output
    float elastic_scale = 0;
    float factor = 1;
    float limit = std::numeric_limits<float>::infinity();
    float unused = 0;
};

// psi along `axis` at pixel (d, h, w) of the whole image; `elastic`: the elastic term there, 0 without one. In single
// precision behind the affine part and rounded after each step, so that every device has the same bits: fma(a, b, 0) is
// a product that no compiler merges with the sum behind it.
COVER_HOST_DEVICE inline float view_displacement(const ViewDraw& draw, int axis, std::int64_t d, std::int64_t h,
                                                 std::int64_t w, float elastic) {
    const float affine =
        affine_displacement(draw.affine, axis, static_cast<double>(d), static_cast<double>(h), static_cast<double>(w));
    const float psi = affine + std::fma(draw.elastic_scale, elastic, 0.0f);
    const float scaled = std::fma(psi, draw.factor, 0.0f);
    const float least = -draw.limit;
    const float raised = scaled < least ? least : scaled;
    return draw.limit < raised ? draw.limit : raised;
}

struct CutViewsParams {
    std::int64_t n = 1;      // images
    std::int64_t draws = 1;  // at most n, each of another sample; the other samples' outputs are left as they are
    Grid image, patch;
    std::int64_t channels = 1;
    WarpConvention convention = WarpConvention::exact;

    constexpr std::int64_t image_count() const { return n * image.pixels() * channels; }
    constexpr std::int64_t elastic_count() const { return n * image.pixels() * image.spatial_dims; }
    constexpr std::int64_t patch_count() const { return n * patch.pixels() * channels; }
    constexpr std::int64_t field_count() const { return n * patch.pixels() * patch.spatial_dims; }
    constexpr std::int64_t mask_count() const { return n * patch.pixels(); }
};

// Throws Error(internal) on sides below 1, a patch larger than the image, and more draws than samples. Corners and
// samples of the draws are the caller's to get right: they may lie on a device.
void validate(const CutViewsParams& params);

using CutViewsRun = void(View moving, View fixed, View field, View mask, View facts, ConstView images,
                         ConstView elastic, ConstView draws, const CutViewsParams&, Stream&);
using CutViewsVariant = Variant<CutViewsParams, CutViewsRun>;

std::span<const CutViewsVariant> cut_views_table();

// Of the samples that are drawn, everything is overwritten. draws: ViewDraw records; facts are float64.
CutViewsRun cut_views;

namespace ref {
std::span<const CutViewsVariant> cut_views_rows();
}
namespace cpu {
std::span<const CutViewsVariant> cut_views_rows();
}

}  // namespace cover
