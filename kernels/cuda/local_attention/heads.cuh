// How the heads of a pixel lie in memory. The tensors hold them interleaved: (pixels, head_dim, heads).
#pragma once

#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo {

constexpr int features = 8;  // of a head; fewer are filled up with zeros

// `packed`: a head's eight features lie side by side, aligned to 16 bytes, and `head_step` elements behind those of the
// head before.
struct Heads {
    int heads, head_dim;
    bool packed;
    std::int64_t head_step;
};

using Features = float[features];

template <class T>
__device__ void load_features(Features& to, const T* x, std::int64_t pixel, int head, const Heads& p) {
    if (p.packed) return load(to, x + head * p.head_step + pixel * features);
    const T* from = x + pixel * p.heads * p.head_dim + head;
    for (int f = 0; f < features; ++f) to[f] = f < p.head_dim ? static_cast<float>(from[f * p.heads]) : 0;
}

template <class T>
__device__ void store_features(T* x, std::int64_t pixel, int head, Features& values, float factor, const Heads& p) {
    for (int f = 0; f < features; ++f) values[f] *= factor;
    if (p.packed) return store(x + head * p.head_step + pixel * features, values);
    T* to = x + pixel * p.heads * p.head_dim + head;
    for (int f = 0; f < features; ++f)
        if (f < p.head_dim) to[f * p.heads] = static_cast<T>(values[f]);
}

// The head of a thread, of the first or the second of two tensors.
struct HeadOfTwo {
    bool second;
    std::int64_t interleaved, apart;  // its first element in (pixels, features, heads) and in (heads, pixels, features)
};

__device__ inline HeadOfTwo head_of_two(std::int64_t thread, std::int64_t pixels, int heads) {
    const bool second = thread >= pixels * heads;
    const std::int64_t at = second ? thread - pixels * heads : thread, pixel = at / heads, head = at - pixel * heads;
    return {second, pixel * heads * features + head, (head * pixels + pixel) * features};
}

// One thread per head of a pixel of either tensor.
template <class T>
__global__ void take_apart(T* apart_q, T* apart_k, const T* q, const T* k, std::int64_t pixels, int heads) {
    const std::int64_t thread = global_thread();
    if (thread >= 2 * pixels * heads) return;
    const HeadOfTwo at = head_of_two(thread, pixels, heads);
    const T* from = (at.second ? k : q) + at.interleaved;
    Pack<T, features> head;
    for (int f = 0; f < features; ++f) head.values[f] = from[f * heads];
    *reinterpret_cast<Pack<T, features>*>((at.second ? apart_k : apart_q) + at.apart) = head;
}

template <class T>
__global__ void put_together(T* dq, T* dk, const T* apart_dq, const T* apart_dk, std::int64_t pixels, int heads) {
    const std::int64_t thread = global_thread();
    if (thread >= 2 * pixels * heads) return;
    const HeadOfTwo at = head_of_two(thread, pixels, heads);
    const auto head = *reinterpret_cast<const Pack<T, features>*>((at.second ? apart_dk : apart_dq) + at.apart);
    T* to = (at.second ? dk : dq) + at.interleaved;
    for (int f = 0; f < features; ++f) to[f * heads] = head.values[f];
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo
