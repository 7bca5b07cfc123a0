// The weight gradient of rung 5: a product of x, transposed, and dy over all pixels, one for each tap. Both lie
// channels last, so both are read by ldmatrix transposed. A warp owns 16 input x 16 output channels of all plane taps;
// sixteen pixels, two rows of eight, are the depth of a fragment. Any two rows of x are such a fragment: for each shift
// along the row each row of the halo is read once, and serves the three taps above, at and below.
//
// A block owns a tile of (c_in, c_out), one depth of the kernel and a slice of the pixel tiles. Slices are cut by shape
// alone; each leaves its sums in a workspace, and those are added in the order of the slices.
#pragma once

#include <algorithm>

#include "kernels/cuda/conv/halo.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

template <int side_, int warps_i_, int warps_o_>
struct WeightTile {
    static constexpr int side = side_, warps_i = warps_i_, warps_o = warps_o_, threads = 32 * warps_i * warps_o;
    static constexpr int inputs = 16 * warps_i, outputs = 16 * warps_o, plane_taps = side * side;
    static constexpr int height = 8, width = 16, halo = side / 2, rows = height + 2 * halo, columns = width + 2 * halo;
    // Odd numbers of 16-byte units: eight neighbouring pixels lie in different banks.
    static constexpr int x_pitch = inputs + 8, dy_pitch = outputs + 8;
    static constexpr int x_count = rows * columns * x_pitch, dy_count = height * width * dy_pitch, stages = 2;
};

// Slices of a weight gradient in `parts` blocks each: enough blocks for four on each processor of an H100, by shape
// alone. Returns the tiles of each slice but the last.
inline int tiles_per_slice(int tiles, std::int64_t parts) {
    const int slices = static_cast<int>(std::clamp<std::int64_t>(528 / parts, 1, tiles));
    return (tiles + slices - 1) / slices;
}

struct WeightPlan {
    HaloTiles tiles;
    int c_in, c_out, tiles_per_slice;

    // Of one slice: the weight gradient, then the bias gradient.
    __device__ std::int64_t weight_count(int plane_taps) const {
        return std::int64_t{tiles.kernel_depth} * plane_taps * c_in * c_out;
    }
    __device__ std::int64_t slice_count(int plane_taps) const { return weight_count(plane_taps) + c_out; }

    template <class Tile>
    static WeightPlan of(const ConvParams& p) {
        WeightPlan plan{};
        plan.tiles = HaloTiles::of(p, Tile::height, Tile::width);
        plan.c_in = static_cast<int>(p.c_in);
        plan.c_out = static_cast<int>(p.c_out);
        plan.tiles_per_slice = conv::tiles_per_slice(plan.tiles.tiles, tiles_of_channels<Tile>(p) * p.kernel_depth());
        return plan;
    }
    template <class Tile>
    static std::int64_t tiles_of_channels(const ConvParams& p) {
        return (p.c_in + Tile::inputs - 1) / Tile::inputs * ((p.c_out + Tile::outputs - 1) / Tile::outputs);
    }
};

// The first tile from `tile` on that has an image plane under the kernel's plane kd.
__device__ inline int seek_tile(const HaloTiles& t, int tile, int end, int kd) {
    const int shift = kd - t.kernel_depth / 2;
    if (shift == 0) return tile;
    while (tile < end) {
        const int d = tile / t.across / t.down % t.d + shift;
        if (d >= 0 && d < t.d) break;
        ++tile;
    }
    return tile;
}

// The sums over one tile of pixels. x, dy: at the lane's row of the warp's first matrices. with_bias: the same for the
// whole warp.
template <class Tile>
__device__ void multiply_pixels(float (&sum)[Tile::plane_taps][2][4], float (&bias_sum)[2][4], const bfloat16* x,
                                const bfloat16* dy, bool with_bias) {
    constexpr int side = Tile::side;
    constexpr unsigned two_ones = 0x3f803f80u;
    const unsigned ones[4] = {two_ones, two_ones, two_ones, two_ones};
#pragma unroll 1
    for (int strip = 0; strip < Tile::width / 8; ++strip) {
        // Two rows of the halo each, as registers (channels 0-7, channels 8-15) of the upper, then of the lower.
        unsigned above[side][4], below[side][4] = {};
#pragma unroll
        for (int kw = 0; kw < side; ++kw) load_matrix_x4_transposed(above[kw], x + (8 * strip + kw) * Tile::x_pitch);
#pragma unroll
        for (int pair = 0; pair < Tile::height / 2; ++pair) {
            unsigned rows[4];
            load_matrix_x4_transposed(rows, dy + (2 * pair * Tile::width + 8 * strip) * Tile::dy_pitch);
            const unsigned b[2][2] = {{rows[0], rows[1]}, {rows[2], rows[3]}};
            if (side == 3 || pair + 1 < Tile::height / 2)
#pragma unroll
                for (int kw = 0; kw < side; ++kw)
                    load_matrix_x4_transposed(below[kw],
                                              x + (2 * (pair + 1) * Tile::columns + 8 * strip + kw) * Tile::x_pitch);
#pragma unroll
            for (int kw = 0; kw < side; ++kw) {
#pragma unroll
                for (int j = 0; j < 2; ++j) multiply_add_bf16(sum[kw][j], above[kw], b[j]);
                if constexpr (side == 3) {
                    const unsigned between[4] = {above[kw][2], above[kw][3], below[kw][0], below[kw][1]};
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        multiply_add_bf16(sum[side + kw][j], between, b[j]);
                        multiply_add_bf16(sum[2 * side + kw][j], below[kw], b[j]);
                    }
                }
#pragma unroll
                for (int r = 0; r < 4; ++r) above[kw][r] = below[kw][r];
            }
            if (with_bias)
#pragma unroll
                for (int j = 0; j < 2; ++j) multiply_add_bf16(bias_sum[j], ones, b[j]);
        }
    }
}

