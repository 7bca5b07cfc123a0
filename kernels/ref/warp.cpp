#include "kernels/warp.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace cover::ref {
namespace {

// One axis of one pixel: the two source indices around the point that is read.
struct AxisRead {
    std::array<std::int64_t, 2> index{};
    std::array<bool, 2> inside{};
    std::array<double, 2> weight{};
    double stride = 1;  // derivative of the source coordinate by the field
};

AxisRead read_at(std::int64_t pixel, double displacement, std::int64_t side, WarpConvention convention) {
    AxisRead read;
    double at = static_cast<double>(pixel) + displacement;
    if (convention == WarpConvention::reference) {
        if (side > 1) read.stride = static_cast<double>(side) / static_cast<double>(side - 1);
        at = at * read.stride - 0.5;
    }
    // Both neighbours lie outside, also for a point that no integer can hold.
    if (!(at > -1.0 && at < static_cast<double>(side))) return read;
    const double left = std::floor(at);
    read.index[0] = static_cast<std::int64_t>(left);
    read.index[1] = read.index[0] + 1;
    read.inside[0] = read.index[0] >= 0;
    read.inside[1] = read.index[1] < side;
    read.weight[1] = at - left;
    read.weight[0] = 1.0 - read.weight[1];
    return read;
}

// The depth axis of a 2D grid: one pixel, read as it is.
AxisRead flat_axis() {
    AxisRead read;
    read.inside[0] = true;
    read.weight[0] = 1.0;
    return read;
}

// Reads of the axes (D,H,W) for pixel index `pixel` of a sample; `field` points to the pixel's vector.
template <class T>
std::array<AxisRead, 3> reads_of(std::int64_t pixel, const T* field, const WarpParams& p) {
    const Grid& grid = p.grid;
    const int nd = grid.spatial_dims;
    return {
        nd == 3 ? read_at(pixel / (grid.h * grid.w), static_cast<double>(field[0]), grid.d, p.convention) : flat_axis(),
        read_at(pixel / grid.w % grid.h, static_cast<double>(field[nd - 2]), grid.h, p.convention),
        read_at(pixel % grid.w, static_cast<double>(field[nd - 1]), grid.w, p.convention)};
}

// Calls body(source pixel, corner bits (d, h, w)) for each of the corners that lie inside.
template <class Body>
void for_corners(const std::array<AxisRead, 3>& reads, const Grid& grid, const Body& body) {
    for (std::size_t d = 0; d < 2; ++d)
        for (std::size_t h = 0; h < 2; ++h)
            for (std::size_t w = 0; w < 2; ++w)
                if (reads[0].inside[d] && reads[1].inside[h] && reads[2].inside[w])
                    body((reads[0].index[d] * grid.h + reads[1].index[h]) * grid.w + reads[2].index[w],
                         std::array<std::size_t, 3>{d, h, w});
}

double weight_of(const std::array<AxisRead, 3>& reads, const std::array<std::size_t, 3>& corner) {
    return reads[0].weight[corner[0]] * reads[1].weight[corner[1]] * reads[2].weight[corner[2]];
}

template <class T>
void forward(View y_view, ConstView source_view, ConstView field_view, const WarpParams& p, Stream& stream) {
    const std::int64_t pixels = p.grid.pixels();
    stream.parallel(p.n * p.grid.d * p.grid.h, [&](std::int64_t row) {
        const std::int64_t n = row / (p.grid.d * p.grid.h);
        const T* source = source_view.as<T>() + n * pixels * p.channels;  // (D,H,W,C)
        std::vector<double> sums(static_cast<std::size_t>(p.channels));
        for (std::int64_t i = row * p.grid.w; i < (row + 1) * p.grid.w; ++i) {
            const auto reads = reads_of(i - n * pixels, field_view.as<T>() + i * p.grid.spatial_dims, p);
            std::fill(sums.begin(), sums.end(), 0.0);
            for_corners(reads, p.grid, [&](std::int64_t from, const std::array<std::size_t, 3>& corner) {
                const double weight = weight_of(reads, corner);
                for (std::int64_t c = 0; c < p.channels; ++c)
                    sums[static_cast<std::size_t>(c)] += weight * static_cast<double>(source[from * p.channels + c]);
            });
            T* y = y_view.as<T>() + i * p.channels;
            for (std::int64_t c = 0; c < p.channels; ++c) y[c] = static_cast<T>(sums[static_cast<std::size_t>(c)]);
        }
    });
}

// A task owns one sample, so that it may scatter into dsource in pixel order.
template <class T>
void backward(View dsource_view, View dfield_view, ConstView dy_view, ConstView source_view, ConstView field_view,
              const WarpParams& p, Stream& stream) {
    const std::int64_t pixels = p.grid.pixels(), sample = pixels * p.channels;
    const int nd = p.grid.spatial_dims;
    stream.parallel(p.n, [&](std::int64_t n) {
        const T* source = source_view.as<T>() + n * sample;  // (D,H,W,C)
        std::vector<double> dsource(static_cast<std::size_t>(dsource_view ? sample : 0), 0.0);
        for (std::int64_t i = 0; i < pixels; ++i) {
            const T* dy = dy_view.as<T>() + n * sample + i * p.channels;
            const auto reads = reads_of(i, field_view.as<T>() + (n * pixels + i) * nd, p);
            std::array<double, 3> dfield{};  // (D,H,W)
            for_corners(reads, p.grid, [&](std::int64_t from, const std::array<std::size_t, 3>& corner) {
                const double weight = weight_of(reads, corner);
                double dot = 0;
                for (std::int64_t c = 0; c < p.channels; ++c) {
                    const double cotangent = static_cast<double>(dy[c]);
                    if (dsource_view) dsource[static_cast<std::size_t>(from * p.channels + c)] += weight * cotangent;
                    dot += cotangent * static_cast<double>(source[from * p.channels + c]);
                }
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    double slope = corner[axis] ? reads[axis].stride : -reads[axis].stride;
                    for (std::size_t other = 0; other < 3; ++other)
                        if (other != axis) slope *= reads[other].weight[corner[other]];
                    dfield[axis] += slope * dot;
                }
            });
            if (dfield_view)
                for (int axis = 0; axis < nd; ++axis)
                    dfield_view.as<T>()[(n * pixels + i) * nd + axis] =
                        static_cast<T>(dfield[static_cast<std::size_t>(axis + 3 - nd)]);
        }
        for (std::size_t j = 0; j < dsource.size(); ++j)
            dsource_view.as<T>()[n * sample + static_cast<std::int64_t>(j)] = static_cast<T>(dsource[j]);
    });
}

}  // namespace

std::span<const WarpVariant> warp_rows() {
    static constexpr WarpVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<WarpParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<WarpParams>, forward<double>}};
    return rows;
}

std::span<const WarpBackwardVariant> warp_backward_rows() {
    static constexpr WarpBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<WarpParams>, backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<WarpParams>, backward<double>}};
    return rows;
}

}  // namespace cover::ref
