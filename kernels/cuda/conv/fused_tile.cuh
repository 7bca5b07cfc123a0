// Rung 3 as a fused convolution, float32 multiplied exactly: tile_conv and tile_backward_weight on an input on which
// something is pending. A thread brings the values of one channel to shared memory and keeps what is pending on it, so
// that mean, deviation and affine are read once for all its pixels. A warp owns eight outputs of all pixels of the
// tile: a unit of the moments, for the group norm that follows, is a warp's.
//
// Arithmetic is that of the plain ops (norm.cu, pool.cu, resize.cu).
#pragma once

#include "kernels/cuda/conv/pending.cuh"
#include "kernels/cuda/conv/tile.cuh"
#include "kernels/cuda/conv/tile_weight.cuh"
#include "kernels/cuda/conv/unit_moments.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// Output `at` of an up-sampling by two lies between two inputs of its axis.
struct Between {
    int first, second;
    float left, right;

    static __device__ Between of(int at, int side) {
        const int pair = first_pair(at);
        const bool is_right = (at - 1) % 2 != 0;
        const resize::Pair weights = resize::pair_of(pair, side, false);
        return {resize::clamped(pair, side), resize::clamped(pair + 1, side),
                is_right ? weights.left[1] : weights.left[0], is_right ? weights.right[1] : weights.right[0]};
    }
    __device__ float mix(float a, float b) const { return std::fma(right, b, left * a); }
};

struct PendingChannel {
    const PendingPart<float>* part;
    const float* x;  // this channel of the sample's first pixel
    norm::Channels<1> channel;

    // Channel c of the convolution's input, which exists, in sample n.
    static __device__ PendingChannel of(const PendingPart<float>* parts, int n, int c) {
        const PendingPart<float>* const part = parts + (c >= parts[1].first);
        const int own = c - part->first;
        PendingChannel pending{
            part, part->x + std::int64_t{n} * part->d * part->h * part->w * part->channels + own, {0, 1, 1, {1}, {0}}};
        if (part->mean) {
            const int group = n * part->groups + own / part->group_channels;
            pending.channel = {
                part->mean[group], part->rstd[group], part->slope, {part->gamma[own]}, {part->beta[own]}};
        }
        return pending;
    }
    // Activated, at a pixel of the grid on which it is stored.
    __device__ float stored(int d, int h, int w) const {
        const int pixel = (d * part->h + h) * part->w + w;
        const float value = x[std::int64_t{pixel} * part->channels];
        return channel.activated(channel.normalised(value), 0);
    }
    // At a pixel of the convolution's grid, which is of depth `depth`.
    __device__ float at(int depth, int d, int h, int w) const {
        if (part->resampling == Resampling::none) return stored(d, h, w);
        const bool is_volume = part->d != depth;
        if (part->resampling == Resampling::max_pool) {
            float best = 0;
#pragma unroll 1
            for (int i = 0; i < (is_volume ? 8 : 4); ++i) {
                const float value = stored((is_volume ? 2 * d : d) + i / 4, 2 * h + i / 2 % 2, 2 * w + i % 2);
                if (i == 0 || value > best) best = value;
            }
            return best;
        }
        const Between rows = Between::of(h, part->h), columns = Between::of(w, part->w);
        const Between planes = is_volume ? Between::of(d, part->d) : Between{d, d, 1, 0};
        const auto corner = [&](int row, int column) {
            const float front = stored(planes.first, row, column);
            return is_volume ? planes.mix(front, stored(planes.second, row, column)) : front;
        };
        const auto line = [&](int row) { return columns.mix(corner(row, columns.first), corner(row, columns.second)); };
        return rows.mix(line(rows.first), line(rows.second));
    }
};

// As the In of tile_conv and the X of tile_backward_weight.
struct PendingImage {
    PendingParts<float> input;
    norm::Moments* moments;     // (tiles, c_out / 8) of what tile_conv stores, or null
    PendingPart<float>* parts;  // in shared memory

    static PendingImage of(const PendingInput& input, const FusedConvParams& p, norm::Moments* moments) {
        for (int i = 0; i < 2; ++i)
            require(p.part_grid(i).pixels() <= std::numeric_limits<int>::max(), ErrorKind::device, "[fused_conv] ",
                    p.part_grid(i).pixels(), " pixels in a sample are too many for this row; use a smaller patch");
        return {pending_parts<float>(input, p), moments, nullptr};
    }
    static constexpr std::size_t shared_bytes() { return Shared::shared_bytes_of<PendingPart<float>>(2); }

    // What it leaves in shared memory is there behind the next block_sync, the one in front of the first pixels.
    __device__ void begin(Shared& shared) {
        parts = shared.take<PendingPart<float>>(2);
        share(parts, input);
    }

