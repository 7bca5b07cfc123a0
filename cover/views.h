// Two views of one image, their displacement field and overlap mask. Spec section 6.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "cover/config.h"
#include "kernels/affine.h"

namespace cover {

// The drawn parameters of an affine map: angles and shears in radians, translations in pixels, by axis x, y, z of the
// array (spec section 6); 2D uses x and y. shear: xy, yx, xz, zx, yz, zy.
struct AffineDraw {
    std::array<double, 3> angle{};
    std::array<double, 3> scale{1, 1, 1};
    std::array<double, 3> translation{};
    struct Shear {
        double xy = 0, xz = 0, yx = 0, yz = 0, zx = 0, zy = 0;
    } shear;
};

// The spec's psi of a draw on a whole image of the given sides (D, H, W), folded for kernels/affine.h.
AffineDisplacement affine_map(const AffineDraw& draw, int spatial_dims, const std::array<std::int64_t, 3>& sides);

// Ranges of the draws, with `degree` already multiplied in.
AffineDraw draw_affine(const TrainConfig& config, const std::array<std::int64_t, 3>& sides, RandomStream& random);

struct SampleKey {
    std::uint32_t epoch = 0;
    std::uint32_t sample = 0;
};

struct Views {                 // the tensors lie on one device
    Tensor images;             // (2B,D,H,W,C): the moving views x_a, then the fixed views x_b
    Tensor field;              // psi (B,D,H,W,nd), pixels
    Tensor mask;               // eps (B,D,H,W,1), 0 or 1
    double valid = 0;          // share of the mask
    std::int64_t redrawn = 0;  // samples drawn again for an empty mask or, with limit_reach, an unreachable field
    bool empty = false;        // no valid pixel in the whole batch: the step must be skipped
};

struct ViewOptions {
    bool appearance = true;  // false: x_a is the plain crop (evaluation)
    bool elastic_allowed = true;
};

// images: the stored images (B,D,H,W,C) float32 on the host or the stream's device, sides at least the patch's. Each
// sample's numbers are keyed by seed, epoch, sample, purpose and attempt: the result depends on nothing else, thread
// count included. They are drawn on the host; the pixels are made on the stream's device, where field and mask have the
// CPU's bits and the images are the CPU's to rounding.
Views make_views(const Tensor& images, const std::vector<SampleKey>& keys, const TrainConfig& config, Stream& stream,
                 const ViewOptions& options = {});

// Share of valid pixels whose true displacement lies beyond the pyramid's reach, over `draws` fields on an image of
// these sides, each at a random crop, pixels on a coarse lattice; and the zero-field L_vec of the same. Spec
// section 10.
struct ReachStatistics {
    double beyond = 0;
    double zero_field_loss = 0;
    double lower_bound = 0;  // of L_vec: the mean excess over the reach
};
ReachStatistics reach_statistics(const TrainConfig& config, const std::array<std::int64_t, 3>& sides, int draws);

}  // namespace cover
