#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace pool {

// Offsets, in elements, of the pixels of one window from its first, in memory order.
struct Window {
    std::int64_t offsets[8];
    int count;
};

Window window_of(const MaxPoolParams& p) {
    Window window{{}, p.grid.spatial_dims == 2 ? 4 : 8};
    for (int i = 0; i < window.count; ++i)
        window.offsets[i] = ((i / 4 * p.grid.h + i / 2 % 2) * p.grid.w + i % 2) * p.channels;
    return window;
}

// First element of x in the window of y's element `index`.
__device__ std::int64_t window_begin(const MaxPoolParams& p, std::int64_t index) {
    const std::int64_t c = index % p.channels, pixel = index / p.channels, half = p.grid.w / 2;
    const std::int64_t w = 2 * (pixel % half), row = pixel / half;
    // A row of y is (n, d) * h / 2 + h; in 3D two planes of x belong to one of y.
    const std::int64_t height = p.grid.h / 2, plane = row / height * (p.grid.spatial_dims == 2 ? 1 : 2);
    return ((plane * p.grid.h + 2 * (row % height)) * p.grid.w + w) * p.channels + c;
}

__device__ int winner(const float* x, const Window& window) {
    int best = 0;
    for (int i = 1; i < window.count; ++i)
        if (x[window.offsets[i]] > x[window.offsets[best]]) best = i;
    return best;
}

// One thread per element of y.
__global__ void forward(float* y, const float* x, MaxPoolParams p, Window window) {
    const std::int64_t i = global_thread();
    if (i >= p.y_count()) return;
    const float* first = x + window_begin(p, i);
    y[i] = first[window.offsets[winner(first, window)]];
}

// Windows do not overlap: the thread of an element of y owns the window's part of dx.
__global__ void backward(float* dx, const float* dy, const float* x, MaxPoolParams p, Window window) {
    const std::int64_t i = global_thread();
    if (i >= p.y_count()) return;
    const std::int64_t begin = window_begin(p, i);
    const int best = winner(x + begin, window);
    for (int k = 0; k < window.count; ++k) dx[begin + window.offsets[k]] = k == best ? dy[i] : 0.0f;
}

void run(View y, ConstView x, const MaxPoolParams& p, Stream& stream) {
    launch(stream, "max_pool", blocks_for(p.y_count()), threads_per_block, 0, forward, y.as<float>(), x.as<float>(), p,
           window_of(p));
}

void run_backward(View dx, ConstView dy, ConstView x, const MaxPoolParams& p, Stream& stream) {
    launch(stream, "max_pool_backward", blocks_for(p.y_count()), threads_per_block, 0, backward, dx.as<float>(),
           dy.as<float>(), x.as<float>(), p, window_of(p));
}

}  // namespace pool

std::span<const MaxPoolVariant> max_pool_rows() {
    static constexpr MaxPoolVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<MaxPoolParams>, pool::run}};
    return rows;
}
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows() {
    static constexpr MaxPoolBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<MaxPoolParams>, pool::run_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