// A warp's sums, of one kernel depth and of inputs and outputs from the given ones on, to its slice of the partial
// sums.
template <class Tile>
__device__ void store_gradient(float* slice, const float (&sum)[Tile::plane_taps][2][4], const float (&bias_sum)[2][4],
                               const WeightPlan& plan, int kd, int first_input, int first_output, bool with_bias) {
    const std::int64_t weights = plan.weight_count(Tile::plane_taps);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int i = first_input + lane / 4, o = first_output + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        if (o + 8 * j >= plan.c_out) continue;
#pragma unroll
        for (int tap = 0; tap < Tile::plane_taps; ++tap)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                if (i + 8 * half < plan.c_in)
                    *reinterpret_cast<float2*>(
                        slice + (std::int64_t{kd * Tile::plane_taps + tap} * plan.c_in + i + 8 * half) * plan.c_out +
                        o + 8 * j) = make_float2(sum[tap][j][2 * half], sum[tap][j][2 * half + 1]);
        if (with_bias && lane < 4)
            *reinterpret_cast<float2*>(slice + weights + o + 8 * j) = make_float2(bias_sum[j][0], bias_sum[j][1]);
    }
}

// partial (slices, weight_count + c_out). blockIdx.x: tiles of (c_in, c_out); y: slice; z: depth of the kernel.
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 4)
    matrix_backward_weight(float* partial, const bfloat16* dy, const bfloat16* x, WeightPlan plan) {
    Shared shared;
    bfloat16* const staged_x = shared.take<bfloat16>(Tile::stages * Tile::x_count);
    bfloat16* const staged_dy = shared.take<bfloat16>(Tile::stages * Tile::dy_count);

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_i = warp % Tile::warps_i, warp_o = warp / Tile::warps_i;
    const int tiles_o = (plan.c_out + Tile::outputs - 1) / Tile::outputs;
    const int tile_i = static_cast<int>(blockIdx.x) / tiles_o, tile_o = static_cast<int>(blockIdx.x) - tile_i * tiles_o;
    const int kd = static_cast<int>(blockIdx.z), shift = kd - plan.tiles.kernel_depth / 2;
    const bool with_bias = tile_i == 0 && warp_i == 0 && shift == 0;

    const auto stage = [&](int tile, int slot) {
        const HaloPlace at = halo_place(plan.tiles, tile, Tile::height, Tile::width);
        stage_pixels<Tile::rows, Tile::columns, Tile::inputs / 8, Tile::x_pitch, Tile::threads>(
            staged_x + slot * Tile::x_count, x, plan.tiles, plan.c_in, at.plane + shift, at.h - Tile::halo,
            at.w - Tile::halo, tile_i * Tile::inputs);
        stage_pixels<Tile::height, Tile::width, Tile::outputs / 8, Tile::dy_pitch, Tile::threads>(
            staged_dy + slot * Tile::dy_count, dy, plan.tiles, plan.c_out, at.plane, at.h, at.w,
            tile_o * Tile::outputs);
        copy_commit();
    };

    // Lane l gives pixel l % 8 of matrix l / 8: of x (channels 0-7, 8-15) x (upper, lower row), of dy the other way
    // round, as fragments a and b want them.
    const int lane_in_x = (lane / 16 * Tile::columns + lane % 8) * Tile::x_pitch + 16 * warp_i + lane / 8 % 2 * 8;
    const int lane_in_dy = (lane / 8 % 2 * Tile::width + lane % 8) * Tile::dy_pitch + 16 * warp_o + lane / 16 * 8;

    float sum[Tile::plane_taps][2][4] = {}, bias_sum[2][4] = {};
    const int first = static_cast<int>(blockIdx.y) * plan.tiles_per_slice;
    const int end = first + plan.tiles_per_slice < plan.tiles.tiles ? first + plan.tiles_per_slice : plan.tiles.tiles;
    int tile = seek_tile(plan.tiles, first, end, kd), slot = 0;
    if (tile < end) stage(tile, slot);
    while (tile < end) {
        copy_wait<0>();
        block_sync();  // this tile is there, the last one is no longer read
        tile = seek_tile(plan.tiles, tile + 1, end, kd);
        if (tile < end) stage(tile, 1 - slot);
        multiply_pixels<Tile>(sum, bias_sum, staged_x + slot * Tile::x_count + lane_in_x,
                              staged_dy + slot * Tile::dy_count + lane_in_dy, with_bias);
        slot = 1 - slot;
    }

    store_gradient<Tile>(partial + static_cast<std::int64_t>(blockIdx.y) * plan.slice_count(Tile::plane_taps), sum,
                         bias_sum, plan, kd, tile_i * Tile::inputs + 16 * warp_i, tile_o * Tile::outputs + 16 * warp_o,
                         with_bias);
}

