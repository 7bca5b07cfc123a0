#include "cover/tiles.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/check.h"

namespace cover {
namespace {

constexpr std::int64_t unit = 16;  // four poolings by two

std::int64_t rounded_up(std::int64_t n) { return (n + unit - 1) / unit * unit; }

// Index i of an axis of n pixels that goes on behind its end by reflection, forwards and back again.
std::int64_t reflected(std::int64_t i, std::int64_t n) {
    if (n == 1) return 0;
    const std::int64_t period = 2 * (n - 1);
    i %= period;
    return i < n ? i : period - i;
}

// A pixel `distance` from a cut edge: 0, then a rise like a squared sine, then 1.
double edge_weight(double distance, double overlap) {
    const double t = std::clamp((distance - overlap / 4) / (overlap / 2), 0.0, 1.0);
    const double s = std::sin(t * std::numbers::pi / 2);
    return s * s;
}

std::array<AxisTiles, 3> cut(const std::array<std::int64_t, 3>& sides, int spatial_dims, const TileSides& tile) {
    std::array<AxisTiles, 3> axes;
    axes[0] = {.padded = 1, .side = 1, .starts = {0}, .weights = {{1.0}}};
    for (std::size_t a = spatial_dims == 2 ? 1 : 0; a < 3; ++a) axes[a] = cut_axis(sides[a], tile[a]);
    return axes;
}

// Pixels [start, start + side) of each axis of `image`, behind whose ends it is reflected.
Tensor tile_of(const Tensor& image, const std::array<std::int64_t, 3>& start, const std::array<std::int64_t, 3>& side) {
    const std::int64_t height = image.side(2), width = image.side(3), channels = image.side(4);
    Tensor out = Tensor::empty({1, side[0], side[1], side[2], channels}, image.dtype());
    const float* from = image.data<float>();
    float* to = out.data<float>();
    for (std::int64_t d = 0; d < side[0]; ++d)
        for (std::int64_t h = 0; h < side[1]; ++h) {
            const std::int64_t row = reflected(start[0] + d, image.side(1)) * height + reflected(start[1] + h, height);
            for (std::int64_t w = 0; w < side[2]; ++w) {
                const float* pixel = from + (row * width + reflected(start[2] + w, width)) * channels;
                to = std::copy_n(pixel, channels, to);
            }
        }
    return out;
}

// out += weight * tile, where the tile lies in it.
void blend(Tensor& out, const Tensor& tile, const std::array<std::int64_t, 3>& start,
           const std::array<const double*, 3>& weights) {
    const std::int64_t channels = out.side(4);
    const std::int64_t depth = std::min(tile.side(1), out.side(1) - start[0]);
    const std::int64_t height = std::min(tile.side(2), out.side(2) - start[1]);
    const std::int64_t width = std::min(tile.side(3), out.side(3) - start[2]);
    const float* from = std::as_const(tile).data<float>();
    float* to = out.data<float>();
    for (std::int64_t d = 0; d < depth; ++d)
        for (std::int64_t h = 0; h < height; ++h) {
            const double row = weights[0][d] * weights[1][h];
            if (row == 0) continue;
            const float* source = from + (d * tile.side(2) + h) * tile.side(3) * channels;
            float* target = to + (((start[0] + d) * out.side(2) + start[1] + h) * out.side(3) + start[2]) * channels;
            for (std::int64_t w = 0; w < width; ++w) {
                const auto weight = static_cast<float>(row * weights[2][w]);
                if (weight == 0) continue;
                for (std::int64_t c = w * channels; c < (w + 1) * channels; ++c) target[c] += weight * source[c];
            }
        }
}

}  // namespace

AxisTiles cut_axis(std::int64_t length, std::int64_t tile_side) {
    require(length >= 1 && tile_side >= 0 && tile_side % unit == 0, ErrorKind::internal, "[tiles] a side of ", length,
            " pixels in tiles of ", tile_side, "; multiples of ", unit, " are expected");
    AxisTiles axis;
    axis.padded = rounded_up(length);
    axis.side = axis.padded;
    if (tile_side > 0) axis.side = std::min(axis.padded, std::max(tile_side, 2 * unit));
    const std::int64_t step = std::max(axis.side / 2 / unit * unit, unit), last = axis.padded - axis.side;
    for (std::int64_t start = 0; start < last; start += step) axis.starts.push_back(start);
    axis.starts.push_back(last);

    std::vector<double> sum(static_cast<std::size_t>(axis.padded), 0.0);
    const double overlap = static_cast<double>(axis.side - step);
    for (const std::int64_t start : axis.starts) {
        std::vector<double> weight(static_cast<std::size_t>(axis.side), 1.0);
        for (std::int64_t i = 0; i < axis.side; ++i) {
            auto& w = weight[static_cast<std::size_t>(i)];
            // The image's own edges are no cuts.
            if (start > 0) w *= edge_weight(static_cast<double>(i) + 0.5, overlap);
            if (start < last) w *= edge_weight(static_cast<double>(axis.side - i) - 0.5, overlap);
            sum[static_cast<std::size_t>(start + i)] += w;
        }
        axis.weights.push_back(std::move(weight));
    }
    for (std::size_t t = 0; t < axis.starts.size(); ++t)
        for (std::size_t i = 0; i < axis.weights[t].size(); ++i)
            axis.weights[t][i] /= sum[static_cast<std::size_t>(axis.starts[t]) + i];
    return axis;
}

Tensor run_tiled(const Tensor& image, int spatial_dims, const TileSides& tile, const ImageFunction& function) {
    require(image.shape().rank() == 5 && image.side(0) == 1 && (spatial_dims == 3 || image.side(1) == 1),
            ErrorKind::internal, "[tiles] one image (1,D,H,W,C) is expected, got ", image.shape().to_string());
    const auto axes = cut({image.side(1), image.side(2), image.side(3)}, spatial_dims, tile);
    Tensor out;
    for (std::size_t d = 0; d < axes[0].starts.size(); ++d)
        for (std::size_t h = 0; h < axes[1].starts.size(); ++h)
            for (std::size_t w = 0; w < axes[2].starts.size(); ++w) {
                const std::array<std::int64_t, 3> start{axes[0].starts[d], axes[1].starts[h], axes[2].starts[w]};
                const std::array<std::int64_t, 3> side{axes[0].side, axes[1].side, axes[2].side};
                const Tensor result = function(tile_of(image, start, side));
                require(result.shape().rank() == 5 && result.side(1) == side[0] && result.side(2) == side[1] &&
                            result.side(3) == side[2],
                        ErrorKind::internal, "[tiles] a tile came back as ", result.shape().to_string());
                if (!out.defined())
                    out = Tensor::zeros({1, image.side(1), image.side(2), image.side(3), result.side(4)});
                blend(out, result, start,
                      {axes[0].weights[d].data(), axes[1].weights[h].data(), axes[2].weights[w].data()});
            }
    return out;
}

std::int64_t count_tiles(const std::array<std::int64_t, 3>& sides, int spatial_dims, const TileSides& tile) {
    std::int64_t count = 1;
    for (const auto& axis : cut(sides, spatial_dims, tile)) count *= static_cast<std::int64_t>(axis.starts.size());
    return count;
}

}  // namespace cover
