// Group norm's arithmetic on one element, for those who apply it and those who apply it on their way.
#pragma once

#include <cmath>

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD::norm {

// What a thread needs to know of its channels, which belong to one group. The value before the activation is a fixed
// chain of roundings, so that backward recomputes the sign that forward saw.
template <int width>
struct Channels {
    float mean, rstd, slope, gamma[width], beta[width];

    __device__ float normalised(float x) const { return (x - mean) * rstd; }
    __device__ float activated(float xhat, int k) const {
        const float z = std::fma(xhat, gamma[k], beta[k]);
        return z > 0 ? z : z * slope;
    }
    __device__ float cotangent(float dy, float xhat, int k) const {
        return std::fma(xhat, gamma[k], beta[k]) > 0 ? dy : dy * slope;
    }
};

}  // namespace cover::cuda::COVER_CUDA_BUILD::norm
