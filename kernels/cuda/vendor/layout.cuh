// What a vendor's convolution needs around it: weights in its layout and type, gradients brought back, the bias.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD::vendor {

inline constexpr int tile = 32, tile_threads = 256;

// Transposes one tap's tile of (c_in, c_out) through shared memory, so that both sides are read and written along
// lines. `packed` is (c_out, taps, c_in), `ours` (taps, c_in, c_out); blockIdx.x counts tiles, blockIdx.y taps.
struct WeightTile {
    std::int64_t c_in, c_out, taps, tap, i0, o0;

    __device__ static WeightTile of_block(std::int64_t c_in, std::int64_t c_out) {
        const std::int64_t across = (c_out + tile - 1) / tile;
        return {c_in, c_out, gridDim.y, blockIdx.y, blockIdx.x / across * tile, blockIdx.x % across * tile};
    }
    __device__ bool inside(std::int64_t i, std::int64_t o) const { return i < c_in && o < c_out; }
    __device__ std::int64_t ours(std::int64_t i, std::int64_t o) const { return (tap * c_in + i) * c_out + o; }
    __device__ std::int64_t packed(std::int64_t i, std::int64_t o) const { return (o * taps + tap) * c_in + i; }
};

// packed = ours, rounded to T.
template <class T>
__global__ void pack_weight(T* packed, const float* ours, std::int64_t c_in, std::int64_t c_out) {
    Shared shared;
    float* const values = shared.take<float>(tile * (tile + 1));
    const WeightTile at = WeightTile::of_block(c_in, c_out);
    const int column = static_cast<int>(threadIdx.x) % tile;
    for (int row = static_cast<int>(threadIdx.x) / tile; row < tile; row += tile_threads / tile)
        if (at.inside(at.i0 + row, at.o0 + column))
            values[row * (tile + 1) + column] = ours[at.ours(at.i0 + row, at.o0 + column)];
    block_sync();
    for (int row = static_cast<int>(threadIdx.x) / tile; row < tile; row += tile_threads / tile)
        if (at.inside(at.i0 + column, at.o0 + row))
            packed[at.packed(at.i0 + column, at.o0 + row)] = static_cast<T>(values[column * (tile + 1) + row]);
}

// ours += packed.
template <class T>
__global__ void add_packed_weight(float* ours, const T* packed, std::int64_t c_in, std::int64_t c_out) {
    Shared shared;
    float* const values = shared.take<float>(tile * (tile + 1));
    const WeightTile at = WeightTile::of_block(c_in, c_out);
    const int column = static_cast<int>(threadIdx.x) % tile;
    for (int row = static_cast<int>(threadIdx.x) / tile; row < tile; row += tile_threads / tile)
        if (at.inside(at.i0 + column, at.o0 + row))
            values[column * (tile + 1) + row] = static_cast<float>(packed[at.packed(at.i0 + column, at.o0 + row)]);
    block_sync();
    for (int row = static_cast<int>(threadIdx.x) / tile; row < tile; row += tile_threads / tile)
        if (at.inside(at.i0 + row, at.o0 + column))
            ours[at.ours(at.i0 + row, at.o0 + column)] += values[row * (tile + 1) + column];
}

inline constexpr std::size_t weight_tile_bytes = Shared::shared_bytes_of<float>(tile * (tile + 1));

inline dim3 weight_grid(std::int64_t c_in, std::int64_t c_out, int taps) {
    return dim3(blocks_for(((c_in + tile - 1) / tile) * ((c_out + tile - 1) / tile), 1), static_cast<unsigned>(taps));
}

// The same order, another type.
template <class T>
__global__ void round_weight(T* rounded, const float* ours, std::int64_t count) {
    const std::int64_t index = global_thread();
    if (index < count) rounded[index] = static_cast<T>(ours[index]);
}

// y (pixels, c) += bias (c). One thread per `width` neighbouring channels, read and written as one piece.
template <class T, int width>
__global__ void add_bias(T* y, const float* bias, std::int64_t pieces, int c) {
    const std::int64_t index = global_thread();
    if (index >= pieces) return;
    struct alignas(width * sizeof(T)) Piece {
        T values[width];
    };
    Piece* const at = reinterpret_cast<Piece*>(y) + index;
    const float* const from = bias + index % (c / width) * width;
    Piece piece = *at;
    for (int i = 0; i < width; ++i) piece.values[i] = static_cast<T>(static_cast<float>(piece.values[i]) + from[i]);
    *at = piece;
}

