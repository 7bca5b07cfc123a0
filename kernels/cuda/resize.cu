// Up-sampling by two, bound by memory: forward a thread makes both outputs of a pair along H and along W from the same
// inputs, backward it makes two rows of dx from six of dy.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/resize/pairs.cuh"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace resize {

constexpr int reads = 4;

// The outputs that read input i, from 2 i - 1 to 2 i + 2, and with what weight.
struct Readers {
    float weights[reads];
};

__device__ Readers readers_of(int i, int side, bool align_corners) {
    const Pair before = pair_of(i - 1, side, align_corners), behind = pair_of(i, side, align_corners);
    return {{before.right[0], before.right[1], behind.left[0], behind.left[1]}};
}

// A row of items is cut into `chunks` blocks. Sides are those of the small grid.
struct Map {
    int d, h, w;
    std::int64_t channels;
    unsigned units, items, chunks;  // packs of a pixel; items and blocks of a row
    bool align_corners;
    float gain;
};

struct Item {
    unsigned row, column, unit;
    bool exists;
};

__device__ Item item_of(const Map& map) {
    const unsigned row = blockIdx.x / map.chunks;
    const unsigned item = (blockIdx.x - row * map.chunks) * blockDim.x + threadIdx.x, column = item / map.units;
    return {row, column, item - column * map.units, item < map.items};
}

// Rows: pairs of rows of y, of every plane of y. Interpolated along D, then W, then H.
template <class T, int nd, int width>
__global__ void forward(T* y, const T* x, Map map) {
    const Item at = item_of(map);
    if (!at.exists) return;
    const unsigned plane = at.row / static_cast<unsigned>(map.h + 1);
    const int ph = static_cast<int>(at.row - plane * static_cast<unsigned>(map.h + 1)) - 1;
    const int pw = static_cast<int>(at.column) - 1;
    const int rows[2] = {clamped(ph, map.h), clamped(ph + 1, map.h)};
    const int columns[2] = {clamped(pw, map.w), clamped(pw + 1, map.w)};

    float corners[2][2][width];
    const auto read = [&](float(&values)[width], std::int64_t from_plane, int b, int k) {
        load(values,
             x + ((from_plane * map.h + rows[b]) * map.w + columns[k]) * map.channels + std::int64_t{at.unit} * width);
    };
    if constexpr (nd == 2) {
        for (int b = 0; b < 2; ++b)
            for (int k = 0; k < 2; ++k) read(corners[b][k], plane, b, k);
    } else {
        const unsigned n = plane / static_cast<unsigned>(2 * map.d);
        const int j = static_cast<int>(plane - n * static_cast<unsigned>(2 * map.d)), pd = (j + 1) / 2 - 1;
        const Pair in_d = pair_of(pd, map.d, map.align_corners);
        const int second = 1 - j % 2;
        const std::int64_t first_plane = std::int64_t{n} * map.d;
        for (int b = 0; b < 2; ++b)
            for (int k = 0; k < 2; ++k) {
                float left[width], right[width];
                read(left, first_plane + clamped(pd, map.d), b, k);
                read(right, first_plane + clamped(pd + 1, map.d), b, k);
                for (int c = 0; c < width; ++c)
                    corners[b][k][c] = std::fma(second ? in_d.right[1] : in_d.right[0], right[c],
                                                (second ? in_d.left[1] : in_d.left[0]) * left[c]);
            }
    }

    const Pair in_h = pair_of(ph, map.h, map.align_corners), in_w = pair_of(pw, map.w, map.align_corners);
    for (int k = 0; k < 2; ++k) {
        const int column = 2 * pw + 1 + k;
        if (column < 0 || column >= 2 * map.w) continue;
        float above[width], below[width];
        for (int c = 0; c < width; ++c) {
            above[c] = std::fma(in_w.right[k], corners[0][1][c], in_w.left[k] * corners[0][0][c]);
            below[c] = std::fma(in_w.right[k], corners[1][1][c], in_w.left[k] * corners[1][0][c]);
        }
        for (int b = 0; b < 2; ++b) {
            const int row = 2 * ph + 1 + b;
            if (row < 0 || row >= 2 * map.h) continue;
            const float left = in_h.left[b] * map.gain, right = in_h.right[b] * map.gain;
            float result[width];
            for (int c = 0; c < width; ++c) result[c] = std::fma(right, below[c], left * above[c]);
            store(y + ((std::int64_t{plane} * 2 * map.h + row) * 2 * map.w + column) * map.channels +
                      std::int64_t{at.unit} * width,
                  result);
        }
    }
}

