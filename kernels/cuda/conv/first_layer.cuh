// One input channel, the first convolution of the network: a product of matrices would be nine deep, and what limits it
// is one write (forward) or one read (weight gradient) of y. So float32 multiply-adds: a thread owns eight neighbouring
// output channels, 16 bytes of y or twice as many in float32, of pixels below each other.
#pragma once

#include "kernels/cuda/conv/ldmatrix.cuh"
#include "kernels/cuda/conv/ldmatrix_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// A warp covers eight pixels of a row and 32 output channels, so a row of y is written in pieces of 512 bytes or
// more.
inline constexpr int first_warps = 4, first_threads = 32 * first_warps, first_outputs = 32;
// Forward: a thread's pixels. A block's tile is first_rows rows of 8 x first_warps pixels.
inline constexpr int first_rows = 4, first_width = 8 * first_warps;

// The pixels of x that a tile of `height` rows needs, as float32, zeros outside of the image.
template <int height, int width, int halo, class T>
__device__ void stage_single_channel(float* to, const T* x, const HaloTiles& t, int plane, int h, int w) {
    constexpr int columns = width + 2 * halo;
    for (int e = static_cast<int>(threadIdx.x); e < (height + 2 * halo) * columns; e += first_threads) {
        const int at_h = h - halo + e / columns, at_w = w - halo + e % columns;
        const bool inside = static_cast<unsigned>(at_h) < static_cast<unsigned>(t.h) &&
                            static_cast<unsigned>(at_w) < static_cast<unsigned>(t.w);
        to[e] = inside ? static_cast<float>(x[(std::int64_t{plane} * t.h + at_h) * t.w + at_w]) : 0.0f;
    }
}

// blockIdx.x: pixel tile; y: 32 output channels. weight (taps, c_out) is rounded to T here.
template <class T, int side>
__global__ void __launch_bounds__(first_threads)
    first_forward(T* y, const T* x, const float* weight, const float* bias, HaloTiles t, int c_out) {
    constexpr int halo = side / 2, columns = first_width + 2 * halo, rows = first_rows + 2 * halo,
                  plane_taps = side * side;
    Shared shared;
    float* const pixels = shared.take<float>(rows * columns);
    float* const weights = shared.take<float>(plane_taps * first_outputs);

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int group = lane % 4, column = 8 * warp + lane / 4;
    const int o0 = static_cast<int>(blockIdx.y) * first_outputs, o = o0 + 8 * group;
    const HaloPlace at = halo_place(t, static_cast<int>(blockIdx.x), first_rows, first_width);

    float sum[first_rows][8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
        const float start = o < c_out ? bias[o + e] : 0.0f;
#pragma unroll
        for (int r = 0; r < first_rows; ++r) sum[r][e] = start;
    }
    for (int i = 0; i < at.planes; ++i) {
        const int kd = at.first_plane + i;
        block_sync();  // the last plane is no longer read
        stage_single_channel<first_rows, first_width, halo>(pixels, x, t, at.plane + kd - t.kernel_depth / 2, at.h,
                                                            at.w);
        for (int e = static_cast<int>(threadIdx.x); e < plane_taps * first_outputs; e += first_threads) {
            const int tap = kd * plane_taps + e / first_outputs, channel = o0 + e % first_outputs;
            weights[e] = channel < c_out ? static_cast<float>(static_cast<T>(weight[tap * c_out + channel])) : 0.0f;
        }
        block_sync();
#pragma unroll 1
        for (int kw = 0; kw < side; ++kw) {
            float below[rows];
#pragma unroll
            for (int r = 0; r < rows; ++r) below[r] = pixels[r * columns + column + kw];
#pragma unroll
            for (int kh = 0; kh < side; ++kh) {
                const float4* const by =
                    reinterpret_cast<const float4*>(weights + (kh * side + kw) * first_outputs + 8 * group);
                const float4 low = by[0], high = by[1];
                const float w[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (int r = 0; r < first_rows; ++r)
#pragma unroll
                    for (int e = 0; e < 8; ++e) sum[r][e] += below[r + kh] * w[e];
            }
        }
    }
    const int w = at.w + column;
    if (o >= c_out || w >= t.w) return;
#pragma unroll
    for (int r = 0; r < first_rows; ++r)
        if (at.h + r < t.h)
            *reinterpret_cast<Eight<T>*>(y + ((std::int64_t{at.plane} * t.h + at.h + r) * t.w + w) * c_out + o) =
                eight_of(pair_of<T>(sum[r][0], sum[r][1]), pair_of<T>(sum[r][2], sum[r][3]),
                         pair_of<T>(sum[r][4], sum[r][5]), pair_of<T>(sum[r][6], sum[r][7]));
}

inline bool fits_first_layer(const ConvParams& p, const DeviceFacts& facts) {
    return p.c_in == 1 && p.c_out % 8 == 0 && facts.compute_capability >= 80;
}

template <class T, int side>
void launch_first_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    constexpr int halo = side / 2;
    const HaloTiles tiles = HaloTiles::of(p, first_rows, first_width);
    const std::size_t bytes = Shared::shared_bytes_of<float>((first_rows + 2 * halo) * (first_width + 2 * halo)) +
                              Shared::shared_bytes_of<float>(side * side * first_outputs);
    launch(stream, "conv first_forward", dim3(static_cast<unsigned>(tiles.tiles), blocks_for(p.c_out, first_outputs)),
           first_threads, bytes, first_forward<T, side>, y.as<T>(), x.as<T>(), weight.as<float>(), bias.as<float>(),
           tiles, static_cast<int>(p.c_out));
}