// How the pixels of a bias's gradient are cut, by their number alone.
struct BiasSlices {
    std::int64_t count, pixels;  // pixels of each slice but the last

    static BiasSlices of(std::int64_t pixels) {
        constexpr std::int64_t most = 256, least_pixels = 512;
        const std::int64_t each = pixels > most * least_pixels ? (pixels + most - 1) / most : least_pixels;
        return {(pixels + each - 1) / each, each};
    }
};

// partial (slices, c) = the sums of dy (pixels, c) over each slice of pixels. A block takes 32 channels, its eight
// warps every eighth pixel; their sums are added in their order.
template <class T>
__global__ void bias_slices(float* partial, const T* dy, std::int64_t pixels, std::int64_t each, std::int64_t c) {
    Shared shared;
    float* const sums = shared.take<float>(tile_threads);
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const std::int64_t slice = blockIdx.x, channel = static_cast<std::int64_t>(blockIdx.y) * 32 + lane;
    const std::int64_t end = (slice + 1) * each < pixels ? (slice + 1) * each : pixels;
    float sum = 0, part = 0;
    int terms = 0;
    if (channel < c)
        for (std::int64_t pixel = slice * each + warp; pixel < end; pixel += tile_threads / 32) {
            part += static_cast<float>(dy[pixel * c + channel]);
            if (++terms == 64) {  // a sum of short sums loses less than one long sum
                sum += part;
                part = 0;
                terms = 0;
            }
        }
    sums[threadIdx.x] = sum + part;
    block_sync();
    if (warp != 0 || channel >= c) return;
    float total = 0;
    for (int w = 0; w < tile_threads / 32; ++w) total += sums[32 * w + lane];
    partial[slice * c + channel] = total;
}

// dbias (c) += the slices, in their order.
template <class T>
__global__ void add_bias_slices(T* dbias, const T* partial, std::int64_t slices, std::int64_t c) {
    const std::int64_t channel = global_thread();
    if (channel >= c) return;
    T sum = 0;
    for (std::int64_t slice = 0; slice < slices; ++slice) sum += partial[slice * c + channel];
    dbias[channel] += sum;
}

// The launches, for the rows and for their tests.
template <class T>
void launch_pack_weight(T* packed, const float* ours, std::int64_t c_in, std::int64_t c_out, int taps, Stream& stream) {
    launch(stream, "vendor pack_weight", weight_grid(c_in, c_out, taps), tile_threads, weight_tile_bytes,
           pack_weight<T>, packed, ours, c_in, c_out);
}

template <class T>
void launch_add_packed_weight(float* ours, const T* packed, std::int64_t c_in, std::int64_t c_out, int taps,
                              Stream& stream) {
    launch(stream, "vendor add_packed_weight", weight_grid(c_in, c_out, taps), tile_threads, weight_tile_bytes,
           add_packed_weight<T>, ours, packed, c_in, c_out);
}

template <class T>
void launch_add_bias(T* y, const float* bias, std::int64_t pixels, std::int64_t c, Stream& stream) {
    constexpr int wide = 16 / static_cast<int>(sizeof(T));
    const auto go = [&](auto kernel, int width) {
        const std::int64_t pieces = pixels * c / width;
        launch(stream, "vendor add_bias", blocks_for(pieces), threads_per_block, 0, kernel, y, bias, pieces,
               static_cast<int>(c));
    };
    if (c % wide == 0)
        go(add_bias<T, wide>, wide);
    else
        go(add_bias<T, 1>, 1);
}

template <class T>
void launch_bias_gradient(float* dbias, const T* dy, std::int64_t pixels, std::int64_t c, Stream& stream) {
    const BiasSlices slices = BiasSlices::of(pixels);
    Workspace<float> partial(slices.count * c, stream);
    launch(stream, "vendor bias_slices", dim3(static_cast<unsigned>(slices.count), blocks_for(c, 32)), tile_threads,
           Shared::shared_bytes_of<float>(tile_threads), bias_slices<T>, partial.data(), dy, pixels, slices.pixels, c);
    launch(stream, "vendor add_bias_slices", blocks_for(c), threads_per_block, 0, add_bias_slices<float>, dbias,
           partial.data(), slices.count, c);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::vendor
