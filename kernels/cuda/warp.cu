// Warping. The gradient of the source is a scatter; here it is turned into sorted lists, one for each cell between
// neighbouring source pixels: how many pixels read from a cell is counted, a running sum makes room for them, their
// numbers are filed and sorted, and each source pixel adds what the cells around it hold, cell by cell in that order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/warp/scan.cuh"
#include "kernels/cuda/warp/sort.cuh"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace warp {

// WarpParams with what the convention makes of them; axes are (D, H, W).
struct Geometry {
    unsigned sides[3];
    unsigned pixels;  // of a sample
    unsigned cells;   // of a sample: along an axis one before each pixel and one behind the last
    double ratio[3];  // derivative of the source coordinate by the field
    double shift;
    std::int64_t channels;
};

// No axis has more than twice as many cells as pixels.
constexpr std::int64_t largest_sample = std::numeric_limits<int>::max() / 8;

Geometry geometry_of(const WarpParams& p) {
    require(p.grid.pixels() < largest_sample, ErrorKind::device, "[warp] ", p.grid.pixels(),
            " pixels in one sample are more than a 32-bit number counts; use a smaller patch");
    const std::int64_t cells = (p.grid.spatial_dims == 2 ? 1 : p.grid.d + 1) * (p.grid.h + 1) * (p.grid.w + 1);
    Geometry g{{static_cast<unsigned>(p.grid.d), static_cast<unsigned>(p.grid.h), static_cast<unsigned>(p.grid.w)},
               static_cast<unsigned>(p.grid.pixels()),
               static_cast<unsigned>(cells),
               {1, 1, 1},
               0,
               p.channels};
    if (p.convention == WarpConvention::reference) {
        g.shift = 0.5;
        for (int axis = 0; axis < 3; ++axis)
            if (g.sides[axis] > 1)
                g.ratio[axis] = static_cast<double>(g.sides[axis]) / static_cast<double>(g.sides[axis] - 1);
    }
    return g;
}

// What one axis of one pixel reads: source indices left and left + 1 with weights 1 - fraction and fraction.
struct AxisRead {
    int left;
    float fraction;
    bool inside[2];
};

// In double and rounded after each step, like the reference: where rounding decides between two cells, both decide
// alike. fma(a, b, 0) is a product that no compiler merges with the difference behind it.
__device__ AxisRead read_axis(unsigned pixel, float displacement, const Geometry& g, int axis) {
    const double position = static_cast<double>(pixel) + static_cast<double>(displacement);
    const double at = std::fma(position, g.ratio[axis], 0.0) - g.shift;
    // Both neighbours lie outside, also for a point that no integer can hold and for NaN.
    if (!(at > -1.0 && at < static_cast<double>(g.sides[axis]))) return {-2, 0, {false, false}};
    const double floor = std::floor(at);
    const int left = static_cast<int>(floor);
    return {left, static_cast<float>(at - floor), {left >= 0, left + 1 < static_cast<int>(g.sides[axis])}};
}

// What a pixel reads along all axes. Bit nd - 1 - a of a corner's number says left or right along axis a.
template <int nd>
struct Reads {
    static constexpr int corners = 1 << nd;
    AxisRead axes[nd];

    static __device__ constexpr int side_of(int corner, int axis) { return corner >> (nd - 1 - axis) & 1; }
    __device__ bool inside(int corner) const {
        bool all = true;
        for (int a = 0; a < nd; ++a) all = all && axes[a].inside[side_of(corner, a)];
        return all;
    }
    __device__ float weight(int corner) const {
        float product = 1;
        for (int a = 0; a < nd; ++a) product *= side_of(corner, a) ? axes[a].fraction : 1.0f - axes[a].fraction;
        return product;
    }
    // Of the cell within the sample, or -1 where no corner is inside.
    __device__ int cell(const Geometry& g) const {
        int index = 0;
        for (int a = 0; a < nd; ++a) {
            if (axes[a].left < -1) return -1;
            index = index * static_cast<int>(g.sides[3 - nd + a] + 1) + axes[a].left + 1;
        }
        return index;
    }
    // Within the sample; of a corner inside.
    __device__ unsigned pixel(int corner, const Geometry& g) const {
        unsigned index = 0;
        for (int a = 0; a < nd; ++a)
            index = index * g.sides[3 - nd + a] + static_cast<unsigned>(axes[a].left + side_of(corner, a));
        return index;
    }
};

