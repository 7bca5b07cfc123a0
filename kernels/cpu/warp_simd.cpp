#include "kernels/cpu/simd.h"
#include "kernels/cpu/warp.h"

namespace cover::cpu::COVER_ISA {
namespace {

// What one axis of one pixel reads: source indices left and left + 1 with weights 1 - fraction and fraction.
struct AxisRead {
    std::int64_t left;
    float fraction;
    bool inside[2];
};

COVER_INLINE AxisRead read_axis(std::int64_t pixel, float displacement, const WarpGeometry& g, int axis) {
    const double at = (static_cast<double>(pixel) + double{displacement}) * g.ratio[axis] - g.shift;
    const std::int64_t side = g.sides[axis];
    // Both neighbours lie outside, also for a point that no integer can hold and for NaN.
    if (!(at > -1.0 && at < static_cast<double>(side))) return {-2, 0, {false, false}};
    const double floor = __builtin_floor(at);
    const auto left = static_cast<std::int64_t>(floor);
    return {left, static_cast<float>(at - floor), {left >= 0, left + 1 < side}};
}

// The corners of one pixel that lie inside: which (bit nd - 1 - a says left or right along axis a), where in the source
// (in elements), and the product of their weights.
template <int nd>
struct Corners {
    static constexpr int all = 1 << nd;
    int which[all];
    std::int64_t offset[all];
    float weight[all];
    float fraction[nd];
    int count;
};

// Offsets of the corners from the leftmost one, in elements.
template <int nd>
COVER_INLINE void corner_steps(std::int64_t (&steps)[Corners<nd>::all], const WarpGeometry& g) {
    for (int corner = 0; corner < Corners<nd>::all; ++corner) {
        steps[corner] = 0;
        for (int a = 0; a < nd; ++a) steps[corner] = steps[corner] * g.sides[3 - nd + a] + (corner >> (nd - 1 - a) & 1);
        steps[corner] *= g.channels;
    }
}

// Only corners in the slab [slab_begin, slab_end) of the slowest axis count.
template <int nd>
COVER_INLINE Corners<nd> corners_of(const std::int64_t (&pixel)[nd], const float* field, const WarpGeometry& g,
                                    const std::int64_t (&steps)[Corners<nd>::all], std::int64_t slab_begin,
                                    std::int64_t slab_end) {
    constexpr int first = 3 - nd, all = Corners<nd>::all;
    Corners<nd> corners;
    corners.count = 0;
    for (int a = 0; a < nd; ++a) corners.fraction[a] = 0;
    AxisRead reads[nd];
    reads[0] = read_axis(pixel[0], field[0], g, first);
    if (reads[0].left + 1 < slab_begin || reads[0].left >= slab_end) return corners;
    for (int side = 0; side < 2; ++side) {
        const std::int64_t index = reads[0].left + side;
        if (index < slab_begin || index >= slab_end) reads[0].inside[side] = false;
    }
    for (int a = 1; a < nd; ++a) reads[a] = read_axis(pixel[a], field[a], g, first + a);
    std::int64_t base = 0;
    float weight[all] = {1};
    bool inside = true;
    for (int a = 0; a < nd; ++a) {
        base = base * g.sides[first + a] + reads[a].left;
        corners.fraction[a] = reads[a].fraction;
        inside = inside && reads[a].inside[0] && reads[a].inside[1];
        for (int i = (1 << a) - 1; i >= 0; --i) {
            weight[2 * i + 1] = weight[i] * reads[a].fraction;
            weight[2 * i] = weight[i] * (1 - reads[a].fraction);
        }
    }
    base *= g.channels;
    if (inside) {
        for (int corner = 0; corner < all; ++corner) {
            corners.which[corner] = corner;
            corners.offset[corner] = base + steps[corner];
            corners.weight[corner] = weight[corner];
        }
        corners.count = all;
        return corners;
    }
    for (int corner = 0; corner < all; ++corner) {
        corners.which[corners.count] = corner;
        corners.offset[corners.count] = base + steps[corner];
        corners.weight[corners.count] = weight[corner];
        bool counts = true;
        for (int a = 0; a < nd; ++a) counts = counts && reads[a].inside[corner >> (nd - 1 - a) & 1];
        corners.count += counts;
    }
    return corners;
}

// Calls body(pixel, corners) for the pixels [begin, end) of the sample, in order; only corners in the slab
// [slab_begin, slab_end) of the slowest axis are handed over.
template <int nd, class Body>
COVER_INLINE void for_pixels(const float* field, const WarpGeometry& g, std::int64_t begin, std::int64_t end,
                             std::int64_t slab_begin, std::int64_t slab_end, Body body) {
    const std::int64_t *sides = g.sides + (3 - nd), width = g.sides[2];
    std::int64_t steps[Corners<nd>::all];
    corner_steps<nd>(steps, g);
    std::int64_t pixel[nd];
    std::int64_t rest = begin;
    for (int a = nd - 1; a > 0; --a) {
        pixel[a] = rest % sides[a];
        rest /= sides[a];
    }
    pixel[0] = rest;
    for (std::int64_t i = begin; i < end; ++i) {
        body(i, corners_of<nd>(pixel, field + i * nd, g, steps, slab_begin, slab_end));
        if (++pixel[nd - 1] == width) {
            pixel[nd - 1] = 0;
            for (int a = nd - 2; a >= 0 && ++pixel[a] == sides[a] && a > 0; --a) pixel[a] = 0;
        }
    }
}

template <int count>
COVER_INLINE void gather(float* y, const float* source, const std::int64_t* offset, const float* weight, int some,
                         std::int64_t channels) {
    const int n = count ? count : some;
    for_channels(channels, [=]<int L>(std::int64_t c) {
        Float<L> sum{};
        for (int k = 0; k < n; ++k) sum += load<L>(source + offset[k] + c) * weight[k];
        store<L>(y + c, sum);
    });
}

template <int nd>
void forward_pixels(float* y, const float* source, const float* field, const WarpGeometry& g, std::int64_t begin,
                    std::int64_t end) {
    for_pixels<nd>(field, g, begin, end, 0, g.sides[3 - nd], [&](std::int64_t i, const Corners<nd>& corners) {
        float* to = y + i * g.channels;
        if (corners.count == Corners<nd>::all)
            gather<Corners<nd>::all>(to, source, corners.offset, corners.weight, 0, g.channels);
        else
            gather<0>(to, source, corners.offset, corners.weight, corners.count, g.channels);
    });
}

template <int nd>
void backward_field_pixels(float* dfield, const float* dy, const float* source, const float* field,
                           const WarpGeometry& g, std::int64_t begin, std::int64_t end) {
    constexpr int all = Corners<nd>::all;
    for_pixels<nd>(field, g, begin, end, 0, g.sides[3 - nd], [&](std::int64_t i, const Corners<nd>& corners) {
        const float* cotangent = dy + i * g.channels;
        float dots[all] = {};  // of the cotangent and the source at each corner; zero outside
        const auto add = [&]<int count>() __attribute__((always_inline)) {
            const int n = count ? count : corners.count;
            for_channel_runs(
                g.channels, [&]<int L>(std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
                    Float<L> sums[all] = {};
                    for (std::int64_t c = from; c < to; c += L) {
                        const Float<L> v = load<L>(cotangent + c);
                        for (int k = 0; k < n; ++k) sums[k] += v * load<L>(source + corners.offset[k] + c);
                    }
                    for (int k = 0; k < n; ++k) dots[count ? k : corners.which[k]] += horizontal_sum<L>(sums[k]);
                });
        };
        if (corners.count == all)
            add.template operator()<all>();
        else
            add.template operator()<0>();
        // The derivative by axis a: the difference along a, interpolated along the other axes. The last axis is folded
        // first, and what is left of `dots` is its interpolation.
        float slopes[nd][all];
        for (int a = nd - 1; a >= 0; --a) {
            const float fraction = corners.fraction[a];
            for (int k = 0; k < 1 << a; ++k) {
                const float step = dots[2 * k + 1] - dots[2 * k];
                slopes[a][k] = step;
                dots[k] = dots[2 * k] + fraction * step;
                for (int later = a + 1; later < nd; ++later)
                    slopes[later][k] =
                        slopes[later][2 * k] + fraction * (slopes[later][2 * k + 1] - slopes[later][2 * k]);
            }
        }
        for (int a = 0; a < nd; ++a) dfield[i * nd + a] = slopes[a][0] * static_cast<float>(g.ratio[3 - nd + a]);
    });
}

template <int nd>
void backward_source_slab(float* dsource, const float* dy, const float* field, const WarpGeometry& g,
                          std::int64_t begin, std::int64_t end) {
    std::int64_t plane = g.channels;  // elements of one step along the slowest axis
    for (int a = 4 - nd; a < 3; ++a) plane *= g.sides[a];
    __builtin_memset(dsource + begin * plane, 0, sizeof(float) * static_cast<std::size_t>((end - begin) * plane));
    const std::int64_t pixels = g.sides[0] * g.sides[1] * g.sides[2];
    for_pixels<nd>(field, g, 0, pixels, begin, end, [&](std::int64_t i, const Corners<nd>& corners) {
        for (int k = 0; k < corners.count; ++k) {
            const float* from = dy + i * g.channels;
            float* to = dsource + corners.offset[k];
            const float weight = corners.weight[k];
            for_channels(g.channels, [=]<int L>(std::int64_t c) {
                store<L>(to + c, load<L>(to + c) + load<L>(from + c) * weight);
            });
        }
    });
}

void forward(float* y, const float* source, const float* field, const WarpGeometry& g, std::int64_t begin,
             std::int64_t end) {
    if (g.spatial_dims == 2)
        forward_pixels<2>(y, source, field, g, begin, end);
    else
        forward_pixels<3>(y, source, field, g, begin, end);
}

void backward_field(float* dfield, const float* dy, const float* source, const float* field, const WarpGeometry& g,
                    std::int64_t begin, std::int64_t end) {
    if (g.spatial_dims == 2)
        backward_field_pixels<2>(dfield, dy, source, field, g, begin, end);
    else
        backward_field_pixels<3>(dfield, dy, source, field, g, begin, end);
}

void backward_source(float* dsource, const float* dy, const float* field, const WarpGeometry& g, std::int64_t begin,
                     std::int64_t end) {
    if (g.spatial_dims == 2)
        backward_source_slab<2>(dsource, dy, field, g, begin, end);
    else
        backward_source_slab<3>(dsource, dy, field, g, begin, end);
}

}  // namespace

extern const WarpKernels warp_kernels;
const WarpKernels warp_kernels = {forward, backward_field, backward_source};

}  // namespace cover::cpu::COVER_ISA
