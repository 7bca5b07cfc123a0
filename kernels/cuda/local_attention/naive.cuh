// The first rung: every thread reads what it needs from global memory.
#pragma once

#include "kernels/cuda/local_attention/window.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::local_attention::naive {

// q and k point to the first channel of a head, whose channels are p.heads apart.
template <class T>
__device__ float logit_of(const T* q, const T* k, const LocalAttentionParams& p, float scale) {
    float dot = 0;
    for (int c = 0; c < p.head_dim * p.heads; c += p.heads)
        dot = std::fma(static_cast<float>(q[c]), static_cast<float>(k[c]), dot);
    return dot * scale;
}

template <int nd, class T>
__device__ Softmax softmax_of(const T* q, const T* k, const LocalAttentionParams& p, float scale, std::int64_t pixel,
                              const Pixel& at, int head) {
    const T* query = q + pixel * p.channels() + head;
    Softmax softmax;
    for_window<nd>(p.radius, [&](const Offset& offset) {
        const std::int64_t other = neighbour<nd>(p.grid, at, offset, 1);
        softmax.add(other < 0 ? outside_logit : logit_of(query, k + other * p.channels() + head, p, scale), offset);
    });
    return softmax;
}

// One thread per pixel.
template <int nd, class T>
__global__ void forward(float* y, const T* q, const T* k, LocalAttentionParams p, float scale) {
    const std::int64_t i = global_thread();
    if (i >= p.n * p.grid.pixels()) return;
    const Pixel at = pixel_of(p.grid, i);
    float d = 0, h = 0, w = 0;
    for (int head = 0; head < p.heads; ++head) {
        const Softmax softmax = softmax_of<nd>(q, k, p, scale, i, at, head);
        d += softmax.d / softmax.sum;
        h += softmax.h / softmax.sum;
        w += softmax.w / softmax.sum;
    }
    const float heads = static_cast<float>(p.heads);
    if (nd == 3) y[i * nd] = d / heads;
    y[i * nd + nd - 2] = h / heads;
    y[i * nd + nd - 1] = w / heads;
}

constexpr int features_at_once = 8;  // of a head's gradient, in registers

// Adds factor times the features [first, first + features_at_once) of a head.
template <class T>
__device__ void add_features(float (&sums)[features_at_once], float factor, const T* from, int first,
                             const LocalAttentionParams& p) {
    for (int f = 0; f < features_at_once; ++f)
        if (first + f < p.head_dim)
            sums[f] = std::fma(factor, static_cast<float>(from[(first + f) * p.heads]), sums[f]);
}

template <class T>
__device__ void store_features(T* to, const float (&sums)[features_at_once], float factor, int first,
                               const LocalAttentionParams& p) {
    for (int f = 0; f < features_at_once; ++f)
        if (first + f < p.head_dim) to[(first + f) * p.heads] = static_cast<T>(factor * sums[f]);
}

// One thread per (pixel, head): dq, and the statistics for the gradient of the keys.
template <int nd, class T>
__global__ void query_gradient(T* dq, QueryStatistics* statistics, const float* dy, const T* q, const T* k,
                               LocalAttentionParams p, float scale) {
    const std::int64_t thread = global_thread(), i = thread / p.heads;
    if (i >= p.n * p.grid.pixels()) return;
    const int head = static_cast<int>(thread - i * p.heads);
    const Pixel at = pixel_of(p.grid, i);
    const Cotangent cotangent = cotangent_of<nd>(dy + i * nd, p.heads);
    const QueryStatistics query = statistics_of(softmax_of<nd>(q, k, p, scale, i, at, head), cotangent);
    statistics[thread] = query;
    for (int first = 0; first < p.head_dim; first += features_at_once) {
        float sums[features_at_once] = {};
        for_window<nd>(p.radius, [&](const Offset& offset) {
            const std::int64_t other = neighbour<nd>(p.grid, at, offset, 1);
            if (other < 0) return;
            const T* key = k + other * p.channels() + head;
            const float logit = logit_of(q + i * p.channels() + head, key, p, scale);
            add_features(sums, logit_gradient(logit, offset, query, cotangent), key, first, p);
        });
        store_features(dq + i * p.channels() + head, sums, scale, first, p);
    }
}

// One thread per (pixel, head) of the keys: gathers from the queries whose window holds it.
template <int nd, class T>
__global__ void key_gradient(T* dk, const QueryStatistics* statistics, const float* dy, const T* q, const T* k,
                             LocalAttentionParams p, float scale) {
    const std::int64_t thread = global_thread(), i = thread / p.heads;
    if (i >= p.n * p.grid.pixels()) return;
    const int head = static_cast<int>(thread - i * p.heads);
    const Pixel at = pixel_of(p.grid, i);
    for (int first = 0; first < p.head_dim; first += features_at_once) {
        float sums[features_at_once] = {};
        for_window<nd>(p.radius, [&](const Offset& offset) {
            const std::int64_t other = neighbour<nd>(p.grid, at, offset, -1);
            if (other < 0) return;
            const T* query = q + other * p.channels() + head;
            const float logit = logit_of(query, k + i * p.channels() + head, p, scale);
            const float gradient = logit_gradient(logit, offset, statistics[other * p.heads + head],
                                                  cotangent_of<nd>(dy + other * nd, p.heads));
            add_features(sums, gradient, query, first, p);
        });
        store_features(dk + i * p.channels() + head, sums, scale, first, p);
    }
}

template <int nd, class T>
void run_in(float* y, const T* q, const T* k, const LocalAttentionParams& p, Stream& stream) {
    launch(stream, "local_attention", blocks_for(p.n * p.grid.pixels()), threads_per_block, 0, forward<nd, T>, y, q, k,
           p, logit_scale(p));
}

template <int nd, class T>
void run_backward_in(T* dq, T* dk, const float* dy, const T* q, const T* k, const LocalAttentionParams& p,
                     Stream& stream) {
    const std::int64_t threads = p.n * p.grid.pixels() * p.heads;
    Workspace<QueryStatistics> statistics(threads, stream);
    launch(stream, "local_attention_backward, queries", blocks_for(threads), threads_per_block, 0,
           query_gradient<nd, T>, dq, statistics.data(), dy, q, k, p, logit_scale(p));
    launch(stream, "local_attention_backward, keys", blocks_for(threads), threads_per_block, 0, key_gradient<nd, T>, dk,
           statistics.data(), dy, q, k, p, logit_scale(p));
}

template <class T>
void run(View y, ConstView q, ConstView k, const LocalAttentionParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_in<2, T> : run_in<3, T>)(y.as<float>(), q.as<T>(), k.as<T>(), p, stream);
}

template <class T>
void run_backward(View dq, View dk, ConstView dy, ConstView q, ConstView k, const LocalAttentionParams& p,
                  Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_backward_in<2, T> : run_backward_in<3, T>)(dq.as<T>(), dk.as<T>(), dy.as<float>(),
                                                                               q.as<T>(), k.as<T>(), p, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::local_attention::naive
