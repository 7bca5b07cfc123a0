#include "data/resample.h"

#include <algorithm>
#include <cmath>

namespace cover {

namespace {

struct Taps {
    std::int64_t first = 0;
    std::vector<double> weights;
};

std::vector<Taps> triangle(std::int64_t from, std::int64_t to, const AxisStep& step) {
    const double support = std::max(1.0, step.ratio);
    std::vector<Taps> out(static_cast<std::size_t>(to));
    for (std::int64_t i = 0; i < to; ++i) {
        const double centre = (static_cast<double>(i) + 0.5) * step.ratio + step.extra;
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
                                 const AxisStep& step, std::int64_t inner) {
    if (step.keeps(from, to)) return in;
    const std::vector<Taps> all = triangle(from, to, step);
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

AxisStep AxisStep::stretch(std::int64_t from, std::int64_t to) {
    return {static_cast<double>(from) / static_cast<double>(to), 0};
}

AxisStep AxisStep::centred(std::int64_t from, std::int64_t to, double ratio) {
    // What no pixel shows is no change of size.
    if (from == to && std::abs(ratio - 1) * static_cast<double>(from) < 1e-3) return {};
    return {ratio, 0.5 * (static_cast<double>(from) - static_cast<double>(to) * ratio)};
}

AxisSteps stretch(const Grid& from, const Grid& to) {
    return {AxisStep::stretch(from.d, to.d), AxisStep::stretch(from.h, to.h), AxisStep::stretch(from.w, to.w)};
}

std::vector<float> resample(std::vector<float> in, const Grid& from, const Grid& to, const AxisSteps& steps,
                            int channels) {
    in = resample_axis(in, from.d * from.h, from.w, to.w, steps[2], channels);
    in = resample_axis(in, from.d, from.h, to.h, steps[1], to.w * channels);
    return resample_axis(in, 1, from.d, to.d, steps[0], to.h * to.w * channels);
}

std::vector<float> resample(std::vector<float> in, const Grid& from, const Grid& to, int channels) {
    return resample(std::move(in), from, to, stretch(from, to), channels);
}

std::vector<std::uint8_t> resample_nearest(const std::vector<std::uint8_t>& in, const Grid& from, const Grid& to,
                                           const AxisSteps& steps) {
    const auto table = [](std::int64_t f, std::int64_t t, const AxisStep& step) {
        std::vector<std::int64_t> out;
        for (std::int64_t i = 0; i < t; ++i) {
            const double at = (static_cast<double>(i) + 0.5) * step.ratio + step.extra;
            out.push_back(std::clamp<std::int64_t>(static_cast<std::int64_t>(std::floor(at)), 0, f - 1));
        }
        return out;
    };
    const auto ds = table(from.d, to.d, steps[0]), hs = table(from.h, to.h, steps[1]),
               ws = table(from.w, to.w, steps[2]);
    std::vector<std::uint8_t> out;
    out.reserve(static_cast<std::size_t>(to.pixels()));
    for (const std::int64_t d : ds)
        for (const std::int64_t h : hs)
            for (const std::int64_t w : ws) out.push_back(in[static_cast<std::size_t>((d * from.h + h) * from.w + w)]);
    return out;
}

std::vector<std::uint8_t> resample_nearest(const std::vector<std::uint8_t>& in, const Grid& from, const Grid& to) {
    return resample_nearest(in, from, to, stretch(from, to));
}

}  // namespace cover