// Of pixel `pixel` of a sample, whose vector lies at `vector`.
template <int nd>
__device__ Reads<nd> reads_of(unsigned pixel, const float* vector, const Geometry& g) {
    Reads<nd> reads;
    for (int a = nd - 1; a >= 0; --a) {
        const unsigned side = g.sides[3 - nd + a], rest = pixel / side;
        reads.axes[a] = read_axis(pixel - rest * side, vector[a], g, 3 - nd + a);
        pixel = rest;
    }
    return reads;
}

// Blocks of a launch over whole samples, each of which begins a new block.
struct Samples {
    unsigned blocks;  // of a sample
    Lanes lanes;

    unsigned grid(std::int64_t n) const { return blocks_for(n * blocks, 1); }
};

Samples samples_of(const Geometry& g, int width) {
    const Lanes lanes = lanes_for(g.channels, width > 1 ? width : 4);
    return {blocks_for(lanes.threads(g.pixels)), lanes};
}

// Of one thread; `pixel` counts within the sample and may lie behind its last one.
struct Place {
    std::int64_t n;
    unsigned pixel;
    int lane;

    __device__ std::int64_t index(const Geometry& g) const { return n * g.pixels + pixel; }
};

__device__ Place place_of(const Samples& samples) {
    const unsigned n = blockIdx.x / samples.blocks;
    const std::int64_t thread = std::int64_t{blockIdx.x - n * samples.blocks} * threads_per_block + threadIdx.x;
    return {n, static_cast<unsigned>(samples.lanes.pixel_of(thread)), samples.lanes.lane_of(threadIdx.x)};
}

// What the corners of a read hold, zeros outside. All are asked for before the first is used.
template <class T, int nd, int width>
struct Corners {
    Pack<T, width> packs[1 << nd];

    __device__ Corners(const Reads<nd>& reads, const T* sample, std::int64_t channel, const Geometry& g) {
        for (int k = 0; k < Reads<nd>::corners; ++k) {
            packs[k] = {};
            if (reads.inside(k))
                packs[k] = *reinterpret_cast<const Pack<T, width>*>(sample + reads.pixel(k, g) * g.channels + channel);
        }
    }
    __device__ void values(float (&to)[width], int corner) const { load(to, packs[corner].values); }
};

template <class T, int nd, int width>
__global__ void forward(T* y, const T* source, const float* field, Geometry g, Samples samples) {
    const Place at = place_of(samples);
    if (at.pixel >= g.pixels) return;
    const std::int64_t i = at.index(g);
    const Reads<nd> reads = reads_of<nd>(at.pixel, field + i * nd, g);
    const T* sample = source + at.n * g.pixels * g.channels;
    for (std::int64_t c = at.lane * width; c < g.channels; c += samples.lanes.count() * width) {
        const Corners<T, nd, width> corners(reads, sample, c, g);
        float sums[width] = {};
        for (int k = 0; k < Reads<nd>::corners; ++k) {
            const float weight = reads.weight(k);
            float values[width];
            corners.values(values, k);
            for (int f = 0; f < width; ++f) sums[f] = std::fma(weight, values[f], sums[f]);
        }
        store(y + i * g.channels + c, sums);
    }
}

