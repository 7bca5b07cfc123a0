// Changes the size of an image: antialiased for values, nearest for labels.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/shape.h"

namespace cover {

// Index i of the target lies at (i + 0.5) * ratio + extra of the source, where 0 is the outer edge of its first pixel.
struct AxisStep {
    double ratio = 1, extra = 0;

    // From edge to edge.
    static AxisStep stretch(std::int64_t from, std::int64_t to);
    // The ratio as given, the centres of both laid on each other.
    static AxisStep centred(std::int64_t from, std::int64_t to, double ratio);
    // Index -> index, centre to centre.
    double shift() const { return 0.5 * ratio + extra - 0.5; }
    bool keeps(std::int64_t from, std::int64_t to) const { return from == to && ratio == 1 && extra == 0; }
};
using AxisSteps = std::array<AxisStep, 3>;  // D, H, W

AxisSteps stretch(const Grid& from, const Grid& to);

// in: (D, H, W, C). Axis by axis with a triangle filter as wide as two source pixels, or two target pixels where the
// image shrinks; weights and sums in double, each row of weights sums to 1. An axis that keeps its size keeps its
// values.
std::vector<float> resample(std::vector<float> in, const Grid& from, const Grid& to, const AxisSteps& steps,
                            int channels);
std::vector<float> resample(std::vector<float> in, const Grid& from, const Grid& to, int channels);

// in: (D, H, W). The pixel that holds the target's centre.
std::vector<std::uint8_t> resample_nearest(const std::vector<std::uint8_t>& in, const Grid& from, const Grid& to,
                                           const AxisSteps& steps);
std::vector<std::uint8_t> resample_nearest(const std::vector<std::uint8_t>& in, const Grid& from, const Grid& to);

// Places an image of size `from` into one of size `to`, from index `at` on (negative: cut off), zeros around it.
template <class T>
std::vector<T> place(const std::vector<T>& in, const Grid& from, const Grid& to, const Grid& at, int channels) {
    std::vector<T> out(static_cast<std::size_t>(to.pixels() * channels), T{0});
    for (std::int64_t d = 0; d < from.d; ++d)
        for (std::int64_t h = 0; h < from.h; ++h) {
            const std::int64_t td = d + at.d, th = h + at.h;
            if (td < 0 || td >= to.d || th < 0 || th >= to.h) continue;
            for (std::int64_t w = 0; w < from.w; ++w) {
                const std::int64_t tw = w + at.w;
                if (tw < 0 || tw >= to.w) continue;
                for (int c = 0; c < channels; ++c)
                    out[static_cast<std::size_t>(((td * to.h + th) * to.w + tw) * channels + c)] =
                        in[static_cast<std::size_t>(((d * from.h + h) * from.w + w) * channels + c)];
            }
        }
    return out;
}

}  // namespace cover
