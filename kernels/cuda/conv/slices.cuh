// The sums behind a weight gradient of rungs 1 to 3: a slice of the image's lines each, then all slices in their order.
#pragma once

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// One thread per output channel and slice: partial (slices, c_out).
template <class T>
__global__ void bias_partial(float* partial, const T* dy, ConvParams p, std::int64_t lines) {
    const std::int64_t o = global_thread(), slice = blockIdx.y;
    if (o >= p.c_out) return;
    const std::int64_t last = min_of(lines_of(p), (slice + 1) * lines);
    float sum = 0;
    for (std::int64_t line = slice * lines; line < last; ++line) {
        float part = 0;
        for (std::int64_t w = 0; w < p.grid.w; ++w) part += float(dy[(line * p.grid.w + w) * p.c_out + o]);
        sum += part;
    }
    partial[slice * p.c_out + o] = sum;
}

// out += the slices of partial (slices, count), added in their order.
static __global__ void add_slices(float* out, const float* partial, std::int64_t count, std::int64_t slices) {
    const std::int64_t index = global_thread();
    if (index >= count) return;
    float sum = 0;
    for (std::int64_t slice = 0; slice < slices; ++slice) sum += partial[slice * count + index];
    out[index] += sum;
}

// fill(partial, slices) leaves the weight gradient of each slice of lines in partial (slices, weight_count); both
// gradients grow by the sum of their slices in their order. T is the type of dy.
template <class T, class Fill>
void accumulate_slices(View dweight, View dbias, ConstView dy, const ConvParams& p, Stream& stream, const Fill& fill) {
    const Slices slices = Slices::of(p);
    const auto add = [&](View out, float* partial, std::int64_t count) {
        launch(stream, "conv add_slices", blocks_for(count), threads_per_block, 0, add_slices, out.as<float>(), partial,
               count, slices.count);
    };
    Workspace<float> weights(slices.count * p.weight_count(), stream), biases(slices.count * p.c_out, stream);
    fill(weights.data(), slices);
    add(dweight, weights.data(), p.weight_count());
    launch(stream, "conv bias_partial", dim3(blocks_for(p.c_out), static_cast<unsigned>(slices.count)),
           threads_per_block, 0, bias_partial<T>, biases.data(), dy.as<T>(), p, slices.lines);
    add(dbias, biases.data(), p.c_out);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