// The derivative along an axis: the difference along it, interpolated along the other axes. The last axis is folded
// first, and what is left of `dots` is its interpolation.
template <int nd>
__device__ void fold(float (&slopes)[nd], float (&dots)[1 << nd], const Reads<nd>& reads) {
    float steps[nd][1 << nd];
    for (int a = nd - 1; a >= 0; --a) {
        const float fraction = reads.axes[a].fraction;
        for (int k = 0; k < 1 << a; ++k) {
            steps[a][k] = dots[2 * k + 1] - dots[2 * k];
            dots[k] = std::fma(fraction, steps[a][k], dots[2 * k]);
            for (int later = a + 1; later < nd; ++later)
                steps[later][k] =
                    std::fma(fraction, steps[later][2 * k + 1] - steps[later][2 * k], steps[later][2 * k]);
        }
    }
    for (int a = 0; a < nd; ++a) slopes[a] = steps[a][0];
}

template <class T, int nd, int width>
__global__ void field_gradient(float* dfield, const T* dy, const T* source, const float* field, Geometry g,
                               Samples samples) {
    const Place at = place_of(samples);
    const bool exists = at.pixel < g.pixels;
    const std::int64_t i = at.index(g);
    Reads<nd> reads{};                    // nothing inside for lanes behind the last pixel
    float dots[Reads<nd>::corners] = {};  // of the cotangent and the source at each corner; zero outside
    if (exists) {
        reads = reads_of<nd>(at.pixel, field + i * nd, g);
        const T *cotangent = dy + i * g.channels, *sample = source + at.n * g.pixels * g.channels;
        for (std::int64_t c = at.lane * width; c < g.channels; c += samples.lanes.count() * width) {
            const Corners<T, nd, width> corners(reads, sample, c, g);
            float cotangents[width];
            load(cotangents, cotangent + c);
            for (int k = 0; k < Reads<nd>::corners; ++k) {
                float values[width];
                corners.values(values, k);
                for (int f = 0; f < width; ++f) dots[k] = std::fma(cotangents[f], values[f], dots[k]);
            }
        }
    }
    for (int k = 0; k < Reads<nd>::corners; ++k) dots[k] = lane_sum(dots[k], samples.lanes);
    if (!exists || at.lane > 0) return;
    float slopes[nd];
    fold<nd>(slopes, dots, reads);
    for (int a = 0; a < nd; ++a) dfield[i * nd + a] = slopes[a] * static_cast<float>(g.ratio[3 - nd + a]);
}

// The passes below see some whole samples. Pixels, source pixels and cells are counted through these samples.

__global__ void clear(int* values, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) values[i] = 0;
}

// Where a pixel is filed: its cell, or -1, and how many came there before it, in no fixed order.
struct alignas(8) Filing {
    int cell, rank;
};

// Of a pixel, as read_axis gives them.
template <int nd>
struct alignas(nd == 2 ? 8 : 4) Fractions {
    float along[nd];
};

// One thread per pixel.
template <int nd>
__global__ void count_readers(int* counts, Filing* filings, Fractions<nd>* fractions, const float* field, Geometry g,
                              unsigned pixels) {
    const std::int64_t i = global_thread();
    if (i >= pixels) return;
    const unsigned n = static_cast<unsigned>(i) / g.pixels;
    const Reads<nd> reads = reads_of<nd>(static_cast<unsigned>(i) - n * g.pixels, field + i * nd, g);
    Filing filing{reads.cell(g), 0};
    if (filing.cell >= 0) {
        filing.cell += static_cast<int>(n * g.cells);
        filing.rank = atomic_add(counts + filing.cell, 1);
    }
    filings[i] = filing;
    for (int a = 0; a < nd; ++a) fractions[i].along[a] = reads.axes[a].fraction;
}

__global__ void file_readers(int* ids, const int* begins, const Filing* filings, unsigned pixels) {
    const std::int64_t i = global_thread();
    if (i >= pixels) return;
    const Filing filing = filings[i];
    if (filing.cell >= 0) ids[begins[filing.cell] + filing.rank] = static_cast<int>(i);
}

// One thread per cell. A list holds about one pixel where the field is smooth; where a field shrinks everything into
// one pixel it is as long as the image.
__global__ void sort_readers(int* ids, const int* begins, std::int64_t cells) {
    const std::int64_t i = global_thread();
    if (i >= cells) return;
    const int begin = begins[i], count = begins[i + 1] - begin;
    sort(ids + begin, count);
}

