// Up-sampling as a separable linear map, as in the reference: a table per axis says which pixels a pixel of the result
// reads and with what weight, forward (inputs of an output) and backward (outputs that read an input). One kernel
// applies either.
#include <cmath>

#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace resize {

// An input is read by less than 2 (2 L - 1) / (L - 1) consecutive outputs of an axis of L pixels, and never by more
// than there are: five, or fewer.
constexpr int most_reads = 5;

struct AxisReads {
    std::int64_t first;
    int count;
    float weights[most_reads];
};

struct Position {
    std::int64_t left;
    float fraction;
};

// Where output j reads an axis of `side` inputs: a quotient of whole numbers, so that no rounding moves `left`.
__device__ Position position_of(std::int64_t j, std::int64_t side, bool align_corners) {
    const std::int64_t quarters = j > 0 ? 2 * j - 1 : 0;
    const std::int64_t numerator = align_corners ? j * (side - 1) : quarters;
    const std::int64_t denominator = align_corners ? 2 * side - 1 : 4;
    const std::int64_t left = numerator / denominator;
    return {left, static_cast<float>(numerator - left * denominator) / static_cast<float>(denominator)};
}

__device__ AxisReads reads_forward(std::int64_t j, std::int64_t side, bool align_corners) {
    const Position at = position_of(j, side, align_corners);
    if (at.left + 1 >= side) return {at.left, 1, {1.0f}};
    return {at.left, 2, {1.0f - at.fraction, at.fraction}};
}

__device__ AxisReads reads_backward(std::int64_t i, std::int64_t side, bool align_corners) {
    AxisReads reads{0, 0, {}};
    // The outputs that lie closer than one input pixel to i are among these in both alignments.
    const std::int64_t begin = i > 1 ? 2 * i - 3 : 0, end = i + 2 < side ? 2 * i + 5 : 2 * side;
    for (std::int64_t j = begin; j < end; ++j) {
        const Position at = position_of(j, side, align_corners);
        const std::int64_t right = at.left + 1 < side ? at.left + 1 : side - 1;
        const float weight = (at.left == i ? 1.0f - at.fraction : 0.0f) + (right == i ? at.fraction : 0.0f);
        if (!(weight > 0)) continue;
        if (reads.count == 0) reads.first = j;
        reads.weights[reads.count++] = weight;
    }
    return reads;
}

// The axes of x (`from`) and of what is read (`to`) for one call.
struct Map {
    Grid to, from;
    std::int64_t n, channels;
    bool align_corners, backward;
    float gain;

    constexpr std::int64_t table_size() const { return to.d + to.h + to.w; }
    constexpr std::int64_t count() const { return n * to.pixels() * channels; }
};

// Tables of D, H and W, one behind the other; one thread per entry.
__global__ void make_tables(AxisReads* tables, Map map) {
    const std::int64_t entry = global_thread();
    if (entry >= map.table_size()) return;
    if (entry < map.to.d && map.to.spatial_dims == 2) {
        tables[entry] = {0, 1, {1.0f}};
        return;
    }
    const int axis = entry < map.to.d ? 0 : entry < map.to.d + map.to.h ? 1 : 2;
    const std::int64_t begin = axis == 0 ? 0 : axis == 1 ? map.to.d : map.to.d + map.to.h;
    const Grid& small = map.backward ? map.to : map.from;
    const std::int64_t side = axis == 0 ? small.d : axis == 1 ? small.h : small.w;
    tables[entry] = map.backward ? reads_backward(entry - begin, side, map.align_corners)
                                 : reads_forward(entry - begin, side, map.align_corners);
}

// One thread per element of the result.
__global__ void apply(float* result, const float* x, const AxisReads* tables, Map map) {
    const std::int64_t i = global_thread();
    if (i >= map.count()) return;
    const std::int64_t pixel = i / map.channels, c = i - pixel * map.channels;
    const std::int64_t row = pixel / map.to.w, w = pixel - row * map.to.w;
    const std::int64_t plane = row / map.to.h, h = row - plane * map.to.h;
    const std::int64_t n = plane / map.to.d, d = plane - n * map.to.d;
    const AxisReads &in_d = tables[d], &in_h = tables[map.to.d + h], &in_w = tables[map.to.d + map.to.h + w];
    float sum = 0;
    for (int a = 0; a < in_d.count; ++a)
        for (int b = 0; b < in_h.count; ++b) {
            const std::int64_t from_row = (n * map.from.d + in_d.first + a) * map.from.h + in_h.first + b;
            const float* from = x + (from_row * map.from.w + in_w.first) * map.channels + c;
            const float weight = in_d.weights[a] * in_h.weights[b];
            for (int k = 0; k < in_w.count; ++k) sum = std::fma(weight * in_w.weights[k], from[k * map.channels], sum);
        }
    result[i] = map.gain * sum;
}

void run(const char* name, View result, ConstView x, const UpsampleParams& p, bool backward, Stream& stream) {
    const std::int64_t depth = p.grid.spatial_dims == 2 ? p.grid.d : 2 * p.grid.d;
    const Grid large{p.grid.spatial_dims, depth, 2 * p.grid.h, 2 * p.grid.w};
    const Map map{backward ? p.grid : large, backward ? large : p.grid, p.n, p.channels, p.align_corners, backward,
                  static_cast<float>(p.gain)};
    Workspace<AxisReads> tables(map.table_size(), stream);
    launch(stream, "upsample, tables", blocks_for(map.table_size()), threads_per_block, 0, make_tables, tables.data(),
           map);
    launch(stream, name, blocks_for(map.count()), threads_per_block, 0, apply, result.as<float>(), x.as<float>(),
           tables.data(), map);
}

void run_forward(View y, ConstView x, const UpsampleParams& p, Stream& stream) {
    run("upsample", y, x, p, false, stream);
}

void run_backward(View dx, ConstView dy, const UpsampleParams& p, Stream& stream) {
    run("upsample_backward", dx, dy, p, true, stream);
}

}  // namespace resize

std::span<const UpsampleVariant> upsample_rows() {
    static constexpr UpsampleVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<UpsampleParams>, resize::run_forward}};
    return rows;
}
std::span<const UpsampleBackwardVariant> upsample_backward_rows() {
    static constexpr UpsampleBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<UpsampleParams>, resize::run_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
