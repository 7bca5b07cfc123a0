// Rungs 2 and 3 of the convolution's ladder. A block computes a tile of 8 x 16 pixels of one plane and some output
// channels. What several of its threads read is brought to shared memory once, eight channels at a time: the pixels
// with their halo, and the weights of these channels. Rung 2 gives a thread one output; rung 3 a register tile of
// pixels x channels, so that each value read from shared memory serves many multiplications.
//
// The data gradient is the same kernel: dy takes the place of x, with the weights mirrored and transposed.
#pragma once

#include <type_traits>

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr int tile_height = 8, tile_width = 16, tile_pixels = tile_height * tile_width;
inline constexpr int tile_channels = 8;  // channels in shared memory at a time

// pixels, outputs: of one thread. output_threads: how many share a pixel.
template <int pixels_, int outputs_, int output_threads_>
struct TileShape {
    static constexpr int pixels = pixels_, outputs = outputs_, output_threads = output_threads_;
    static constexpr int pixel_threads = tile_pixels / pixels, threads = pixel_threads * output_threads;
    static constexpr int tile_outputs = outputs * output_threads;
    // A thread's pixels lie this far apart in a row, so that the lanes of a warp read neighbours.
    static constexpr int threads_per_row = tile_width / pixels;
};

// Shared memory: pixels (tile_channels, height + 2 halo, pitch), then weights (plane taps, tile_channels,
// tile_outputs).
template <int side>
struct TileMemory {
    static constexpr int halo = side / 2, rows = tile_height + 2 * halo, columns = tile_width + 2 * halo;
    // 20: rows of a warp's lanes then begin in different banks (8 rows of 4 lanes cover all 32).
    static constexpr int pitch = 20;
    static constexpr int plane_taps = side * side;
    static constexpr std::int64_t pixel_count = std::int64_t{tile_channels} * rows * pitch;
    template <class Shape>
    static constexpr std::int64_t weight_count() {
        return std::int64_t{plane_taps} * tile_channels * Shape::tile_outputs;
    }
};

// A block's first pixel and channel: of the outputs; of a weight gradient's, of the inputs.
struct TilePlace {
    std::int64_t n, d, h, w, channel;
};

