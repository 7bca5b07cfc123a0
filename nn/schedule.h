// The learning rate of a step. Spec section 7.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace cover {

// step counts from 0 to steps - 1. Cosine: lr * (1 + cos(pi * step / steps)) / 2. A warm-up of w steps multiplies the
// first w rates by (step + 1) / w.
inline double learning_rate(double lr, bool cosine, std::int64_t warmup, std::int64_t step, std::int64_t steps) {
    double rate = lr;
    if (cosine) rate *= (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(steps))) / 2;
    if (step < warmup) rate *= static_cast<double>(step + 1) / static_cast<double>(warmup);
    return rate;
}

}  // namespace cover
