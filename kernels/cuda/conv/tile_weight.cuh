// The weight gradient with tiles: rung 3 of its ladder. A block owns 32 input x 32 output channels of one depth of the
// kernel and sums over one slice of image lines. Of each line it brings 32 pixels of dy and the three lines of x above,
// at and below them to shared memory; a thread owns 2 x 2 channels of all plane taps and slides along the line.
#pragma once

#include <type_traits>

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr int weight_channels = 32, weight_pixels = 32, weight_threads = 256;

// partial (slices, weight_count). blockIdx.x: slice; y: tiles of (c_in, c_out); z: depth of the kernel. X: const
// float*, or PendingImage (fused_tile.cuh), on which something is pending.
template <int side, class X>
__global__ void __launch_bounds__(weight_threads, std::is_pointer_v<X> ? 0 : 1)
    tile_backward_weight(float* partial, const float* dy, X x, ConvParams p, std::int64_t lines) {
    constexpr bool is_stored = std::is_pointer_v<X>;
    constexpr int halo = side / 2, columns = weight_pixels + 2 * halo;
    Shared shared;
    float* const staged_x = shared.take<float>(std::int64_t{side} * columns * weight_channels);
    float* const staged_dy = shared.take<float>(std::int64_t{weight_pixels} * weight_channels);
    if constexpr (!is_stored) x.begin(shared);

    const int thread = static_cast<int>(threadIdx.x), pair_o = thread % 16, pair_i = thread / 16;
    const std::int64_t tiles_o = (p.c_out + weight_channels - 1) / weight_channels;
    const std::int64_t i0 = blockIdx.y / tiles_o * weight_channels, o0 = blockIdx.y % tiles_o * weight_channels;
    const int kd = static_cast<int>(blockIdx.z), planes = p.kernel_depth();

    float sum[side * side][2][2] = {};
    const std::int64_t last = min_of(lines_of(p), (static_cast<std::int64_t>(blockIdx.x) + 1) * lines);
    for (std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * lines; line < last; ++line) {
        const std::int64_t h = line % p.grid.h, plane = line / p.grid.h, d = plane % p.grid.d + kd - planes / 2;
        if (d < 0 || d >= p.grid.d) continue;  // the same for the whole block
        const std::int64_t from_plane = plane + kd - planes / 2;
        float part[side * side][2][2] = {};  // line by line: a sum of short sums loses less than one long sum
        for (std::int64_t w0 = 0; w0 < p.grid.w; w0 += weight_pixels) {
            block_sync();  // the last pixels have been read
            if constexpr (is_stored)
                for (int e = thread; e < side * columns * weight_channels; e += weight_threads) {
                    const int c = e % weight_channels, place = e / weight_channels, q = place % columns,
                              r = place / columns;
                    const std::int64_t at_h = h + r - halo, at_w = w0 + q - halo;
                    const bool inside = at_h >= 0 && at_h < p.grid.h && at_w >= 0 && at_w < p.grid.w && i0 + c < p.c_in;
                    staged_x[e] =
                        inside ? x[((from_plane * p.grid.h + at_h) * p.grid.w + at_w) * p.c_in + i0 + c] : 0.0f;
                }
            else
                x.template stage_lines<side>(staged_x, p, {plane / p.grid.d, d, h, w0, i0});
            for (int e = thread; e < weight_pixels * weight_channels; e += weight_threads) {
                const int c = e % weight_channels;
                const std::int64_t w = w0 + e / weight_channels;
                const bool inside = w < p.grid.w && o0 + c < p.c_out;
                staged_dy[e] = inside ? dy[(line * p.grid.w + w) * p.c_out + o0 + c] : 0.0f;
            }
            block_sync();
            const int width = static_cast<int>(min_of(weight_pixels, p.grid.w - w0));
            for (int w = 0; w < width; ++w) {
                const float dy0 = staged_dy[w * weight_channels + 2 * pair_o],
                            dy1 = staged_dy[w * weight_channels + 2 * pair_o + 1];
                for (int tap = 0; tap < side * side; ++tap) {
                    const float* const at =
                        staged_x + ((tap / side) * columns + w + tap % side) * weight_channels + 2 * pair_i;
                    part[tap][0][0] += at[0] * dy0;
                    part[tap][0][1] += at[0] * dy1;
                    part[tap][1][0] += at[1] * dy0;
                    part[tap][1][1] += at[1] * dy1;
                }
            }
        }
        for (int tap = 0; tap < side * side; ++tap)
            for (int a = 0; a < 2; ++a)
                for (int b = 0; b < 2; ++b) sum[tap][a][b] += part[tap][a][b];
    }
    float* const slice = partial + static_cast<std::int64_t>(blockIdx.x) * p.weight_count();
    for (int tap = 0; tap < side * side; ++tap)
        for (int a = 0; a < 2; ++a)
            for (int b = 0; b < 2; ++b) {
                const std::int64_t i = i0 + 2 * pair_i + a, o = o0 + 2 * pair_o + b;
                if (i < p.c_in && o < p.c_out)
                    slice[((kd * side * side + tap) * p.c_in + i) * p.c_out + o] = sum[tap][a][b];
            }
}

// x_bytes: of shared memory, that X takes beside the pixels.
template <int side, class X>
void launch_tile_weight(const char* name, float* partial, ConstView dy, const X& x, std::size_t x_bytes,
                        const ConvParams& p, const Slices& slices, Stream& stream) {
    constexpr std::int64_t columns = weight_pixels + 2 * (side / 2);
    const std::int64_t tiles =
        (p.c_in + weight_channels - 1) / weight_channels * ((p.c_out + weight_channels - 1) / weight_channels);
    const std::size_t bytes = Shared::shared_bytes_of<float>(side * columns * weight_channels) +
                              Shared::shared_bytes_of<float>(std::int64_t{weight_pixels} * weight_channels) + x_bytes;
    launch(stream, name,
           dim3(blocks_for(slices.count, 1), static_cast<unsigned>(tiles), static_cast<unsigned>(p.kernel_depth())),
           weight_threads, bytes, tile_backward_weight<side, X>, partial, dy.as<float>(), x, p, slices.lines);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
