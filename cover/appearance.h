// Changes of a view that are not geometry's main path: the elastic term of the field and the appearance of x_a. Spec
// section 6.
#pragma once

#include <array>
#include <cstdint>

#include "core/rng.h"
#include "cover/config.h"

namespace cover {

struct SampleKey;

// Separable Gaussian over the spatial axes of data (D,H,W,C), in place. Truncated at 4 sigma; outside is zero, or the
// image mirrored at its border (reflect: d c b a | a b c d | d c b a).
enum class Border : std::uint8_t { zero, reflect };
void gaussian_blur(float* data, int spatial_dims, const std::array<std::int64_t, 3>& sides, std::int64_t channels,
                   double sigma, Border border);

// Adds the elastic term to a field (D,H,W,nd) of one whole image: per axis uniform noise in [-1,1], blurred by one
// sigma, times one alpha.
void add_elastic(float* field, int spatial_dims, const std::array<std::int64_t, 3>& sides, const TrainConfig& config,
                 const RandomKey& key);

// Noise, blur, contrast, brightness, in-painting, in this order, on one patch (D,H,W,C) in place. Strengths are drawn
// with `strength_key`, everything else with `key`; the two differ under batch_shared_augmentation only.
void change_appearance(float* patch, int spatial_dims, const std::array<std::int64_t, 3>& sides, std::int64_t channels,
                       const TrainConfig& config, const SampleKey& key, const SampleKey& strength_key);

}  // namespace cover
