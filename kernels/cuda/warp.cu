// Warping. The gradient of the source is a scatter; here it is turned into sorted lists: how many contributions each
// source pixel gets is counted, a running sum makes room for them, their numbers are filed and sorted, and each source
// pixel adds its own in that order, the order in which the reference scatters.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/warp/scan.cuh"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace warp {

// WarpParams with what the convention makes of them; axes are (D, H, W).
struct Geometry {
    std::int64_t sides[3];
    double ratio[3];  // derivative of the source coordinate by the field
    double shift;
    std::int64_t channels;

    constexpr std::int64_t pixels() const { return sides[0] * sides[1] * sides[2]; }
};

Geometry geometry_of(const WarpParams& p) {
    Geometry g{{p.grid.d, p.grid.h, p.grid.w}, {1, 1, 1}, 0, p.channels};
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
    std::int64_t left;
    float fraction;
    bool inside[2];
};

// In double and rounded after each step, like the reference: where rounding decides between two cells, both decide
// alike. fma(a, b, 0) is a product that no compiler merges with the difference behind it.
__device__ AxisRead read_axis(std::int64_t pixel, float displacement, const Geometry& g, int axis) {
    const double position = static_cast<double>(pixel) + static_cast<double>(displacement);
    const double at = std::fma(position, g.ratio[axis], 0.0) - g.shift;
    // Both neighbours lie outside, also for a point that no integer can hold and for NaN.
    if (!(at > -1.0 && at < static_cast<double>(g.sides[axis]))) return {-2, 0, {false, false}};
    const double floor = std::floor(at);
    const std::int64_t left = static_cast<std::int64_t>(floor);
    return {left, static_cast<float>(at - floor), {left >= 0, left + 1 < g.sides[axis]}};
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
    // Within the sample.
    __device__ std::int64_t pixel(int corner, const Geometry& g) const {
        std::int64_t index = 0;
        for (int a = 0; a < nd; ++a) index = index * g.sides[3 - nd + a] + axes[a].left + side_of(corner, a);
        return index;
    }
};

// Of pixel `pixel` of a sample, whose vector lies at `vector`.
template <int nd>
__device__ Reads<nd> reads_of(std::int64_t pixel, const float* vector, const Geometry& g) {
    Reads<nd> reads;
    for (int a = nd - 1; a >= 0; --a) {
        const std::int64_t side = g.sides[3 - nd + a], rest = pixel / side;
        reads.axes[a] = read_axis(pixel - rest * side, vector[a], g, 3 - nd + a);
        pixel = rest;
    }
    return reads;
}

