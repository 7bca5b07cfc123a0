#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace pool {

// A block takes a row of y. Offsets, in elements of x, of the pixels of one window from its first, in memory order.
template <int pixels>
struct Windows {
    std::int64_t offsets[pixels];
    std::int64_t x_row, rows_per_plane;  // elements of a row of x; rows of y in a plane
    unsigned items, units;               // packs of channels, of a row of y and of a pixel

    // Elements of x before the windows of y's row `row`: in 3D two planes of x belong to one of y.
    __device__ std::int64_t begin(std::int64_t row) const {
        const std::int64_t plane = row / rows_per_plane;
        return (plane * rows_per_plane * (pixels / 4) + (row - plane * rows_per_plane)) * 2 * x_row;
    }
};

template <int pixels>
Windows<pixels> windows_of(const MaxPoolParams& p, int width) {
    Windows<pixels> windows{};
    for (int i = 0; i < pixels; ++i)
        windows.offsets[i] = ((i / 4 * p.grid.h + i / 2 % 2) * p.grid.w + i % 2) * p.channels;
    windows.x_row = p.grid.w * p.channels;
    windows.rows_per_plane = p.grid.h / 2;
    windows.units = items_of_row(p.channels / width);
    windows.items = items_of_row(p.grid.w * windows.units) / 2;
    return windows;
}

// The largest of a window for each channel of a pack, and which pixel has it.
template <int width>
struct Winners {
    float values[width];
    int pixels[width];
};

template <class T, int width, int pixels>
__device__ Winners<width> winners(const T* first, const Windows<pixels>& windows) {
    Winners<width> best{};
    load(best.values, first);
    for (int i = 1; i < pixels; ++i) {
        float others[width];
        load(others, first + windows.offsets[i]);
        for (int k = 0; k < width; ++k) {
            if (!(others[k] > best.values[k])) continue;
            best.values[k] = others[k];
            best.pixels[k] = i;
        }
    }
    return best;
}

template <class T, int width, int pixels>
__global__ void forward(T* y, const T* x, Windows<pixels> windows) {
    x += windows.begin(blockIdx.x);
    y += static_cast<std::int64_t>(blockIdx.x) * windows.items * width;
    for (unsigned item = threadIdx.x; item < windows.items; item += blockDim.x) {
        // Along a row a window is two pixels of x, so its first pack is that of as many packs of y, and one pixel's.
        const T* first = x + (std::int64_t{item} + item / windows.units * windows.units) * width;
        store(y + std::int64_t{item} * width, winners<T, width, pixels>(first, windows).values);
    }
}

// A thread takes a pack of one column of x in a window, so that a warp writes neighbouring packs of dx: whole lines of
// memory also where a pixel is half a line. Both columns' threads find the winner; the second read hits the cache.
template <class T, int width, int pixels>
__global__ void backward(T* dx, const T* dy, const T* x, Windows<pixels> windows) {
    x += windows.begin(blockIdx.x);
    dx += windows.begin(blockIdx.x);
    dy += static_cast<std::int64_t>(blockIdx.x) * windows.items * width;
    for (unsigned item = threadIdx.x; item < 2 * windows.items; item += blockDim.x) {
        const unsigned w = item / windows.units, column = w % 2, own = column * windows.units;
        const Winners<width> best = winners<T, width, pixels>(x + (std::int64_t{item} - own) * width, windows);
        float cotangents[width];
        load(cotangents, dy + std::int64_t{item - (w / 2 + column) * windows.units} * width);
        for (int i = 0; i < pixels; i += 2) {
            float shares[width];
            for (int k = 0; k < width; ++k)
                shares[k] = best.pixels[k] == i + static_cast<int>(column) ? cotangents[k] : 0;
            store(dx + std::int64_t{item} * width + windows.offsets[i], shares);
        }
    }
}

template <class T, int pixels>
void run_in(T* y, const T* x, const MaxPoolParams& p, bool is_wide, Stream& stream) {
    with_width<T>(is_wide, [&](auto width) {
        const Windows<pixels> windows = windows_of<pixels>(p, width());
        launch(stream, "max_pool", blocks_for(p.y_count(), std::int64_t{windows.items} * width()),
               threads_for_row(windows.items), 0, forward<T, width(), pixels>, y, x, windows);
    });
}

template <class T, int pixels>
void run_backward_in(T* dx, const T* dy, const T* x, const MaxPoolParams& p, bool is_wide, Stream& stream) {
    with_width<T>(is_wide, [&](auto width) {
        const Windows<pixels> windows = windows_of<pixels>(p, width());
        launch(stream, "max_pool_backward", blocks_for(p.y_count(), std::int64_t{windows.items} * width()),
               threads_for_row(2 * windows.items), 0, backward<T, width(), pixels>, dx, dy, x, windows);
    });
}

template <class T>
void run(View y, ConstView x, const MaxPoolParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_in<T, 4> : run_in<T, 8>)(y.as<T>(), x.as<T>(), p,
                                                             keeps_alignment<T>(p.channels, y, x), stream);
}

template <class T>
void run_backward(View dx, ConstView dy, ConstView x, const MaxPoolParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_backward_in<T, 4>
                              : run_backward_in<T, 8>)(dx.as<T>(), dy.as<T>(), x.as<T>(), p,
                                                       keeps_alignment<T>(p.channels, dx, dy, x), stream);
}

}  // namespace pool

std::span<const MaxPoolVariant> max_pool_rows() {
    static constexpr MaxPoolVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<MaxPoolParams>, pool::run<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<MaxPoolParams>, pool::run<bfloat16>}};
    return rows;
}
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows() {
    static constexpr MaxPoolBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<MaxPoolParams>, pool::run_backward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<MaxPoolParams>, pool::run_backward<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
