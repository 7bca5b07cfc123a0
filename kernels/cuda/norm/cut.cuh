// How a matrix of (pixels, channels) per sample is cut among blocks, and sums over a block's pixels.
#pragma once

#include <algorithm>
#include <bit>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD::norm {

// Channels are counted in units of one access. The threads of a block stand in `rows` rows of `columns` neighbouring
// units: a thread keeps its unit and goes through the pixels of its slice in steps of `rows`.
struct Cut {
    std::int64_t channels, length, slice;
    unsigned units, tiles, slices, columns, rows, tree;  // tree: the smallest power of two that is not below `rows`

    constexpr std::int64_t blocks(std::int64_t n) const { return n * slices * tiles; }
    __host__ __device__ constexpr std::int64_t length_of(std::int64_t index) const {
        return index + 1 < slices ? slice : length - index * slice;
    }
};

// A thread goes through 8 to 32 pixels: many where there are enough of them for all of a GPU. A block has at most one
// channel per thread, so that each may add up one.
inline Cut cut_of(std::int64_t channels, std::int64_t length, int width) {
    Cut cut{};
    cut.channels = channels;
    cut.length = length;
    cut.units = items_of_row(channels / width);
    cut.columns = std::min(cut.units, threads_per_block / static_cast<unsigned>(width));
    cut.tiles = (cut.units + cut.columns - 1) / cut.columns;
    cut.rows = threads_per_block / cut.columns;
    cut.tree = std::bit_ceil(cut.rows);
    const std::int64_t per_thread = std::clamp<std::int64_t>(length / (36 * std::int64_t{cut.rows}), 8, 32);
    cut.slice = std::min(length, cut.rows * per_thread);
    cut.slices = items_of_row((length + cut.slice - 1) / cut.slice);
    return cut;
}

// Of one thread. `begin` is its first pixel, `end` the first of the next slice; both are equal for a thread without a
// unit. `c`: its first channel, and where it has none any other.
struct Place {
    std::int64_t n, c, begin, end;
    unsigned slice, tile, row, column;

    __device__ std::int64_t pixels(const Cut& cut) const {
        return begin < end ? (end - begin + cut.rows - 1) / cut.rows : 0;
    }
};

// For a second pass over what the first has read: from its end, which is still in the L2 cache, to its begin.
__device__ inline unsigned block_from_end() { return gridDim.x - 1 - blockIdx.x; }

template <int width>
__device__ Place place_of(const Cut& cut, unsigned block) {
    Place at;
    const unsigned slab = block / cut.tiles, n = slab / cut.slices;
    at.tile = block - slab * cut.tiles;
    at.slice = slab - n * cut.slices;
    at.n = n;
    at.row = threadIdx.x / cut.columns;
    at.column = threadIdx.x - at.row * cut.columns;
    const unsigned unit = at.tile * cut.columns + at.column;
    const bool idle = at.row >= cut.rows || unit >= cut.units;
    at.c = idle ? 0 : std::int64_t{unit} * width;
    at.end = at.slice * cut.slice + cut.length_of(at.slice);
    at.begin = idle ? at.end : at.slice * cut.slice + at.row;
    return at;
}

// The sum of `value` over the rows of the thread's column, known to all of them; `scratch` has an element per thread.
// Every thread of the block has to come here.
__device__ inline double column_sum(double value, double* scratch, const Place& at, const Cut& cut) {
    block_sync();  // an earlier sum's scratch has been read
    scratch[threadIdx.x] = value;
    for (unsigned half = cut.tree / 2; half > 0; half /= 2) {
        block_sync();
        if (at.row < half && at.row + half < cut.rows)
            scratch[threadIdx.x] += scratch[threadIdx.x + half * cut.columns];
    }
    block_sync();
    return scratch[at.column];
}

constexpr std::size_t column_sum_bytes() { return Shared::shared_bytes_of<double>(threads_per_block); }

// Of one channel: the sums of dz and of dz * xhat.
struct alignas(16) Sums {
    double dz, dz_xhat;

    __device__ Sums& operator+=(const Sums& other) {
        dz += other.dz;
        dz_xhat += other.dz_xhat;
        return *this;
    }
};

template <int width>
constexpr std::size_t channel_sums_bytes() {
    return 2 * Shared::shared_bytes_of<float>(threads_per_block * width) +
           Shared::shared_bytes_of<Sums>(threads_per_block);
}

// The sums over the rows of a block, of all its channels: to[0] is the first of its tile. First some threads to a
// channel, each over every so many rows, then one. Every thread of the block has to come here.
template <int width>
__device__ void store_channel_sums(Sums* to, const float (&dz)[width], const float (&dz_xhat)[width], Shared& shared,
                                   const Place& at, const Cut& cut) {
    float *all_dz = shared.take<float>(threads_per_block * width),
          *all_dz_xhat = shared.take<float>(threads_per_block * width);
    Sums* parts = shared.take<Sums>(threads_per_block);
    store(all_dz + threadIdx.x * width, dz);
    store(all_dz_xhat + threadIdx.x * width, dz_xhat);
    block_sync();
    const unsigned channels = cut.columns * width, count = threads_per_block / channels;
    const unsigned part = threadIdx.x / channels;
    Sums sums{0, 0};
    for (unsigned row = part; part < count && row < cut.rows; row += count) {
        const unsigned from = row * channels + threadIdx.x - part * channels;
        sums += {static_cast<double>(all_dz[from]), static_cast<double>(all_dz_xhat[from])};
    }
    parts[threadIdx.x] = sums;
    block_sync();
    if (threadIdx.x >= channels || at.tile * channels + threadIdx.x >= cut.channels) return;
    for (unsigned other = 1; other < count; ++other) sums += parts[other * channels + threadIdx.x];
    to[threadIdx.x] = sums;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::norm
