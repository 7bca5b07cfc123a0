#include "kernels/pool.h"

#include <algorithm>
#include <cmath>

namespace cover::ref {
namespace {

// Calls body(index into y, index into x of the winner) for every output of one output row (n, d, h).
template <class T, class Body>
void for_winners(const T* x, const MaxPoolParams& p, std::int64_t row, const Body& body) {
    const Grid& grid = p.grid;
    const std::int64_t depth = grid.spatial_dims == 3 ? 2 : 1;  // of the window
    const std::int64_t out_d = grid.d / depth, out_h = grid.h / 2, out_w = grid.w / 2;
    const std::int64_t h = row % out_h, d = row / out_h % out_d, n = row / (out_h * out_d);
    for (std::int64_t w = 0; w < out_w; ++w)
        for (std::int64_t c = 0; c < p.channels; ++c) {
            std::int64_t winner = -1;
            for (std::int64_t wd = 0; wd < depth; ++wd)
                for (std::int64_t wh = 0; wh < 2; ++wh)
                    for (std::int64_t ww = 0; ww < 2; ++ww) {
                        const std::int64_t i =
                            (((n * grid.d + d * depth + wd) * grid.h + 2 * h + wh) * grid.w + 2 * w + ww) * p.channels +
                            c;
                        // A NaN wins, so that it is seen further on.
                        if (winner < 0 || x[i] > x[winner] || std::isnan(x[i])) winner = i;
                    }
            body((row * out_w + w) * p.channels + c, winner);
        }
}

std::int64_t output_rows(const MaxPoolParams& p) {
    return p.n * (p.grid.spatial_dims == 3 ? p.grid.d / 2 : p.grid.d) * (p.grid.h / 2);
}

template <class T>
void forward(View y, ConstView x, const MaxPoolParams& p, Stream& stream) {
    stream.parallel(output_rows(p), [&](std::int64_t row) {
        for_winners(x.as<T>(), p, row,
                    [&](std::int64_t out, std::int64_t winner) { y.as<T>()[out] = x.as<T>()[winner]; });
    });
}

template <class T>
void backward(View dx, ConstView dy, ConstView x, const MaxPoolParams& p, Stream& stream) {
    std::fill_n(dx.as<T>(), p.x_count(), T(0));
    stream.parallel(output_rows(p), [&](std::int64_t row) {
        for_winners(x.as<T>(), p, row,
                    [&](std::int64_t out, std::int64_t winner) { dx.as<T>()[winner] = dy.as<T>()[out]; });
    });
}

}  // namespace

std::span<const MaxPoolVariant> max_pool_rows() {
    static constexpr MaxPoolVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<MaxPoolParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<MaxPoolParams>, forward<double>}};
    return rows;
}

std::span<const MaxPoolBackwardVariant> max_pool_backward_rows() {
    static constexpr MaxPoolBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<MaxPoolParams>, backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<MaxPoolParams>, backward<double>}};
    return rows;
}

}  // namespace cover::ref
