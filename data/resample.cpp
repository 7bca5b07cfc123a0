#include "data/resample.h"

#include <algorithm>
#include <cmath>

namespace cover {

namespace {

struct Taps {
    std::int64_t first = 0;
    std::vector<double> weights;
};

std::vector<Taps> triangle(std::int64_t from, std::int64_t to) {
    const double ratio = static_cast<double>(from) / static_cast<double>(to);
    const double support = std::max(1.0, ratio);
    std::vector<Taps> out(static_cast<std::size_t>(to));
    for (std::int64_t i = 0; i < to; ++i) {
        const double centre = (static_cast<double>(i) + 0.5) * ratio;
        const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(centre - support)));
        const auto last = std::min<std::int64_t>(from, static_cast<std::int64_t>(std::ceil(centre + support)));
        Taps& taps = out[static_cast<std::size_t>(i)];
        taps.first = first;
        double sum = 0;
        for (std::int64_t j = first; j < last; ++j) {
            const double distance = std::abs(static_cast<double>(j) + 0.5 - centre) / support;
            taps.weights.push_back(std::max(0.0, 1.0 - distance));
            sum += taps.weights.back();
        }
        for (double& w : taps.weights) w /= sum;
    }
    return out;
}

// in: (outer, from, inner) -> (outer, to, inner).
std::vector<float> resample_axis(const std::vector<float>& in, std::int64_t outer, std::int64_t from, std::int64_t to,
                                 std::int64_t inner) {
    if (from == to) return in;
    const std::vector<Taps> all = triangle(from, to);
    std::vector<float> out(static_cast<std::size_t>(outer * to * inner));
    std::vector<double> sums(static_cast<std::size_t>(inner));
    for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t i = 0; i < to; ++i) {
            const Taps& taps = all[static_cast<std::size_t>(i)];
            std::fill(sums.begin(), sums.end(), 0.0);
            for (std::size_t j = 0; j < taps.weights.size(); ++j) {
                const float* row = in.data() + (o * from + taps.first + static_cast<std::int64_t>(j)) * inner;
                for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += taps.weights[j] * static_cast<double>(row[k]);
            }
            float* target = out.data() + (o * to + i) * inner;
            for (std::size_t k = 0; k < sums.size(); ++k) target[k] = static_cast<float>(sums[k]);
        }
    return out;
}

}  // namespace

std::vector<float> resample(std::vector<float> in, const Grid& from, const Grid& to, int channels) {
    in = resample_axis(in, from.d * from.h, from.w, to.w, channels);
    in = resample_axis(in, from.d, from.h, to.h, to.w * channels);
    return resample_axis(in, 1, from.d, to.d, to.h * to.w * channels);
}

std::vector<std::uint8_t> resample_nearest(const std::vector<std::uint8_t>& in, const Grid& from, const Grid& to) {
    // The pixel that holds the target's centre: floor((2 i + 1) from / (2 to)).
    const auto nearest = [](std::int64_t i, std::int64_t f, std::int64_t t) { return (2 * i + 1) * f / (2 * t); };
    std::vector<std::uint8_t> out;
    out.reserve(static_cast<std::size_t>(to.pixels()));
    for (std::int64_t d = 0; d < to.d; ++d)
        for (std::int64_t h = 0; h < to.h; ++h)
            for (std::int64_t w = 0; w < to.w; ++w)
                out.push_back(in[static_cast<std::size_t>(
                    (nearest(d, from.d, to.d) * from.h + nearest(h, from.h, to.h)) * from.w +
                    nearest(w, from.w, to.w))]);
    return out;
}

}  // namespace cover
