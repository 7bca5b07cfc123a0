// Rung 1 of the convolution's ladder: one thread per output element, every operand read from global memory. Slow, and
// short enough to be read beside the formula of kernels/conv.h. T is the type of activations; sums are float.
#pragma once

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// A weight as a row of T multiplies it.
template <class T>
__device__ float rounded(float weight) {
    return T(weight);
}

// One thread per element of y. Neighbouring threads are neighbouring output channels: they share x and read one line of
// the weights.
template <class T>
__global__ void naive_forward(T* y, const T* x, const float* weight, const float* bias, ConvParams p) {
    const std::int64_t index = global_thread();
    if (index >= p.y_count()) return;
    const std::int64_t o = index % p.c_out;
    const Pixel at = pixel_of(p.grid, index / p.c_out);
    float sum = bias[o];
    for (int tap = 0; tap < p.taps(); ++tap) {
        const std::int64_t from = neighbour(p, at, tap, 1);
        if (from < 0) continue;
        const T* pixel = x + from * p.c_in;
        const float* row = weight + tap * p.c_in * p.c_out + o;
        float part = 0;
        for (std::int64_t i = 0; i < p.c_in; ++i) part += float(pixel[i]) * rounded<T>(row[i * p.c_out]);
        sum += part;
    }
    y[index] = T(sum);
}

// One thread per element of dx: the taps that read it, mirrored.
template <class T>
__global__ void naive_backward_data(T* dx, const T* dy, const float* weight, ConvParams p) {
    const std::int64_t index = global_thread();
    if (index >= p.x_count()) return;
    const std::int64_t i = index % p.c_in;
    const Pixel at = pixel_of(p.grid, index / p.c_in);
    float sum = 0;
    for (int tap = 0; tap < p.taps(); ++tap) {
        const std::int64_t from = neighbour(p, at, tap, -1);
        if (from < 0) continue;
        const T* pixel = dy + from * p.c_out;
        const float* row = weight + (tap * p.c_in + i) * p.c_out;
        float part = 0;
        for (std::int64_t o = 0; o < p.c_out; ++o) part += float(pixel[o]) * rounded<T>(row[o]);
        sum += part;
    }
    dx[index] = T(sum);
}

// One thread per weight and slice of `lines` image lines: partial (slices, weight_count).
template <class T>
__global__ void naive_backward_weight(float* partial, const T* dy, const T* x, ConvParams p, std::int64_t lines) {
    const std::int64_t index = global_thread(), slice = blockIdx.y, count = p.weight_count();
    if (index >= count) return;
    const std::int64_t o = index % p.c_out, i = index / p.c_out % p.c_in;
    const int tap = static_cast<int>(index / p.c_out / p.c_in);
    const std::int64_t all = lines_of(p), last = min_of(all, (slice + 1) * lines);
    float sum = 0;
    for (std::int64_t line = slice * lines; line < last; ++line) {
        float part = 0;  // line by line: a sum of short sums loses less than one long sum
        for (std::int64_t w = 0; w < p.grid.w; ++w) {
            const std::int64_t pixel = line * p.grid.w + w;
            const std::int64_t from = neighbour(p, pixel_of(p.grid, pixel), tap, 1);
            if (from >= 0) part += float(x[from * p.c_in + i]) * float(dy[pixel * p.c_out + o]);
        }
        sum += part;
    }
    partial[slice * count + index] = sum;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
