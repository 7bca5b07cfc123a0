// Optimizer steps over flat buffers. Spec section 7. In this order, per element:
//
//   g = gradient_scale * dw + weight_decay * w                        gradient_scale carries the clipping factor
//   Adam:  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//          w -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
//   SGD:   b = momentum b + g (b = g at step 1),  w -= lr * b
#pragma once

#include <span>

#include "kernels/variant.h"

namespace cover {

struct AdamParams {
    std::int64_t count = 1;
    std::int64_t step = 1;  // the first step is 1
    double lr = 1e-4, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0, gradient_scale = 1;
};

struct SgdParams {
    std::int64_t count = 1;
    std::int64_t step = 1;
    double lr = 1e-4, momentum = 0.9, weight_decay = 0, gradient_scale = 1;
};

void validate(const AdamParams& params);  // Error(internal) unless count and step are positive
void validate(const SgdParams& params);

using AdamRun = void(View w, View m, View v, ConstView dw, const AdamParams&, Stream&);
using SgdRun = void(View w, View buffer, ConstView dw, const SgdParams&, Stream&);
using AdamVariant = Variant<AdamParams, AdamRun>;
using SgdVariant = Variant<SgdParams, SgdRun>;

std::span<const AdamVariant> adam_table();
std::span<const SgdVariant> sgd_table();

// w, m and v are updated in place.
AdamRun adam;
// w and buffer are updated in place.
SgdRun sgd;

namespace ref {
std::span<const AdamVariant> adam_rows();
std::span<const SgdVariant> sgd_rows();
}  // namespace ref
namespace cpu {
std::span<const AdamVariant> adam_rows();
std::span<const SgdVariant> sgd_rows();
}  // namespace cpu

}  // namespace cover
