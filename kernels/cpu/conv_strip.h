// Padded strips of an activation and blocks of channels: what both drivers of the CPU convolutions share.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/tensor.h"
#include "kernels/conv.h"
#include "kernels/cpu/conv_kernels.h"

namespace cover::cpu {

inline i64 divide_up(i64 a, i64 b) { return (a + b - 1) / b; }

// Adjacent output pixels: rows [h0, h1) of one plane, or whole planes [d0, d1) of one sample, or whole samples
// [n0, n1).
struct Strip {
    i64 n0, n1, d0, d1, h0, h1;
};

// Channels [0, channels) of pixels that lie so many floats apart.
inline void copy_pixels(float* to, i64 to_stride, const float* from, i64 from_stride, i64 pixels, i64 channels) {
    if (channels == from_stride && channels == to_stride)
        std::memcpy(to, from, static_cast<std::size_t>(pixels * channels) * 4);
    else if (channels == 32)
        for (i64 i = 0; i < pixels; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, 32 * 4);
    else
        for (i64 i = 0; i < pixels; ++i)
            std::memcpy(to + i * to_stride, from + i * from_stride, static_cast<std::size_t>(channels) * 4);
}

// The geometry of a convolution as the strips see it.
struct StripPlan {
    i64 n, d, h, w;
    i64 pad_d, pad;      // zeros before and behind
    i64 taps_d, taps_h;  // their product is the number of row taps
    i64 taps_w;

    explicit StripPlan(const ConvParams& p)
        : n(p.n),
          d(p.grid.d),
          h(p.grid.h),
          w(p.grid.w),
          pad_d(p.kernel_depth() / 2),
          pad(p.kernel / 2),
          taps_d(p.kernel_depth()),
          taps_h(p.kernel),
          taps_w(p.kernel) {}

    int rows() const { return static_cast<int>(taps_d * taps_h); }
    i64 padded_w() const { return w + 2 * pad; }
    i64 padded_h(const Strip& s) const { return s.h1 - s.h0 + 2 * pad; }
    i64 padded_d(const Strip& s) const { return s.d1 - s.d0 + 2 * pad_d; }
    i64 padded_pixels(const Strip& s) const { return (s.n1 - s.n0) * padded_d(s) * padded_h(s) * padded_w(); }
    i64 pixels(const Strip& s) const { return (s.n1 - s.n0) * (s.d1 - s.d0) * (s.h1 - s.h0) * w; }
    i64 first_pixel(const Strip& s) const { return ((s.n0 * d + s.d0) * h + s.h0) * w; }
    Strip everything() const { return {0, n, 0, d, 0, h}; }
    Strip sample(i64 i) const { return {i, i + 1, 0, d, 0, h}; }

    // Position in the padded strip, in pixels, of the first tap of each output pixel, times scale.
    void fill_positions(const Strip& s, i64 scale, std::int32_t* out) const {
        const i64 pd = padded_d(s), ph = padded_h(s), pw = padded_w();
        for (i64 a = 0; a < s.n1 - s.n0; ++a)
            for (i64 z = 0; z < s.d1 - s.d0; ++z)
                for (i64 y = 0; y < s.h1 - s.h0; ++y)
                    for (i64 x = 0; x < w; ++x)
                        *out++ = static_cast<std::int32_t>((((a * pd + z) * ph + y) * pw + x) * scale);
    }

    // Offset in floats of each row tap in a padded strip of `channels` channels.
    void fill_row_offsets(const Strip& s, i64 channels, i64* out) const {
        for (i64 z = 0; z < taps_d; ++z)
            for (i64 y = 0; y < taps_h; ++y) *out++ = (z * padded_h(s) + y) * padded_w() * channels;
    }

    // Calls line(first pixel, n, d, h) for each line inside the grid of a padded strip of `channels` channels, and sets
    // what is outside to zero.
    template <class Line>
    void for_lines(const Strip& s, i64 channels, float* out, const Line& line) const {
        const i64 pw = padded_w(), row = pw * channels;
        const auto zero = [](float* p, i64 count) { std::memset(p, 0, static_cast<std::size_t>(count) * 4); };
        for (i64 a = s.n0; a < s.n1; ++a)
            for (i64 z = s.d0 - pad_d; z < s.d1 + pad_d; ++z)
                for (i64 y = s.h0 - pad; y < s.h1 + pad; ++y, out += row) {
                    if (z < 0 || z >= d || y < 0 || y >= h) {
                        zero(out, row);
                        continue;
                    }
                    zero(out, pad * channels);
                    zero(out + (w + pad) * channels, pad * channels);
                    line(out + pad * channels, a, z, y);
                }
    }

    // Cuts everything into strips whose padded copy and whose `extra` floats per pixel stay below `floats`.
    std::vector<Strip> strips(i64 channels, i64 extra, i64 floats) const {
        const auto cost = [&](const Strip& s) { return padded_pixels(s) * channels + pixels(s) * extra; };
        std::vector<Strip> out;
        i64 depth = 1, height = 1;
        while (height < h && cost({0, 1, 0, 1, 0, height + 1}) <= floats) ++height;
        height = divide_up(h, divide_up(h, height));
        if (height == h) {
            while (depth < d && cost({0, 1, 0, depth + 1, 0, h}) <= floats) ++depth;
            depth = divide_up(d, divide_up(d, depth));
        }
        for (i64 a = 0; a < n; ++a)
            for (i64 z = 0; z < d; z += depth)
                for (i64 y = 0; y < h; y += height)
                    out.push_back({a, a + 1, z, std::min(z + depth, d), y, std::min(y + height, h)});
        return out;
    }
};

// Input channels per block. A block of a 3x3 row of taps and 16 output channels is then at most 18 KB.
struct ChannelBlocks {
    i64 channels, size, count;

    ChannelBlocks(i64 channels_, i64 size_) : channels(channels_), size(size_), count(divide_up(channels_, size_)) {}
    i64 first(i64 block) const { return block * size; }
    i64 of(i64 block) const { return std::min(size, channels - block * size); }
};

// Tiles of output channels: two vectors, the last one of each part one or two, partly filled. Parts lie one behind
// another; no tile lies in both.
struct ChannelTiles {
    i64 channels[2], lanes, first_count, count;

    ChannelTiles(i64 first_channels, i64 lanes_, i64 second_channels = 0)
        : channels{first_channels, second_channels},
          lanes(lanes_),
          first_count(divide_up(first_channels, 2 * lanes_)),
          count(first_count + divide_up(second_channels, 2 * lanes_)) {}
    int part(i64 tile) const { return tile < first_count ? 0 : 1; }
    i64 in_part(i64 tile) const { return (tile - part(tile) * first_count) * 2 * lanes; }
    i64 first(i64 tile) const { return part(tile) * channels[0] + in_part(tile); }
    i64 of(i64 tile) const { return std::min(2 * lanes, channels[part(tile)] - in_part(tile)); }
    int vectors(i64 tile) const { return of(tile) > lanes ? 2 : 1; }
    i64 width(i64 tile) const { return vectors(tile) * lanes; }
    i64 widest() const { return std::max(width(0), width(count - 1)); }
    // Columns of all tiles before this one: the panels of all tiles lie one behind another.
    i64 columns_before(i64 tile) const {
        return part(tile) == 0 ? in_part(tile) : (first_count - 1) * 2 * lanes + width(first_count - 1) + in_part(tile);
    }
    i64 columns() const { return columns_before(count - 1) + width(count - 1); }
};

inline Tensor floats(i64 count) { return Tensor::empty({std::max<i64>(count, 1)}); }

}  // namespace cover::cpu