// in (n, d, h, w, c_in) -> out (n, d, h, w, c_out), with the p of *this* direction: for a data gradient c_in is the
// convolution's c_out. weight: the convolution's own, (taps, c_in, c_out) of the forward direction. bias may be null.
// In: const float*, or PendingImage (fused_tile.cuh), on which something is pending.
template <class Shape, int side, bool transposed, class In>
__global__ void __launch_bounds__(Shape::threads, std::is_pointer_v<In> ? 0 : 3)
    tile_conv(float* out, In in, const float* weight, const float* bias, ConvParams p) {
    constexpr bool is_stored = std::is_pointer_v<In>;
    using Memory = TileMemory<side>;
    Shared shared;
    float* const staged = shared.take<float>(Memory::pixel_count);
    float* const taps = shared.take<float>(Memory::template weight_count<Shape>());
    if constexpr (!is_stored) in.begin(shared);

    const int thread = static_cast<int>(threadIdx.x);
    const int pixel_thread = thread % Shape::pixel_threads, output_thread = thread / Shape::pixel_threads;
    const int row = pixel_thread / Shape::threads_per_row, column = pixel_thread % Shape::threads_per_row;

    // The tile: blockIdx.x counts (n, d, row tile, column tile), blockIdx.y the tiles of output channels.
    const std::int64_t across = (p.grid.w + tile_width - 1) / tile_width,
                       down = (p.grid.h + tile_height - 1) / tile_height;
    std::int64_t rest = blockIdx.x;
    const std::int64_t w0 = rest % across * tile_width;
    rest /= across;
    const std::int64_t h0 = rest % down * tile_height;
    rest /= down;
    const std::int64_t d0 = rest % p.grid.d, n = rest / p.grid.d;
    const std::int64_t o0 = static_cast<std::int64_t>(blockIdx.y) * Shape::tile_outputs;

    float sum[Shape::pixels][Shape::outputs] = {};
    const int planes = p.kernel_depth();
    for (int kd = 0; kd < planes; ++kd) {
        const std::int64_t d = d0 + kd - planes / 2;
        if (d < 0 || d >= p.grid.d) continue;  // the same for the whole block
        for (std::int64_t c0 = 0; c0 < p.c_in; c0 += tile_channels) {
            block_sync();  // the last channels have been read
            if constexpr (is_stored) {
// Unrolled further, addresses crowd out the sums: registers spill.
#pragma unroll 2
                for (int e = thread; e < Memory::rows * Memory::columns * tile_channels; e += Shape::threads) {
                    const int c = e % tile_channels, place = e / tile_channels, r = place / Memory::columns,
                              q = place % Memory::columns;
                    const std::int64_t h = h0 + r - Memory::halo, w = w0 + q - Memory::halo;
                    const bool inside = h >= 0 && h < p.grid.h && w >= 0 && w < p.grid.w && c0 + c < p.c_in;
                    staged[(c * Memory::rows + r) * Memory::pitch + q] =
                        inside ? in[(((n * p.grid.d + d) * p.grid.h + h) * p.grid.w + w) * p.c_in + c0 + c] : 0.0f;
                }
            } else {
                in.template stage<Shape, side>(staged, p, {n, d0, h0, w0, o0}, d, c0);
            }
#pragma unroll 2
            for (int e = thread; e < Memory::plane_taps * tile_channels * Shape::tile_outputs; e += Shape::threads) {
                const int o = e % Shape::tile_outputs, c = e / Shape::tile_outputs % tile_channels,
                          tap = e / (Shape::tile_outputs * tile_channels);
                const bool inside = c0 + c < p.c_in && o0 + o < p.c_out;
                const std::int64_t forward = kd * Memory::plane_taps + tap, all = planes * Memory::plane_taps;
                const std::int64_t at = transposed ? ((all - 1 - forward) * p.c_out + o0 + o) * p.c_in + c0 + c
                                                   : (forward * p.c_in + c0 + c) * p.c_out + o0 + o;
                taps[e] = inside ? weight[at] : 0.0f;
            }
            block_sync();
            for (int kh = 0; kh < side; ++kh)
                for (int kw = 0; kw < side; ++kw)
                    for (int c = 0; c < tile_channels; ++c) {
                        const float* const from = staged + (c * Memory::rows + row + kh) * Memory::pitch + column + kw;
                        const float* const by = taps + ((kh * side + kw) * tile_channels + c) * Shape::tile_outputs +
                                                output_thread * Shape::outputs;
                        float x[Shape::pixels], weights[Shape::outputs];
                        for (int i = 0; i < Shape::pixels; ++i) x[i] = from[i * Shape::threads_per_row];
                        for (int o = 0; o < Shape::outputs; ++o) weights[o] = by[o];
                        for (int i = 0; i < Shape::pixels; ++i)
                            for (int o = 0; o < Shape::outputs; ++o) sum[i][o] += x[i] * weights[o];
                    }
        }
    }

    const std::int64_t h = h0 + row;
    for (int i = 0; i < Shape::pixels; ++i) {
        const std::int64_t w = w0 + column + i * Shape::threads_per_row;
        for (int o = 0; o < Shape::outputs; ++o) {
            const std::int64_t channel = o0 + output_thread * Shape::outputs + o;
            if (h < p.grid.h && w < p.grid.w && channel < p.c_out)
                out[(((n * p.grid.d + d0) * p.grid.h + h) * p.grid.w + w) * p.c_out + channel] =
                    sum[i][o] + (bias ? bias[channel] : 0.0f);
        }
    }
    if constexpr (!is_stored) in.template leave_moments<Shape>(sum, bias, p, {n, d0, h0, w0, o0});
}

using SharedTile = TileShape<1, 1, 2>;    // rung 2: 256 threads, 128 pixels x 2 channels
using RegisterTile = TileShape<4, 8, 4>;  // rung 3: 128 threads, 128 pixels x 32 channels

// in_bytes: of shared memory, that In takes beside the tile.
template <class Shape, int side, bool transposed, class In>
void launch_tile(const char* name, View out, const In& in, std::size_t in_bytes, ConstView weight, const float* bias,
                 const ConvParams& p, Stream& stream) {
    using Memory = TileMemory<side>;
    const std::int64_t tiles =
        p.n * p.grid.d * ((p.grid.h + tile_height - 1) / tile_height) * ((p.grid.w + tile_width - 1) / tile_width);
    const dim3 grid(blocks_for(tiles, 1), blocks_for(p.c_out, Shape::tile_outputs));
    const std::size_t bytes = Shared::shared_bytes_of<float>(Memory::pixel_count) +
                              Shared::shared_bytes_of<float>(Memory::template weight_count<Shape>()) + in_bytes;
    launch(stream, name, grid, Shape::threads, bytes, tile_conv<Shape, side, transposed, In>, out.as<float>(), in,
           weight.as<float>(), bias, p);
}

template <class Shape>
void run_tile_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    (p.kernel == 1 ? launch_tile<Shape, 1, false, const float*>
                   : launch_tile<Shape, 3, false, const float*>)("conv tile_conv", y, x.as<float>(), 0, weight,
                                                                 bias.as<float>(), p, stream);
}

template <class Shape>
void run_tile_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    ConvParams mirrored = p;
    mirrored.c_in = p.c_out;
    mirrored.c_out = p.c_in;
    (p.kernel == 1 ? launch_tile<Shape, 1, true, const float*>
                   : launch_tile<Shape, 3, true, const float*>)("conv tile_conv", dx, dy.as<float>(), 0, weight,
                                                                nullptr, mirrored, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