    // Channels c0 to c0 + 7 of plane d's pixels under the tile, zeros outside of the image.
    template <class Shape, int side>
    __device__ void stage(float* staged, const ConvParams& p, const TilePlace& at, std::int64_t d,
                          std::int64_t c0) const {
        using Memory = TileMemory<side>;
        static_assert(Shape::threads % tile_channels == 0, "a thread keeps its channel");
        const int thread = static_cast<int>(threadIdx.x), own = thread % tile_channels, c = static_cast<int>(c0) + own;
        const Lines lines = Lines::of(p, at, d, side / 2);
        const bool exists = c < p.c_in;
        const PendingChannel channel = PendingChannel::of(parts, static_cast<int>(at.n), exists ? c : 0);
#pragma unroll 1
        for (int place = thread / tile_channels; place < Memory::rows * Memory::columns;
             place += Shape::threads / tile_channels) {
            const int r = place / Memory::columns, q = place % Memory::columns;
            staged[(own * Memory::rows + r) * Memory::pitch + q] = exists ? lines.value(channel, r, q) : 0.0f;
        }
    }

    // 32 channels of the lines around line at.h of plane at.d, from pixel at.w and channel at.channel on.
    template <int side>
    __device__ void stage_lines(float* staged, const ConvParams& p, const TilePlace& at) const {
        constexpr int columns = weight_pixels + 2 * (side / 2);
        static_assert(weight_threads % weight_channels == 0, "a thread keeps its channel");
        const int thread = static_cast<int>(threadIdx.x), own = thread % weight_channels,
                  c = static_cast<int>(at.channel) + own;
        const Lines lines = Lines::of(p, at, at.d, side / 2);
        const bool exists = c < p.c_in;
        const PendingChannel channel = PendingChannel::of(parts, static_cast<int>(at.n), exists ? c : 0);
#pragma unroll 1
        for (int place = thread / weight_channels; place < side * columns; place += weight_threads / weight_channels)
            staged[place * weight_channels + own] =
                exists ? lines.value(channel, place / columns, place % columns) : 0.0f;
    }

    // sum: of the thread's pixels and outputs, without the bias. The whole warp comes here.
    template <class Shape>
    __device__ void leave_moments(const float (&sum)[Shape::pixels][Shape::outputs], const float* bias,
                                  const ConvParams& p, const TilePlace& at) const {
        static_assert(Shape::pixel_threads == 32 && Shape::outputs == unit_channels);
        const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
        const std::int64_t o = at.channel + warp * Shape::outputs;
        if (!moments || o >= p.c_out) return;
        const int height = static_cast<int>(min_of(tile_height, p.grid.h - at.h)),
                  width = static_cast<int>(min_of(tile_width, p.grid.w - at.w));
        const int row = lane / Shape::threads_per_row, column = lane % Shape::threads_per_row;
        const auto total = [&](const auto& term) {
            float value = 0;
#pragma unroll
            for (int i = 0; i < Shape::pixels; ++i)
#pragma unroll
                for (int k = 0; k < Shape::outputs; ++k)
                    value += row < height && column + i * Shape::threads_per_row < width ? term(sum[i][k] + bias[o + k])
                                                                                         : 0.0f;
#pragma unroll
            for (int lanes = 16; lanes > 0; lanes /= 2) value += shuffle_xor(value, lanes);
            return value;
        };
        const float mean =
                        total([](float value) { return value; }) / static_cast<float>(unit_channels * height * width),
                    squares = total([mean](float value) { return (value - mean) * (value - mean); });
        if (lane == 0)
            moments[std::int64_t{blockIdx.x} * (p.c_out / unit_channels) + o / unit_channels] = {mean, squares};
    }

private:
    // Lines of the convolution's grid with `halo` of their neighbours.
    struct Lines {
        int depth, height, width, d, h, w;

        static __device__ Lines of(const ConvParams& p, const TilePlace& at, std::int64_t d, int halo) {
            return {static_cast<int>(p.grid.d), static_cast<int>(p.grid.h),    static_cast<int>(p.grid.w),
                    static_cast<int>(d),        static_cast<int>(at.h) - halo, static_cast<int>(at.w) - halo};
        }
        __device__ float value(const PendingChannel& channel, int row, int column) const {
            const bool inside = static_cast<unsigned>(h + row) < static_cast<unsigned>(height) &&
                                static_cast<unsigned>(w + column) < static_cast<unsigned>(width);
            return inside ? channel.at(depth, d, h + row, w + column) : 0.0f;
        }
    };
};

template <int side>
void launch_fused_tile(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                       const FusedConvParams& p, Stream& stream) {
    const TileCut cut = TileCut::of(HaloTiles::of(p.conv, tile_height, tile_width), static_cast<int>(p.conv.c_out),
                                    tile_height, tile_width);
    Workspace<norm::Moments> moments(p.groups > 0 ? p.conv.n * cut.slices * cut.units : 0, stream);
    const PendingImage image = PendingImage::of(input, p, p.groups > 0 ? moments.data() : nullptr);
    launch_tile<RegisterTile, side, false>("fused_conv tile_conv", y, image, PendingImage::shared_bytes(), weight,
                                           bias.as<float>(), p.conv, stream);
    if (p.groups > 0) launch_tile_statistics(mean, rstd, moments.data(), p.statistics(), cut, stream);
}

template <int side>
void launch_fused_tile_weight(float* partial, ConstView dy, const PendingInput& input, const FusedConvParams& p,
                              const Slices& slices, Stream& stream) {
    const PendingImage image = PendingImage::of(input, p, nullptr);
    launch_tile_weight<side>("fused_conv tile_backward_weight", partial, dy, image, PendingImage::shared_bytes(),
                             p.conv, slices, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
