// Runs a model against recorded numbers: three optimizer steps on one batch. Where the numbers come from (a golden
// file) is the caller's business.
#pragma once

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "cover/model.h"
#include "cover/step.h"

namespace cover {

struct GoldenCase {
    ModelConfig model;
    double lr = 1e-3, weight_decay = 1e-4, clip = 1;
    std::vector<NamedTensor> weights;              // authors' names and layout
    Tensor moving, fixed, field, mask;             // (B, C, spatial...)
    Tensor flow, features_moving, features_fixed;  // of step 0, (B, C, spatial...)
    struct Step {
        double loss_vec = 0, loss_con = 0, grad_norm = 0;
    };
    std::array<Step, 3> steps;
    std::vector<NamedTensor> gradients;      // of step 0
    std::vector<NamedTensor> weights_after;  // of step 2
};

struct GoldenCheck {
    std::string name;
    double error = 0, tolerance = 0;  // infinite: printed, not tested
    bool tested() const { return std::isfinite(tolerance); }
    // A NaN fails.
    bool ok() const { return error <= tolerance; }
};

struct GoldenResult {
    std::vector<GoldenCheck> checks;
    // What was computed, in the file's layouts and the real type of the run.
    Tensor flow, features_moving, features_fixed;
    std::array<GoldenCase::Step, 3> steps;
    std::vector<NamedTensor> gradients, weights_after;
    bool ok() const;
};

// dtype is that of features; float64 takes the reference rows. Tolerances, as relative 2-norms unless noted:
//   float32   flow and features 2e-6, losses 1e-5 * max(1, value) absolute, whole gradient 1e-5 and each tensor 1e-4,
//             all weights after three steps together 1e-4 and each tensor 1e-3
//   float64   1e-9, and 6e-8 for what the file stores in float32
//   TF32      flow and losses 3e-3, features 5e-3; bfloat16: 2e-2, 3e-2. Losses of later steps 5e-2 and 0.2, the
//             whole gradient, its norm and all weights together 0.3, single tensors printed and not tested
// In float32 a LeakyReLU or max-pool tie may fall to the other side once the weights have moved: in cover2d_amp3.h5 one
// activation of the third step lies 4.8e-8 from its kink, less than the rounding of the weights before it. Such a flip
// moves single tensors by a few 1e-4; in float64 it does not happen.
GoldenResult run_golden(const GoldenCase& golden, DType dtype, Stream& stream);

// (B, C, spatial...) <-> channels last (B,D,H,W,C), in the dtype given.
Tensor channels_last(const Tensor& file, int spatial_dims, DType dtype);
Tensor channels_first(const Tensor& activation, int spatial_dims);

}  // namespace cover