// Sums of any length: up to `few` terms at a time in float32, those sums in double.
template <int width>
class LongSum {
public:
    __device__ void add_two(const float (&weights)[2], const float (&values)[2][width]) {
        if (terms_ == few) close();
        for (int k = 0; k < 2; ++k)
            for (int f = 0; f < width; ++f) part_[f] = std::fma(weights[k], values[k][f], part_[f]);
        terms_ += 2;
    }
    __device__ void round(float (&to)[width]) {
        if (is_long_) close();
        for (int f = 0; f < width; ++f) to[f] = is_long_ ? static_cast<float>(sums_[f]) : part_[f];
    }

private:
    __device__ void close() {
        for (int f = 0; f < width; ++f) {
            sums_[f] += static_cast<double>(part_[f]);
            part_[f] = 0;
        }
        terms_ = 0;
        is_long_ = true;
    }
    float part_[width] = {};
    double sums_[width] = {};
    int terms_ = 0;
    bool is_long_ = false;
};

// Some lanes per source pixel, which is a corner of two cells along each axis: the right one of the first, the left one
// of the second. Cells that are neighbours along W have neighbouring lists.
template <class T, int nd, int width>
__global__ void sum_readers(T* dsource, const T* dy, const int* ids, const int* begins, const Fractions<nd>* fractions,
                            Geometry g, unsigned pixels, Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    if (i >= pixels) return;
    constexpr int rows = 1 << (nd - 1);
    int borders[rows][3];
    unsigned rest = static_cast<unsigned>(i);
    unsigned at[nd];
    for (int a = nd - 1; a >= 0; --a) {
        const unsigned side = g.sides[3 - nd + a], next = rest / side;
        at[a] = rest - next * side;
        rest = next;
    }
    for (int row = 0; row < rows; ++row) {
        unsigned cell = rest;
        for (int a = 0; a < nd - 1; ++a)
            cell = cell * (g.sides[3 - nd + a] + 1) + at[a] + static_cast<unsigned>(row >> (nd - 2 - a) & 1);
        cell = cell * (g.sides[2] + 1) + at[nd - 1];
        for (int k = 0; k < 3; ++k) borders[row][k] = begins[cell + k];
    }
    for (std::int64_t c = lanes.lane_of(threadIdx.x) * width; c < g.channels; c += lanes.count() * width) {
        LongSum<width> sum;
#pragma unroll
        for (int row = 0; row < rows; ++row) {
            const auto weight_of = [&](const Fractions<nd>& read, int filed) {
                float weight = 1;
                for (int a = 0; a < nd; ++a) {
                    const bool is_left = a == nd - 1 ? filed >= borders[row][1] : (row >> (nd - 2 - a) & 1) != 0;
                    weight *= is_left ? 1.0f - read.along[a] : read.along[a];
                }
                return weight;
            };
            // Two at a time, so that both are under way together; zeros where there is no second.
            for (int filed = borders[row][0]; filed < borders[row][2]; filed += 2) {
                const bool both = filed + 1 < borders[row][2];
                const std::int64_t first = ids[filed], second = ids[filed + (both ? 1 : 0)];
                Pack<T, width> pack{};
                if (both) pack = *reinterpret_cast<const Pack<T, width>*>(dy + second * g.channels + c);
                float values[2][width];
                load(values[0], dy + first * g.channels + c);
                load(values[1], pack.values);
                sum.add_two({weight_of(fractions[first], filed), weight_of(fractions[second], filed + 1)}, values);
            }
        }
        float rounded[width];
        sum.round(rounded);
        store(dsource + i * g.channels + c, rounded);
    }
}

// As many samples at a time as keep the lists below 128 MiB, but at least one.
constexpr std::int64_t cells_at_once = std::int64_t{1} << 22;