// The weight gradient: a block's tile is first_weight_rows rows of 8 x first_warps pixels, down which a thread goes; at
// the end of its slice the block adds up its threads. A thread has 128 bytes of dy under way.
template <class T>
inline constexpr int first_weight_rows = 16 / sizeof(T);

// Eight channels of dy, read as float32.
template <class T>
struct Words {
    float values[8];
    __device__ float channel(int e) const { return values[e]; }
};
template <>
struct Words<bfloat16> {
    unsigned words[4];
    __device__ float channel(int e) const {
        return std::bit_cast<float>(e % 2 ? words[e / 2] & 0xffff0000u : words[e / 2] << 16);
    }
};

// partial (slices, weights + c_out). blockIdx.x: 32 output channels; y: slice; z: depth of the kernel.
template <class T, int side>
__global__ void __launch_bounds__(first_threads)
    first_backward_weight(float* partial, const T* dy, const T* x, WeightPlan plan) {
    constexpr int height = first_weight_rows<T>, halo = side / 2, columns = first_width + 2 * halo,
                  plane_taps = side * side;
    Shared shared;
    float* const pixels = shared.take<float>((height + 2 * halo) * columns);
    float* const sums = shared.take<float>((plane_taps + 1) * first_outputs * first_warps);

    const HaloTiles& t = plan.tiles;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int group = lane % 4, column = 8 * warp + lane / 4;
    const int o0 = static_cast<int>(blockIdx.x) * first_outputs, o = o0 + 8 * group;
    const int kd = static_cast<int>(blockIdx.z), shift = kd - t.kernel_depth / 2;

    float sum[plane_taps + 1][8] = {};  // the last: of dy itself
    const int first = static_cast<int>(blockIdx.y) * plan.tiles_per_slice;
    const int end = first + plan.tiles_per_slice < t.tiles ? first + plan.tiles_per_slice : t.tiles;
    for (int tile = seek_tile(t, first, end, kd); tile < end; tile = seek_tile(t, tile + 1, end, kd)) {
        const HaloPlace at = halo_place(t, tile, height, first_width);
        const int w = at.w + column;
        Eight<T> pieces[height];
#pragma unroll
        for (int r = 0; r < height; ++r)
            pieces[r] = o < plan.c_out && w < t.w && at.h + r < t.h
                            ? *reinterpret_cast<const Eight<T>*>(
                                  dy + ((std::int64_t{at.plane} * t.h + at.h + r) * t.w + w) * plan.c_out + o)
                            : Eight<T>{};
        block_sync();  // the last tile is no longer read
        stage_single_channel<height, first_width, halo>(pixels, x, t, at.plane + shift, at.h, at.w);
        block_sync();
#pragma unroll
        for (int r = 0; r < height; ++r) {
            const Words<T> words = std::bit_cast<Words<T>>(pieces[r]);
            float gradient[8];
#pragma unroll
            for (int e = 0; e < 8; ++e) gradient[e] = words.channel(e);
#pragma unroll
            for (int tap = 0; tap < plane_taps; ++tap) {
                const float pixel = pixels[(r + tap / side) * columns + column + tap % side];
#pragma unroll
                for (int e = 0; e < 8; ++e) sum[tap][e] += pixel * gradient[e];
            }
#pragma unroll
            for (int e = 0; e < 8; ++e) sum[plane_taps][e] += gradient[e];
        }
    }
    // Over the warp's eight pixels, then over the warps.
#pragma unroll
    for (int tap = 0; tap <= plane_taps; ++tap)
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            float value = sum[tap][e];
            for (const int lanes : {4, 8, 16}) value += shuffle_xor(value, lanes);
            if (lane < 4) sums[(warp * (plane_taps + 1) + tap) * first_outputs + 8 * group + e] = value;
        }
    block_sync();
    const std::int64_t weights = plan.weight_count(plane_taps);
    float* const slice = partial + static_cast<std::int64_t>(blockIdx.y) * (weights + plan.c_out);
    for (int e = static_cast<int>(threadIdx.x); e < (plane_taps + 1) * first_outputs; e += first_threads) {
        const int tap = e / first_outputs, channel = o0 + e % first_outputs;
        if (channel >= plan.c_out || (tap == plane_taps && shift != 0)) continue;
        float value = 0;
        for (int other = 0; other < first_warps; ++other) value += sums[other * (plane_taps + 1) * first_outputs + e];
        slice[tap == plane_taps ? weights + channel : std::int64_t{kd * plane_taps + tap} * plan.c_out + channel] =
            value;
    }
}

template <class T, int side>
void launch_first_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    constexpr int halo = side / 2;
    WeightPlan plan{};
    plan.tiles = HaloTiles::of(p, first_weight_rows<T>, first_width);
    plan.c_in = 1;
    plan.c_out = static_cast<int>(p.c_out);
    const unsigned parts = blocks_for(p.c_out, first_outputs), depth = static_cast<unsigned>(p.kernel_depth());
    plan.tiles_per_slice = tiles_per_slice(plan.tiles.tiles, std::int64_t{parts} * depth);
    const std::size_t bytes =
        Shared::shared_bytes_of<float>((first_weight_rows<T> + 2 * halo) * (first_width + 2 * halo)) +
        Shared::shared_bytes_of<float>((side * side + 1) * first_outputs * first_warps);
    accumulate_gradients(dweight, dbias, plan, p.weight_count(), stream, [&](float* partial, unsigned slices) {
        launch(stream, "conv first_backward_weight", dim3(parts, slices, depth), first_threads, bytes,
               first_backward_weight<T, side>, partial, dy.as<T>(), x.as<T>(), plan);
    });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
