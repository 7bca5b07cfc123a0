// Up-sampling as a separable linear map: per axis, which inputs an output reads (forward) and which outputs read an
// input (backward), with what weight.
#include "kernels/resize.h"

#include <algorithm>

namespace cover::ref {
namespace {

struct Entry {
    std::int64_t index;
    double weight;
};
using AxisMap = std::vector<std::vector<Entry>>;

// map[j]: the inputs that output j reads.
AxisMap reads_of(std::int64_t side, bool align_corners) {
    AxisMap map(static_cast<std::size_t>(2 * side));
    for (std::int64_t j = 0; j < 2 * side; ++j) {
        double position = std::max((static_cast<double>(j) + 0.5) / 2 - 0.5, 0.0);
        if (align_corners) position = static_cast<double>(j * (side - 1)) / static_cast<double>(2 * side - 1);
        const auto left = static_cast<std::int64_t>(position);
        const double fraction = position - static_cast<double>(left);
        map[static_cast<std::size_t>(j)] = {{left, 1.0 - fraction}, {std::min(left + 1, side - 1), fraction}};
    }
    return map;
}

AxisMap transposed(const AxisMap& map, std::int64_t side) {
    AxisMap out(static_cast<std::size_t>(side));
    for (std::size_t j = 0; j < map.size(); ++j)
        for (const Entry& entry : map[j])
            out[static_cast<std::size_t>(entry.index)].push_back({static_cast<std::int64_t>(j), entry.weight});
    return out;
}

// y[n,d,h,w,c] = gain * sum over the entries of the three maps at (d, h, w) of their weights times x.
template <class T>
void apply(T* y, const T* x, const AxisMap& map_d, const AxisMap& map_h, const AxisMap& map_w, const Grid& x_grid,
           const UpsampleParams& p, Stream& stream) {
    const auto out_d = static_cast<std::int64_t>(map_d.size()), out_h = static_cast<std::int64_t>(map_h.size()),
               out_w = static_cast<std::int64_t>(map_w.size());
    stream.parallel(p.n * out_d * out_h, [&](std::int64_t row) {
        const std::int64_t h = row % out_h, d = row / out_h % out_d, n = row / (out_h * out_d);
        std::vector<double> sums(static_cast<std::size_t>(p.channels));
        for (std::int64_t w = 0; w < out_w; ++w) {
            std::fill(sums.begin(), sums.end(), 0.0);
            for (const Entry& ed : map_d[static_cast<std::size_t>(d)])
                for (const Entry& eh : map_h[static_cast<std::size_t>(h)])
                    for (const Entry& ew : map_w[static_cast<std::size_t>(w)]) {
                        const double weight = ed.weight * eh.weight * ew.weight;
                        const T* pixel =
                            x + (((n * x_grid.d + ed.index) * x_grid.h + eh.index) * x_grid.w + ew.index) * p.channels;
                        for (std::int64_t c = 0; c < p.channels; ++c)
                            sums[static_cast<std::size_t>(c)] += weight * static_cast<double>(pixel[c]);
                    }
            for (std::int64_t c = 0; c < p.channels; ++c)
                y[(row * out_w + w) * p.channels + c] = static_cast<T>(p.gain * sums[static_cast<std::size_t>(c)]);
        }
    });
}

template <class T>
void forward(View y, ConstView x, const UpsampleParams& p, Stream& stream) {
    const AxisMap depth = p.grid.spatial_dims == 3 ? reads_of(p.grid.d, p.align_corners) : AxisMap{{{0, 1.0}}};
    apply(y.as<T>(), x.as<T>(), depth, reads_of(p.grid.h, p.align_corners), reads_of(p.grid.w, p.align_corners), p.grid,
          p, stream);
}

template <class T>
void backward(View dx, ConstView dy, const UpsampleParams& p, Stream& stream) {
    const bool volume = p.grid.spatial_dims == 3;
    const Grid y_grid{p.grid.spatial_dims, volume ? 2 * p.grid.d : 1, 2 * p.grid.h, 2 * p.grid.w};
    const AxisMap depth = volume ? transposed(reads_of(p.grid.d, p.align_corners), p.grid.d) : AxisMap{{{0, 1.0}}};
    apply(dx.as<T>(), dy.as<T>(), depth, transposed(reads_of(p.grid.h, p.align_corners), p.grid.h),
          transposed(reads_of(p.grid.w, p.align_corners), p.grid.w), y_grid, p, stream);
}

}  // namespace

std::span<const UpsampleVariant> upsample_rows() {
    static constexpr UpsampleVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<UpsampleParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<UpsampleParams>, forward<double>}};
    return rows;
}

std::span<const UpsampleBackwardVariant> upsample_backward_rows() {
    static constexpr UpsampleBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<UpsampleParams>, backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<UpsampleParams>, backward<double>}};
    return rows;
}

}  // namespace cover::ref
