#include "data/lay_back.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace cover {

namespace {

// Rounding of an affine map must not put an edge pixel outside.
constexpr double slack = 1e-6;

// How far beyond the outermost centres the edge value holds: half a pixel, and half of the half pixel by which
// `--spacing` may round an axis short.
constexpr double beyond = 0.75;

struct Sides {
    std::array<std::int64_t, 3> n;
    explicit Sides(const Grid& grid) : n{grid.d, grid.h, grid.w} {}
    bool holds(const Point& p) const {
        for (std::size_t a = 0; a < 3; ++a)
            if (!(p[a] >= -beyond - slack && p[a] <= static_cast<double>(n[a] - 1) + beyond + slack)) return false;
        return true;
    }
};

// Calls body(index of a target pixel, its point on the stored grid), a row of the target per task.
template <class Body>
void for_each_pixel(const Grid& target, const Affine& to_stored, ThreadPool& pool, Body body) {
    pool.run(target.d * target.h, [&](std::int64_t row) {
        const auto d = static_cast<double>(row / target.h), h = static_cast<double>(row % target.h);
        for (std::int64_t w = 0; w < target.w; ++w) body(row * target.w + w, to_stored({d, h, static_cast<double>(w)}));
    });
}

}  // namespace

std::vector<float> lay_back(const float* in, const Grid& stored, int channels, const Grid& target,
                            const Affine& to_stored, ThreadPool& pool) {
    const Sides sides(stored);
    const std::int64_t stride[3] = {stored.h * stored.w * channels, stored.w * channels, channels};
    std::vector<float> out(static_cast<std::size_t>(target.pixels() * channels), 0.0f);
    for_each_pixel(target, to_stored, pool, [&](std::int64_t pixel, const Point& p) {
        if (!sides.holds(p)) return;
        std::int64_t corner = 0, step[3];
        double part[3];
        for (std::size_t a = 0; a < 3; ++a) {
            const double x = std::clamp(p[a], 0.0, static_cast<double>(sides.n[a] - 1));
            const auto below = std::min(static_cast<std::int64_t>(x), std::max<std::int64_t>(sides.n[a] - 2, 0));
            part[a] = x - static_cast<double>(below);
            step[a] = sides.n[a] > 1 ? stride[a] : 0;
            corner += below * stride[a];
        }
        float* const to = out.data() + pixel * channels;
        for (int k = 0; k < 8; ++k) {
            double weight = 1;
            std::int64_t at = corner;
            for (int a = 0; a < 3; ++a) {
                const bool upper = k >> a & 1;
                weight *= upper ? part[a] : 1 - part[a];
                at += upper ? step[a] : 0;
            }
            if (weight == 0) continue;
            const auto w = static_cast<float>(weight);
            for (int c = 0; c < channels; ++c) to[c] += w * in[at + c];
        }
    });
    return out;
}

std::vector<std::uint8_t> lay_back_labels(const std::vector<std::uint8_t>& in, const Grid& stored, const Grid& target,
                                          const Affine& to_stored, ThreadPool& pool) {
    require(static_cast<std::int64_t>(in.size()) == stored.pixels(), ErrorKind::internal, "[lay back] ", in.size(),
            " labels on a grid of ", stored.pixels());
    const Sides sides(stored);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(target.pixels()), 0);
    for_each_pixel(target, to_stored, pool, [&](std::int64_t pixel, const Point& p) {
        if (!sides.holds(p)) return;
        std::int64_t at = 0;
        for (std::size_t a = 0; a < 3; ++a) {
            const auto nearest = static_cast<std::int64_t>(std::floor(p[a] + 0.5));
            at = at * sides.n[a] + std::clamp<std::int64_t>(nearest, 0, sides.n[a] - 1);
        }
        out[static_cast<std::size_t>(pixel)] = in[static_cast<std::size_t>(at)];
    });
    return out;
}

Affine reverse_axes() {
    Affine a;
    a.m = {0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};
    return a;
}

}  // namespace cover