template <int nd>
__global__ void forward(float* y, const float* source, const float* field, Geometry g, std::int64_t pixels,
                        Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    if (i >= pixels) return;
    const std::int64_t n = i / g.pixels();
    const Reads<nd> reads = reads_of<nd>(i - n * g.pixels(), field + i * nd, g);
    const float* sample = source + n * g.pixels() * g.channels;
    for (std::int64_t c = lanes.lane_of(threadIdx.x); c < g.channels; c += lanes.count()) {
        float sum = 0;
        for (int k = 0; k < Reads<nd>::corners; ++k)
            if (reads.inside(k)) sum = std::fma(reads.weight(k), sample[reads.pixel(k, g) * g.channels + c], sum);
        y[i * g.channels + c] = sum;
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

template <int nd>
__global__ void field_gradient(float* dfield, const float* dy, const float* source, const float* field, Geometry g,
                               std::int64_t pixels, Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    const int lane = lanes.lane_of(threadIdx.x);
    Reads<nd> reads{};                    // nothing inside for lanes behind the last pixel
    float dots[Reads<nd>::corners] = {};  // of the cotangent and the source at each corner; zero outside
    if (i < pixels) {
        const std::int64_t n = i / g.pixels();
        reads = reads_of<nd>(i - n * g.pixels(), field + i * nd, g);
        const float *cotangent = dy + i * g.channels, *sample = source + n * g.pixels() * g.channels;
        for (int k = 0; k < Reads<nd>::corners; ++k) {
            if (!reads.inside(k)) continue;
            const float* corner = sample + reads.pixel(k, g) * g.channels;
            for (std::int64_t c = lane; c < g.channels; c += lanes.count())
                dots[k] = std::fma(cotangent[c], corner[c], dots[k]);
        }
    }
    for (int k = 0; k < Reads<nd>::corners; ++k) dots[k] = lane_sum(dots[k], lanes);
    if (i >= pixels || lane > 0) return;
    float slopes[nd];
    fold<nd>(slopes, dots, reads);
    for (int a = 0; a < nd; ++a) dfield[i * nd + a] = slopes[a] * static_cast<float>(g.ratio[3 - nd + a]);
}

// The passes below see some whole samples. Contribution i * corners + k is what pixel i adds through corner k; pixels
// are counted through these samples, source pixels as well.

__global__ void clear(int* values, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) values[i] = 0;
}

// One thread per pixel: counts what each source pixel gets and keeps the weights of contributions.
template <int nd>
__global__ void count_contributions(int* counts, float* weights, const float* field, Geometry g, std::int64_t pixels) {
    const std::int64_t i = global_thread();
    if (i >= pixels) return;
    const std::int64_t n = i / g.pixels();
    const Reads<nd> reads = reads_of<nd>(i - n * g.pixels(), field + i * nd, g);
    for (int k = 0; k < Reads<nd>::corners; ++k) {
        if (!reads.inside(k)) continue;
        weights[i * Reads<nd>::corners + k] = reads.weight(k);
        atomic_add(counts + n * g.pixels() + reads.pixel(k, g), 1);
    }
}

// cursors: where the list of each source pixel begins; afterwards where it ends, which is where the next one begins.
template <int nd>
__global__ void file_contributions(int* ids, int* cursors, const float* field, Geometry g, std::int64_t pixels) {
    const std::int64_t i = global_thread();
    if (i >= pixels) return;
    const std::int64_t n = i / g.pixels();
    const Reads<nd> reads = reads_of<nd>(i - n * g.pixels(), field + i * nd, g);
    for (int k = 0; k < Reads<nd>::corners; ++k) {
        if (!reads.inside(k)) continue;
        const int slot = atomic_add(cursors + n * g.pixels() + reads.pixel(k, g), 1);
        ids[slot] = static_cast<int>(i * Reads<nd>::corners + k);
    }
}

__device__ void insertion_sort(int* ids, int count) {
    for (int end = 1; end < count; ++end) {
        const int id = ids[end];
        int at = end;
        for (; at > 0 && ids[at - 1] > id; --at) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

// Restores the heap (parents are not smaller than their children) below `at`.
__device__ void sift_down(int* ids, int at, int count) {
    const int id = ids[at];
    while (at < count / 2) {
        int child = 2 * at + 1;
        if (child + 1 < count && ids[child + 1] > ids[child]) ++child;
        if (ids[child] <= id) break;
        ids[at] = ids[child];
        at = child;
    }
    ids[at] = id;
}

__device__ void heap_sort(int* ids, int count) {
    for (int at = count / 2 - 1; at >= 0; --at) sift_down(ids, at, count);
    for (int end = count - 1; end > 0; --end) {
        const int largest = ids[0];
        ids[0] = ids[end];
        ids[end] = largest;
        sift_down(ids, 0, end);
    }
}

// One thread per source pixel. Lists are as long as the number of corners where the field is smooth; where a field
// shrinks everything into one pixel they are as long as the image.
__global__ void sort_contributions(int* ids, const int* ends, std::int64_t pixels) {
    const std::int64_t i = global_thread();
    if (i >= pixels) return;
    const int begin = i > 0 ? ends[i - 1] : 0, count = ends[i] - begin;
    if (count <= 32)
        insertion_sort(ids + begin, count);
    else
        heap_sort(ids + begin, count);
}

// Some lanes per source pixel. In double, since a list may be long.
__global__ void sum_contributions(float* dsource, const float* dy, const int* ids, const int* ends,
                                  const float* weights, int corner_bits, std::int64_t channels, std::int64_t pixels,
                                  Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    if (i >= pixels) return;
    const int begin = i > 0 ? ends[i - 1] : 0, end = ends[i];
    for (std::int64_t c = lanes.lane_of(threadIdx.x); c < channels; c += lanes.count()) {
        double sum = 0;
        for (int at = begin; at < end; ++at) {
            const std::int64_t id = ids[at];
            sum = std::fma(static_cast<double>(weights[id]),
                           static_cast<double>(dy[(id >> corner_bits) * channels + c]), sum);
        }
        dsource[i * channels + c] = static_cast<float>(sum);
    }
}

// As many samples at a time as keep the lists below 128 MiB, but at least one.
constexpr std::int64_t contributions_at_once = std::int64_t{1} << 24;

template <int nd>
void run_source_gradient(float* dsource, const float* dy, const float* field, const WarpParams& p, Stream& stream) {
    constexpr int corners = Reads<nd>::corners;
    const Geometry g = geometry_of(p);
    require(g.pixels() <= std::numeric_limits<int>::max() / corners, ErrorKind::device, "[warp_backward] ", g.pixels(),
            " pixels in one sample have more contributions than a 32-bit number counts; use a smaller patch");
    const std::int64_t at_once =
        std::min(p.n, std::max<std::int64_t>(1, contributions_at_once / (g.pixels() * corners)));
    const std::int64_t most = at_once * g.pixels();
    Workspace<int> ends(most, stream), ids(most * corners, stream);
    Workspace<float> weights(most * corners, stream);
    const Lanes lanes = lanes_for(p.channels);
    for (std::int64_t n = 0; n < p.n; n += at_once) {
        const std::int64_t first = n * g.pixels(), pixels = std::min(at_once, p.n - n) * g.pixels();
        const unsigned blocks = blocks_for(pixels);
        launch(stream, "warp_backward, clear", blocks, threads_per_block, 0, clear, ends.data(), pixels);
        launch(stream, "warp_backward, count", blocks, threads_per_block, 0, count_contributions<nd>, ends.data(),
               weights.data(), field + first * nd, g, pixels);
        exclusive_scan(ends.data(), pixels, stream);
        launch(stream, "warp_backward, file", blocks, threads_per_block, 0, file_contributions<nd>, ids.data(),
               ends.data(), field + first * nd, g, pixels);
        launch(stream, "warp_backward, sort", blocks, threads_per_block, 0, sort_contributions, ids.data(), ends.data(),
               pixels);
        launch(stream, "warp_backward, sum", blocks_for(lanes.threads(pixels)), threads_per_block, 0, sum_contributions,
               dsource + first * p.channels, dy + first * p.channels, ids.data(), ends.data(), weights.data(), nd,
               p.channels, pixels, lanes);
    }
}

template <int nd>
void run_field_gradient(float* dfield, const float* dy, const float* source, const float* field, const WarpParams& p,
                        Stream& stream) {
    const std::int64_t pixels = p.n * p.grid.pixels();
    const Lanes lanes = lanes_for(p.channels);
    launch(stream, "warp_backward, field", blocks_for(lanes.threads(pixels)), threads_per_block, 0, field_gradient<nd>,
           dfield, dy, source, field, geometry_of(p), pixels, lanes);
}

void run(View y, ConstView source, ConstView field, const WarpParams& p, Stream& stream) {
    const std::int64_t pixels = p.n * p.grid.pixels();
    const Lanes lanes = lanes_for(p.channels);
    launch(stream, "warp", blocks_for(lanes.threads(pixels)), threads_per_block, 0,
           p.grid.spatial_dims == 2 ? forward<2> : forward<3>, y.as<float>(), source.as<float>(), field.as<float>(),
           geometry_of(p), pixels, lanes);
}

template <int nd>
void run_backward_in(View dsource, View dfield, ConstView dy, ConstView source, ConstView field, const WarpParams& p,
                     Stream& stream) {
    if (dsource) run_source_gradient<nd>(dsource.as<float>(), dy.as<float>(), field.as<float>(), p, stream);
    if (dfield)
        run_field_gradient<nd>(dfield.as<float>(), dy.as<float>(), source.as<float>(), field.as<float>(), p, stream);
}

void run_backward(View dsource, View dfield, ConstView dy, ConstView source, ConstView field, const WarpParams& p,
                  Stream& stream) {
    if (p.grid.spatial_dims == 2)
        run_backward_in<2>(dsource, dfield, dy, source, field, p, stream);
    else
        run_backward_in<3>(dsource, dfield, dy, source, field, p, stream);
}

}  // namespace warp

std::span<const WarpVariant> warp_rows() {
    static constexpr WarpVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<WarpParams>, warp::run}};
    return rows;
}
std::span<const WarpBackwardVariant> warp_backward_rows() {
    static constexpr WarpBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<WarpParams>, warp::run_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
