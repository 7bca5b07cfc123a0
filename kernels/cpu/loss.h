// Vector code of the masked losses, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct LossParams;
}  // namespace cover

namespace cover::cpu {

// Sums over some pixels: of mask times the pixel's term, and of mask.
struct MaskedSums {
    double terms, mask;
};

struct LossKernels {
    double (*mask_sum)(const float* mask, std::int64_t pixels);
    MaskedSums (*l1)(const float* prediction, const float* target, const float* mask, std::int64_t pixels,
                     std::int64_t channels);
    // dprediction = weight * mask * sign(prediction - target)
    void (*l1_backward)(float* dprediction, const float* prediction, const float* target, const float* mask,
                        float weight, std::int64_t pixels, std::int64_t channels);
    MaskedSums (*cosine)(const float* a, const float* b, const float* mask, std::int64_t pixels, std::int64_t channels);
    // da, db = weight * mask * the gradient of the cosine
    void (*cosine_backward)(float* da, float* db, const float* a, const float* b, const float* mask, double weight,
                            std::int64_t pixels, std::int64_t channels);
};

namespace avx2 {
extern const LossKernels loss_kernels;
}
namespace avx512 {
extern const LossKernels loss_kernels;
}

void masked_l1(const LossKernels& kernels, View loss, ConstView prediction, ConstView target, ConstView mask,
               const LossParams& params, Stream& stream);
void masked_l1_backward(const LossKernels& kernels, View dprediction, ConstView dloss, ConstView prediction,
                        ConstView target, ConstView mask, const LossParams& params, Stream& stream);
void masked_cosine(const LossKernels& kernels, View loss, ConstView a, ConstView b, ConstView mask,
                   const LossParams& params, Stream& stream);
void masked_cosine_backward(const LossKernels& kernels, View da, View db, ConstView dloss, ConstView a, ConstView b,
                            ConstView mask, const LossParams& params, Stream& stream);

}  // namespace cover::cpu
