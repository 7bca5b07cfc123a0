// Vector code of the optimizer steps, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct AdamParams;
struct SgdParams;
}  // namespace cover

namespace cover::cpu {

// With g = gradient_scale * dw + weight_decay * w:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  w -= rate m / (sqrt(v * correction) + epsilon)
struct AdamFactors {
    float gradient_scale, weight_decay, beta1, one_minus_beta1, beta2, one_minus_beta2;
    float rate;        // lr / (1 - beta1^step)
    float correction;  // 1 / (1 - beta2^step)
    float epsilon;
};

// buffer = momentum * buffer + g, w -= lr * buffer. The first step sets the buffer and never reads it.
struct SgdFactors {
    float gradient_scale, weight_decay, momentum, lr;
    bool first;
};

struct OptimKernels {
    void (*adam)(float* w, float* m, float* v, const float* dw, AdamFactors factors, std::int64_t count);
    void (*sgd)(float* w, float* buffer, const float* dw, SgdFactors factors, std::int64_t count);
};

namespace avx2 {
extern const OptimKernels optim_kernels;
}
namespace avx512 {
extern const OptimKernels optim_kernels;
}

void adam(const OptimKernels& kernels, View w, View m, View v, ConstView dw, ConstView factors,
          const AdamParams& params, Stream& stream);
void sgd(const OptimKernels& kernels, View w, View buffer, ConstView dw, ConstView factors, const SgdParams& params,
         Stream& stream);

}  // namespace cover::cpu
