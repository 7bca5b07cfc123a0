// The window of one pixel, and the softmax over it: shared by the rungs of the ladder.
#pragma once

#include <cmath>

#include "kernels/cuda/runtime.h"
#include "kernels/local_attention.h"

namespace cover::cuda::COVER_CUDA_BUILD::local_attention {

constexpr float outside_logit = -1000.0f;

struct Pixel {
    std::int64_t n, d, h, w;
};

__device__ inline Pixel pixel_of(const Grid& grid, std::int64_t index) {
    const std::int64_t row = index / grid.w, plane = row / grid.h, n = plane / grid.d;
    return {n, plane - n * grid.d, row - plane * grid.h, index - row * grid.w};
}

struct Offset {
    int d, h, w;
};

// Calls body(offset) for the offsets of the window, the first axis slowest.
template <int nd, class Body>
__device__ void for_window(int radius, const Body& body) {
    const int depth = nd == 3 ? radius : 0;
    for (int d = -depth; d <= depth; ++d)
        for (int h = -radius; h <= radius; ++h)
            for (int w = -radius; w <= radius; ++w) body(Offset{d, h, w});
}

// The index of the pixel at `at` plus (sign 1) or minus (sign -1) the offset; -1 outside of the image.
template <int nd>
__device__ std::int64_t neighbour(const Grid& grid, const Pixel& at, const Offset& offset, int sign) {
    const std::int64_t d = nd == 3 ? at.d + sign * offset.d : at.d, h = at.h + sign * offset.h,
                       w = at.w + sign * offset.w;
    if (d < 0 || d >= grid.d || h < 0 || h >= grid.h || w < 0 || w >= grid.w) return -1;
    return ((at.n * grid.d + d) * grid.h + h) * grid.w + w;
}

// Softmax of logits as they come: the sum, and the sum of offsets, of exp(logit - largest so far).
struct Softmax {
    float largest = -INFINITY, sum = 0, d = 0, h = 0, w = 0;

    __device__ void add(float logit, const Offset& offset) {
        float weight = 1;
        if (logit > largest) {
            const float shrink = std::exp(largest - logit);
            sum *= shrink;
            d *= shrink;
            h *= shrink;
            w *= shrink;
            largest = logit;
        } else {
            weight = std::exp(logit - largest);
        }
        sum += weight;
        d = std::fma(weight, static_cast<float>(offset.d), d);
        h = std::fma(weight, static_cast<float>(offset.h), h);
        w = std::fma(weight, static_cast<float>(offset.w), w);
    }
};

// What the logits of one query and head contribute to the loss, once its softmax is known.
struct QueryStatistics {
    float largest, inverse_sum;
    float mean_slope;  // the mean over the window, by weight, of dy . offset / heads
};

// dy of a pixel over the heads: the derivative of the loss by an offset's weight is its product with the offset.
struct Cotangent {
    float d, h, w;

    __device__ float slope(const Offset& offset) const {
        return std::fma(d, static_cast<float>(offset.d),
                        std::fma(h, static_cast<float>(offset.h), w * static_cast<float>(offset.w)));
    }
};

template <int nd>
__device__ Cotangent cotangent_of(const float* dy, int head_count) {
    const float heads = static_cast<float>(head_count);
    return {nd == 3 ? dy[0] / heads : 0, dy[nd - 2] / heads, dy[nd - 1] / heads};
}

__device__ inline QueryStatistics statistics_of(const Softmax& softmax, const Cotangent& cotangent) {
    const float mean = std::fma(cotangent.d, softmax.d, std::fma(cotangent.h, softmax.h, cotangent.w * softmax.w));
    return {softmax.largest, 1.0f / softmax.sum, mean / softmax.sum};
}

// The derivative of the loss by a logit.
__device__ inline float logit_gradient(float logit, const Offset& offset, const QueryStatistics& query,
                                       const Cotangent& cotangent) {
    const float probability = std::exp(logit - query.largest) * query.inverse_sum;
    return probability * (cotangent.slope(offset) - query.mean_slope);
}

inline float logit_scale(const LocalAttentionParams& p) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(p.head_dim)));
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::local_attention