template <class T, int nd>
void run_source_gradient(T* dsource, const T* dy, const float* field, const WarpParams& p, bool is_wide,
                         Stream& stream) {
    const Geometry g = geometry_of(p);
    const std::int64_t at_once = std::min(p.n, std::max<std::int64_t>(1, cells_at_once / g.cells));
    const std::int64_t most = at_once * g.pixels;
    Workspace<int> begins(at_once * g.cells + 1, stream), ids(most, stream);
    Workspace<Filing> filings(most, stream);
    Workspace<Fractions<nd>> fractions(most, stream);
    for (std::int64_t n = 0; n < p.n; n += at_once) {
        const std::int64_t samples = std::min(at_once, p.n - n);
        const std::int64_t first = n * g.pixels, pixels = samples * g.pixels, cells = samples * g.cells;
        launch(stream, "warp_backward, clear", blocks_for(cells + 1), threads_per_block, 0, clear, begins.data(),
               cells + 1);
        launch(stream, "warp_backward, count", blocks_for(pixels), threads_per_block, 0, count_readers<nd>,
               begins.data(), filings.data(), fractions.data(), field + first * nd, g, pixels);
        exclusive_scan(begins.data(), cells + 1, stream);
        launch(stream, "warp_backward, file", blocks_for(pixels), threads_per_block, 0, file_readers, ids.data(),
               begins.data(), filings.data(), pixels);
        launch(stream, "warp_backward, sort", blocks_for(cells), threads_per_block, 0, sort_readers, ids.data(),
               begins.data(), cells);
        with_width<T>(is_wide, [&](auto width) {
            const Lanes lanes = lanes_for(p.channels, width() > 1 ? width() : 4);
            launch(stream, "warp_backward, sum", blocks_for(lanes.threads(pixels)), threads_per_block, 0,
                   sum_readers<T, nd, width()>, dsource + first * p.channels, dy + first * p.channels, ids.data(),
                   begins.data(), fractions.data(), g, pixels, lanes);
        });
    }
}

template <class T, int nd>
void run_in(T* y, const T* source, const float* field, const WarpParams& p, bool is_wide, Stream& stream) {
    const Geometry g = geometry_of(p);
    with_width<T>(is_wide, [&](auto width) {
        const Samples samples = samples_of(g, width());
        launch(stream, "warp", samples.grid(p.n), threads_per_block, 0, forward<T, nd, width()>, y, source, field, g,
               samples);
    });
}

template <class T>
void run(View y, ConstView source, ConstView field, const WarpParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_in<T, 2> : run_in<T, 3>)(y.as<T>(), source.as<T>(), field.as<float>(), p,
                                                             keeps_alignment<T>(p.channels, y, source), stream);
}

template <class T, int nd>
void run_backward_in(View dsource, View dfield, ConstView dy, ConstView source, ConstView field, const WarpParams& p,
                     Stream& stream) {
    if (dsource)
        run_source_gradient<T, nd>(dsource.as<T>(), dy.as<T>(), field.as<float>(), p,
                                   keeps_alignment<T>(p.channels, dsource, dy), stream);
    if (!dfield) return;
    const Geometry g = geometry_of(p);
    with_width<T>(keeps_alignment<T>(p.channels, dy, source), [&](auto width) {
        const Samples samples = samples_of(g, width());
        launch(stream, "warp_backward, field", samples.grid(p.n), threads_per_block, 0, field_gradient<T, nd, width()>,
               dfield.as<float>(), dy.as<T>(), source.as<T>(), field.as<float>(), g, samples);
    });
}

template <class T>
void run_backward(View dsource, View dfield, ConstView dy, ConstView source, ConstView field, const WarpParams& p,
                  Stream& stream) {
    if (p.grid.spatial_dims == 2)
        run_backward_in<T, 2>(dsource, dfield, dy, source, field, p, stream);
    else
        run_backward_in<T, 3>(dsource, dfield, dy, source, field, p, stream);
}

}  // namespace warp

std::span<const WarpVariant> warp_rows() {
    static constexpr WarpVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<WarpParams>, warp::run<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<WarpParams>, warp::run<bfloat16>}};
    return rows;
}
std::span<const WarpBackwardVariant> warp_backward_rows() {
    static constexpr WarpBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<WarpParams>, warp::run_backward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<WarpParams>, warp::run_backward<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
