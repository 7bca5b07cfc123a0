// One thread per element; the sums and products are those of the reference, bit for bit.
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace elementwise {

__global__ void add(float* y, const float* a, const float* b, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) y[i] = a[i] + b[i];
}

__global__ void scale(float* y, const float* x, double factor, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) y[i] = static_cast<float>(factor * static_cast<double>(x[i]));
}

__global__ void concat(float* y, const float* a, const float* b, ConcatParams p) {
    const std::int64_t i = global_thread(), channels = p.c_a + p.c_b;
    if (i >= p.pixels * channels) return;
    const std::int64_t pixel = i / channels, c = i - pixel * channels;
    y[i] = c < p.c_a ? a[pixel * p.c_a + c] : b[pixel * p.c_b + c - p.c_a];
}

__global__ void split(float* a, float* b, const float* y, ConcatParams p) {
    const std::int64_t i = global_thread(), channels = p.c_a + p.c_b;
    if (i >= p.pixels * channels) return;
    const std::int64_t pixel = i / channels, c = i - pixel * channels;
    float& to = c < p.c_a ? a[pixel * p.c_a + c] : b[pixel * p.c_b + c - p.c_a];
    to = y[i];
}

void run_add(View y, ConstView a, ConstView b, const ElementwiseParams& p, Stream& stream) {
    launch(stream, "add", blocks_for(p.count), threads_per_block, 0, add, y.as<float>(), a.as<float>(), b.as<float>(),
           p.count);
}

void run_scale(View y, ConstView x, const ElementwiseParams& p, Stream& stream) {
    launch(stream, "scale", blocks_for(p.count), threads_per_block, 0, scale, y.as<float>(), x.as<float>(), p.factor,
           p.count);
}

void run_concat(View y, ConstView a, ConstView b, const ConcatParams& p, Stream& stream) {
    launch(stream, "concat", blocks_for(p.pixels * (p.c_a + p.c_b)), threads_per_block, 0, concat, y.as<float>(),
           a.as<float>(), b.as<float>(), p);
}

void run_split(View a, View b, ConstView y, const ConcatParams& p, Stream& stream) {
    launch(stream, "split", blocks_for(p.pixels * (p.c_a + p.c_b)), threads_per_block, 0, split, a.as<float>(),
           b.as<float>(), y.as<float>(), p);
}

}  // namespace elementwise

std::span<const AddVariant> add_rows() {
    static constexpr AddVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ElementwiseParams>, elementwise::run_add}};
    return rows;
}
std::span<const ScaleVariant> scale_rows() {
    static constexpr ScaleVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ElementwiseParams>, elementwise::run_scale}};
    return rows;
}
std::span<const ConcatVariant> concat_rows() {
    static constexpr ConcatVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ConcatParams>, elementwise::run_concat}};
    return rows;
}
std::span<const SplitVariant> split_rows() {
    static constexpr SplitVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ConcatParams>, elementwise::run_split}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