// dweight and dbias grow by the slices of partial (slices, weights + c_out), added in their order: 32 elements of a
// block are summed by eight threads each, over runs of slices, and the eight sums added in theirs.
inline constexpr int slice_runs = 8;
static __global__ void __launch_bounds__(32 * slice_runs)
    add_gradient_slices(float* dweight, float* dbias, const float* partial, std::int64_t weights, std::int64_t c_out,
                        int slices) {
    Shared shared;
    float* const sums = shared.take<float>(32 * slice_runs);
    const int thread = static_cast<int>(threadIdx.x), run = thread / 32;
    const std::int64_t index = std::int64_t{blockIdx.x} * 32 + thread % 32, count = weights + c_out;
    const int per_run = (slices + slice_runs - 1) / slice_runs;
    float sum = 0;
    if (index < count) {
        const int end = (run + 1) * per_run < slices ? (run + 1) * per_run : slices;
#pragma unroll 4
        for (int slice = run * per_run; slice < end; ++slice) sum += partial[slice * count + index];
    }
    sums[thread] = sum;
    block_sync();
    if (run > 0 || index >= count) return;
    for (int other = 1; other < slice_runs; ++other) sum += sums[32 * other + thread];
    float* const out = index < weights ? dweight + index : dbias + (index - weights);
    *out += sum;
}

// fill(partial, plan, slices) leaves (slices, weights + c_out) sums in partial.
template <class Fill>
void accumulate_gradients(View dweight, View dbias, const WeightPlan& plan, std::int64_t weights, Stream& stream,
                          const Fill& fill) {
    const int slices = (plan.tiles.tiles + plan.tiles_per_slice - 1) / plan.tiles_per_slice;
    const std::int64_t count = weights + plan.c_out;
    Workspace<float> partial(slices * count, stream);
    fill(partial.data(), static_cast<unsigned>(slices));
    launch(stream, "conv add_gradient_slices", blocks_for(count, 32), 32 * slice_runs,
           Shared::shared_bytes_of<float>(32 * slice_runs), add_gradient_slices, dweight.as<float>(), dbias.as<float>(),
           partial.data(), weights, std::int64_t{plan.c_out}, slices);
}

// kernel: of matrix_backward_weight's parameters, with activations of type T; x as it takes them.
template <class Tile, class T, class X>
void launch_gradient(const char* name, void (*kernel)(float*, const T*, X, WeightPlan), std::size_t shared_bytes,
                     View dweight, View dbias, ConstView dy, const X& x, const ConvParams& p, Stream& stream) {
    const WeightPlan plan = WeightPlan::of<Tile>(p);
    const std::int64_t parts = WeightPlan::tiles_of_channels<Tile>(p);
    accumulate_gradients(dweight, dbias, plan, p.weight_count(), stream, [&](float* partial, unsigned slices) {
        launch(stream, name, dim3(static_cast<unsigned>(parts), slices, static_cast<unsigned>(p.kernel_depth())),
               Tile::threads, shared_bytes, kernel, partial, dy.as<T>(), x, plan);
    });
}

template <class Tile>
constexpr std::size_t matrix_weight_bytes() {
    return Shared::shared_bytes_of<bfloat16>(Tile::stages * Tile::x_count) +
           Shared::shared_bytes_of<bfloat16>(Tile::stages * Tile::dy_count);
}

template <class Tile>
void launch_matrix_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    launch_gradient<Tile, bfloat16>("conv matrix_backward_weight", matrix_backward_weight<Tile>,
                                    matrix_weight_bytes<Tile>(), dweight, dbias, dy, x.as<bfloat16>(), p, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
