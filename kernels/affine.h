// The affine displacement field and the overlap mask, spec sections 1 and 6, in one header for every device: each value
// is a fixed chain of fused multiply-adds in double, so that CPU and GPU agree bit for bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace cover {

// psi(p) = A (p - (S-1)/2) + t + floor(S/2) - p, folded on the host into psi_a(p) = sum_b slope[a][b] * p_b + shift[a].
// Axes are ordered (D, H, W); in 2D only 1 and 2 are used.
struct AffineDisplacement {
    double slope[3][3] = {};
    double shift[3] = {};
};

COVER_HOST_DEVICE inline float affine_displacement(const AffineDisplacement& m, int axis, double d, double h,
                                                   double w) {
    return static_cast<float>(
        std::fma(m.slope[axis][0], d, std::fma(m.slope[axis][1], h, std::fma(m.slope[axis][2], w, m.shift[axis]))));
}

// One component of the overlap rule: 0 < (i + psi) / (S - 1) <= 1, a point exactly at coordinate 0 being outside.
COVER_HOST_DEVICE inline bool lands_inside(std::int64_t i, float psi, std::int64_t side) {
    const float target = static_cast<float>(i) + psi;
    return target > 0.0f && target <= static_cast<float>(side - 1);
}

}  // namespace cover