// Rows: two rows of dx, the second of which may be missing, of every plane of dx. Summed along W, then H and D.
template <class T, int nd, int width>
__global__ void backward(T* dx, const T* dy, Map map) {
    const Item at = item_of(map);
    if (!at.exists) return;
    const unsigned pairs = static_cast<unsigned>(map.h + 1) / 2, plane = at.row / pairs;
    const int h = 2 * static_cast<int>(at.row - plane * pairs), w = static_cast<int>(at.column);
    const Readers in_w = readers_of(w, map.w, map.align_corners);
    const Readers in_h[2] = {readers_of(h, map.h, map.align_corners), readers_of(h + 1, map.h, map.align_corners)};
    std::int64_t columns[reads];
    for (int k = 0; k < reads; ++k)
        columns[k] = clamped(2 * w - 1 + k, 2 * map.w) * map.channels + std::int64_t{at.unit} * width;

    float sums[2][width] = {};
    const auto add_plane = [&](const T* from, float weight) {
#pragma unroll
        for (int b = 0; b < reads + 2; ++b) {
            const T* row = from + std::int64_t{clamped(2 * h - 1 + b, 2 * map.h)} * 2 * map.w * map.channels;
            float along_w[width] = {};
            for (int k = 0; k < reads; ++k) {
                float values[width];
                load(values, row + columns[k]);
                for (int c = 0; c < width; ++c) along_w[c] = std::fma(in_w.weights[k], values[c], along_w[c]);
            }
            for (int r = 0; r < 2; ++r) {
                if (b < 2 * r || b >= 2 * r + reads) continue;
                const float share = weight * in_h[r].weights[b - 2 * r];
                for (int c = 0; c < width; ++c) sums[r][c] = std::fma(share, along_w[c], sums[r][c]);
            }
        }
    };
    const std::int64_t plane_size = std::int64_t{4} * map.h * map.w * map.channels;
    if constexpr (nd == 2) {
        add_plane(dy + plane * plane_size, map.gain);
    } else {
        const unsigned n = plane / static_cast<unsigned>(map.d);
        const int d = static_cast<int>(plane - n * static_cast<unsigned>(map.d));
        const Readers in_d = readers_of(d, map.d, map.align_corners);
#pragma unroll 1
        for (int a = 0; a < reads; ++a) {
            float weight = in_d.weights[0];
            for (int other = 1; other < reads; ++other) weight = a == other ? in_d.weights[other] : weight;
            add_plane(dy + (std::int64_t{n} * 2 * map.d + clamped(2 * d - 1 + a, 2 * map.d)) * plane_size,
                      map.gain * weight);
        }
    }
    T* to = dx + ((std::int64_t{plane} * map.h + h) * map.w + w) * map.channels + std::int64_t{at.unit} * width;
    store(to, sums[0]);
    if (h + 1 < map.h) store(to + map.w * map.channels, sums[1]);
}

// Largest side whose pairs and double are counted with an int.
constexpr std::int64_t largest_side = std::int64_t{1} << 29;

template <class T, int nd>
void run_in(bool is_backward, T* result, const T* read, const UpsampleParams& p, bool is_wide, Stream& stream) {
    const Grid& g = p.grid;
    require(std::max({g.d, g.h, g.w}) < largest_side, ErrorKind::device, "[upsample] sides of ", g.d, " x ", g.h, " x ",
            g.w, " pixels are too long for a 32-bit number; use a smaller patch");
    with_width<T>(is_wide, [&](auto width) {
        Map map{static_cast<int>(g.d),
                static_cast<int>(g.h),
                static_cast<int>(g.w),
                p.channels,
                items_of_row(p.channels / width()),
                0,
                0,
                p.align_corners,
                static_cast<float>(p.gain)};
        map.items = items_of_row((g.w + (is_backward ? 0 : 1)) * std::int64_t{map.units});
        map.chunks = blocks_for(map.items);
        const unsigned threads = threads_for_row(blocks_for(map.items, map.chunks));
        const std::int64_t planes = p.n * (nd == 2 || is_backward ? g.d : 2 * g.d);
        const std::int64_t rows = planes * (is_backward ? (g.h + 1) / 2 : g.h + 1);
        launch(stream, is_backward ? "upsample_backward" : "upsample", blocks_for(rows * map.chunks, 1), threads, 0,
               is_backward ? backward<T, nd, width()> : forward<T, nd, width()>, result, read, map);
    });
}

template <class T>
void run(bool is_backward, View result, ConstView read, const UpsampleParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_in<T, 2> : run_in<T, 3>)(is_backward, result.as<T>(), read.as<T>(), p,
                                                             keeps_alignment<T>(p.channels, result, read), stream);
}

template <class T>
void run_forward(View y, ConstView x, const UpsampleParams& p, Stream& stream) {
    run<T>(false, y, x, p, stream);
}

template <class T>
void run_backward(View dx, ConstView dy, const UpsampleParams& p, Stream& stream) {
    run<T>(true, dx, dy, p, stream);
}

}  // namespace resize

std::span<const UpsampleVariant> upsample_rows() {
    static constexpr UpsampleVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<UpsampleParams>, resize::run_forward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<UpsampleParams>, resize::run_forward<bfloat16>}};
    return rows;
}
std::span<const UpsampleBackwardVariant> upsample_backward_rows() {
    static constexpr UpsampleBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<UpsampleParams>, resize::run_backward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<UpsampleParams>, resize::run_backward<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
