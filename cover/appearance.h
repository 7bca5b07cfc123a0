// Changes of views that are not geometry's main path: the elastic term of the field and the appearance of x_a. Spec
// section 6. What is drawn is drawn here, on the host; the pixels are changed by the ops of kernels/augment.h.
#pragma once

#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "cover/config.h"
#include "kernels/augment.h"

namespace cover {

struct SampleKey;

// gaussian_blur of x (B,D,H,W,C) with one sigma in pixels for each sample, truncated at 4 sigma.
void blur(Tensor& x, const std::vector<double>& sigmas, int spatial_dims, Border border, Stream& stream);

// The elastic term before its strength: per axis uniform noise in [-1,1], blurred by one sigma for each sample.
struct ElasticDraw {
    PhiloxStream stream;
    double sigma = 0;
    float alpha = 0;  // strength, pixels
};
ElasticDraw draw_elastic(const TrainConfig& config, const RandomKey& key);
// waves (B,D,H,W,nd), overwritten.
void make_elastic(Tensor& waves, const std::vector<ElasticDraw>& draws, Stream& stream);

// Noise, blur, contrast, brightness, in-painting, in this order, on patches (B,D,H,W,C) in place. Strengths are drawn
// with `strength_keys`, everything else with `keys`; the two differ under batch_shared_augmentation only.
void change_appearance(Tensor& patches, const TrainConfig& config, const std::vector<SampleKey>& keys,
                       const std::vector<SampleKey>& strength_keys, Stream& stream);

}  // namespace cover
