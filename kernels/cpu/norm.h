// Vector code of group norm, once per instruction set. Channels here are those of a folded pixel: for narrow maps
// several neighbouring pixels count as one with more channels, so that a vector is always full.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct GroupNormParams;
}  // namespace cover

namespace cover::cpu {

// y = leaky(x * scale + shift): what follows from the statistics, per channel.
struct NormAffine {
    const float* scale;
    const float* shift;
    float slope;
};

struct NormKernels {
    // sum[c], square[c] = sums over pixels of (x - first pixel) and of its square.
    void (*moments)(float* sum, float* square, const float* x, std::int64_t pixels, std::int64_t channels);
    void (*apply)(float* y, const float* x, NormAffine affine, std::int64_t pixels, std::int64_t channels,
                  bool streaming);
    // With g = dy * leaky'(x * scale + shift): sum[c], product[c] = sums over pixels of g and of g * (x - mean).
    void (*gradient_sums)(float* sum, float* product, const float* dy, const float* x, const float* mean,
                          NormAffine affine, std::int64_t pixels, std::int64_t channels);
    // dx = g * scale + (x - mean) * by_x + constant.
    void (*gradient_apply)(float* dx, const float* dy, const float* x, const float* mean, NormAffine affine,
                           const float* by_x, const float* constant, std::int64_t pixels, std::int64_t channels,
                           bool streaming);
};

namespace avx2 {
extern const NormKernels norm_kernels;
}
namespace avx512 {
extern const NormKernels norm_kernels;
}

void group_norm(const NormKernels& kernels, View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta,
                const GroupNormParams& params, Stream& stream);
void group_norm_statistics(const NormKernels& kernels, View mean, View rstd, ConstView x, const GroupNormParams& params,
                           Stream& stream);
void group_norm_apply(const NormKernels& kernels, View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma,
                      ConstView beta, const GroupNormParams& params, Stream& stream);
void group_norm_backward(const NormKernels& kernels, View dx, View dgamma, View dbeta, ConstView dy, ConstView x,
                         ConstView mean, ConstView rstd, ConstView gamma, ConstView beta, const GroupNormParams& params,
                         Stream& stream);

}  // namespace cover::cpu
