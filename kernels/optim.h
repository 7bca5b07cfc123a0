// Optimizer steps over flat buffers. Spec section 7. In this order, per element:
//
//   g = gradient_scale * dw + weight_decay * w                        gradient_scale carries the clipping factor
//   Adam:  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//          w -= rate * m / (sqrt(v * correction) + epsilon)
//          rate = lr / (1 - beta1^step),  correction = 1 / (1 - beta2^step)
//   SGD:   b = momentum b + g (b = g at step 1),  w -= lr * b
//
// What changes from step to step lies in memory of the device, so that a recorded step can be played again: the
// schedule (2): learning rate and number of the step, from 1, written before each step; and the factors (4) that
// optimizer_factors() makes of it, of the loss and of the gradient's norm. Both are float64 for every type of w.
#pragma once

#include <span>

#include "kernels/variant.h"

namespace cover {

// apply: 1, or 0 where the loss or the norm is not finite: then no weight and no moment may change.
// gradient_scale: min(1, clip / (norm + 1e-6)), 1 without clipping.
// rate: as above; the learning rate for SGD.  correction: as above; for SGD 1 at the first step and else 0.
enum OptimizerFactor : int {
    apply_factor,
    gradient_scale_factor,
    rate_factor,
    correction_factor,
    optimizer_factor_count
};

struct OptimizerFactorsParams {
    bool adam = true;  // else SGD
    double beta1 = 0.9, beta2 = 0.999;
    double clip = 1;  // 0 or less: no clipping
};

struct AdamParams {
    std::int64_t count = 1;
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
};

struct SgdParams {
    std::int64_t count = 1;
    double momentum = 0.9, weight_decay = 0;
};

void validate(const OptimizerFactorsParams& params);  // Error(internal) unless 0 <= beta < 1
void validate(const AdamParams& params);              // Error(internal) unless count is positive
void validate(const SgdParams& params);

using OptimizerFactorsRun = void(View factors, ConstView schedule, ConstView loss, ConstView sum_of_squares,
                                 const OptimizerFactorsParams&, Stream&);
using AdamRun = void(View w, View m, View v, ConstView dw, ConstView factors, const AdamParams&, Stream&);
using SgdRun = void(View w, View buffer, ConstView dw, ConstView factors, const SgdParams&, Stream&);
using OptimizerFactorsVariant = Variant<OptimizerFactorsParams, OptimizerFactorsRun>;
using AdamVariant = Variant<AdamParams, AdamRun>;
using SgdVariant = Variant<SgdParams, SgdRun>;

std::span<const OptimizerFactorsVariant> optimizer_factors_table();
std::span<const AdamVariant> adam_table();
std::span<const SgdVariant> sgd_table();

// factors is overwritten. loss (1) of the row's type, sum_of_squares (1) float64.
OptimizerFactorsRun optimizer_factors;
// w, m and v are updated in place.
AdamRun adam;
// w and buffer are updated in place.
SgdRun sgd;

namespace ref {
std::span<const OptimizerFactorsVariant> optimizer_factors_rows();
std::span<const AdamVariant> adam_rows();
std::span<const SgdVariant> sgd_rows();
}  // namespace ref
namespace cpu {
std::span<const AdamVariant> adam_rows();
std::span<const SgdVariant> sgd_rows();
}  // namespace cpu

}  // namespace cover
