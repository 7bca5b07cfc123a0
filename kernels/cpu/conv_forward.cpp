// y = bias + x * weight and dx = dy * flipped, transposed weight, by strips of output pixels.
#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"
#include "kernels/cpu/conv_statistics.h"
#include "kernels/cpu/conv_strip.h"

namespace cover::cpu {
namespace {

constexpr i64 max_rows = 9;

struct Forward {
    const ConvKernels& kernels;
    const ConvParams& params;
    ConvOutput y;
    const ConvInput& x;
    const float* weight;
    const float* bias;
    bool transposed;
    i64 c_in, c_out;  // of this run: swapped when transposed
    StripPlan plan;
    ChannelBlocks blocks;
    ChannelTiles tiles;
    Tensor padded_bias;

    Forward(const ConvKernels& kernels_, const ConvParams& params_, const ConvOutput& y_, const ConvInput& x_,
            const float* weight_, const float* bias_, bool transposed_)
        : kernels(kernels_),
          params(params_),
          y(y_),
          x(x_),
          weight(weight_),
          bias(bias_),
          transposed(transposed_),
          c_in(transposed_ ? params_.c_out : params_.c_in),
          c_out(transposed_ ? params_.c_in : params_.c_out),
          plan(params_),
          blocks(c_in, params_.kernel == 1 ? 256 : 32),
          tiles(y_.channels[0], kernels_.lanes, y_.channels[1]),
          padded_bias(floats(tiles.columns())) {
        float* b = padded_bias.data<float>();
        for (i64 c = 0; c < tiles.columns(); ++c) b[c] = bias && c < c_out ? bias[c] : 0.0f;
    }

    i64 depth(i64 block) const { return params.taps() * blocks.of(block); }

    // The weights of one block and of tiles [tile, tile + group) as (row tap, width tap, channel, width of the tile),
    // the tiles panel_stride floats apart. Tap by tap, so that neighbouring lines of the weights are read together.
    void pack(i64 block, i64 tile, i64 group, float* panel, i64 panel_stride) const {
        const i64 channels = blocks.of(block), taps = params.taps(), k0 = blocks.first(block);
        for (i64 t = 0; t < taps; ++t)
            for (i64 i = 0; i < group; ++i) {
                const i64 width = tiles.width(tile + i), c0 = tiles.first(tile + i);
                float* to = panel + i * panel_stride + t * channels * width;
                if (transposed)
                    kernels.copy_panel_transposed(to, weight + ((taps - 1 - t) * c_out + c0) * c_in + k0, channels,
                                                  c_in, tiles.of(tile + i), width);
                else
                    kernels.copy_panel(to, weight + (t * c_in + k0) * c_out + c0, channels, c_out, tiles.of(tile + i),
                                       width);
            }
    }

    // The cache lines that pack() will read, in its order.
    void list_lines(i64 block, i64 tile, i64 group, std::vector<const float*>& lines) const {
        const i64 channels = blocks.of(block), k0 = blocks.first(block), c0 = tiles.first(tile);
        const i64 columns = tiles.first(tile + group - 1) + tiles.of(tile + group - 1) - c0;
        const i64 rows = transposed ? columns : channels, length = transposed ? channels : columns;
        const i64 stride = transposed ? c_in : c_out;
        for (i64 t = 0; t < params.taps(); ++t) {
            const float* from = transposed ? weight + ((params.taps() - 1 - t) * c_out + c0) * c_in + k0
                                           : weight + (t * c_in + k0) * c_out + c0;
            for (i64 r = 0; r < rows; ++r)
                for (i64 i = 0; i < length; i += 16) lines.push_back(from + r * stride + i);
        }
    }

    ConvBlock describe(i64 block, i64 tile, i64 first_pixel) const {
        ConvBlock b{};
        b.run = plan.taps_w * blocks.of(block);
        b.rows = plan.rows();
        b.pixel_stride = blocks.of(block);
        b.bias = block == 0 ? padded_bias.data<float>() + tiles.columns_before(tile) : nullptr;
        b.y_stride = y.channels[tiles.part(tile)];
        b.y = y.parts[tiles.part(tile)] + first_pixel * b.y_stride + tiles.in_part(tile);
        b.vectors = tiles.vectors(tile);
        b.channels = static_cast<int>(tiles.of(tile));
        return b;
    }

    // Many pixels: the weights are packed once, a task is a strip with a padded copy of its own.
    void by_strips(StripMoments* moments, Stream& stream) {
        const i64 columns = tiles.columns();
        Tensor packed = floats(params.taps() * c_in * columns);
        float* panels = packed.data<float>();
        const auto panel = [&](i64 block, i64 tile) {
            return panels + params.taps() * blocks.first(block) * columns + depth(block) * tiles.columns_before(tile);
        };
        stream.parallel(blocks.count * tiles.count, [&](i64 task) {
            pack(task / tiles.count, task % tiles.count, 1, panel(task / tiles.count, task % tiles.count), 0);
        });
        const float* stored = params.kernel == 1 ? x.stored() : nullptr;  // read where it lies
        const i64 most = std::min(blocks.size, c_in);
        const std::vector<Strip> strips = plan.strips(most, c_out, 80 * 1024);
        if (moments) moments->cut(plan, strips, y.parts[0]);
        stream.parallel(static_cast<i64>(strips.size()), [&](i64 task) {
            const Strip& s = strips[static_cast<std::size_t>(task)];
            Tensor scratch = floats(stored ? 1 : plan.padded_pixels(s) * most);
            Tensor positions = floats(plan.pixels(s));
            auto* pixel = reinterpret_cast<std::int32_t*>(positions.data<float>());
            plan.fill_positions(s, 1, pixel);
            i64 row_offset[max_rows];
            for (i64 block = 0; block < blocks.count; ++block) {
                const i64 channels = blocks.of(block);
                plan.fill_row_offsets(s, channels, row_offset);
                if (!stored) x.fill(plan, s, blocks.first(block), channels, scratch.data<float>());
                for (i64 tile = 0; tile < tiles.count; ++tile) {
                    ConvBlock b = describe(block, tile, plan.first_pixel(s));
                    b.x = stored ? stored + plan.first_pixel(s) * c_in + blocks.first(block) : scratch.data<float>();
                    if (stored) b.pixel_stride = c_in;
                    b.pixel = pixel;
                    b.pixels = plan.pixels(s);
                    b.row_offset = row_offset;
                    b.panel = panel(block, tile);
                    kernels.forward_block(b);
                }
            }
            if (moments) moments->sum(task);
        });
    }

    // Few pixels and many weights: the padded input is shared, a task owns output channels and packs their weights.
    void by_channels(Stream& stream) {
        const Strip all = plan.everything();
        const i64 pixels = plan.pixels(all), padded = plan.padded_pixels(all);
        Tensor copies = floats(padded * c_in);
        Tensor positions = floats(pixels);
        auto* pixel = reinterpret_cast<std::int32_t*>(positions.data<float>());
        plan.fill_positions(all, 1, pixel);
        stream.parallel(blocks.count * plan.n, [&](i64 task) {
            const i64 block = task / plan.n, sample = task % plan.n;
            x.fill(plan, plan.sample(sample), blocks.first(block), blocks.of(block),
                   copies.data<float>() + padded * blocks.first(block) + sample * (padded / plan.n) * blocks.of(block));
        });
        // Neighbouring tiles share pages of the weights.
        const i64 group = tiles.count >= 32 ? 4 : tiles.count >= 16 ? 2 : 1;
        stream.parallel(divide_up(tiles.count, group), [&](i64 task) {
            const i64 first = task * group, last = std::min(first + group, tiles.count);
            Tensor panels = floats(group * depth(0) * tiles.widest());
            std::vector<const float*> lines;
            i64 row_offset[max_rows];
            for (i64 block = 0; block < blocks.count; ++block) {
                const i64 panel_stride = depth(0) * tiles.widest();
                pack(block, first, last - first, panels.data<float>(), panel_stride);
                lines.clear();
                if (block + 1 < blocks.count) list_lines(block + 1, first, last - first, lines);
                plan.fill_row_offsets(all, blocks.of(block), row_offset);
                for (i64 tile = first; tile < last; ++tile) {
                    ConvBlock b = describe(block, tile, 0);
                    b.x = copies.data<float>() + padded * blocks.first(block);
                    b.pixel = pixel;
                    b.pixels = pixels;
                    b.row_offset = row_offset;
                    b.panel = panels.data<float>() + (tile - first) * panel_stride;
                    const auto count = static_cast<i64>(lines.size());
                    const i64 from = count * (tile - first) / (last - first);
                    b.prefetch = lines.data() + from;
                    b.prefetches = count * (tile - first + 1) / (last - first) - from;
                    kernels.forward_block(b);
                }
            }
        });
    }
};

}  // namespace

void conv_forward(const ConvKernels& kernels, const ConvOutput& y, const ConvInput& x, const float* weight,
                  const float* bias, bool transposed, const ConvParams& params, Stream& stream, StripMoments* moments) {
    Forward run(kernels, params, y, x, weight, bias, transposed);
    if (params.n * params.grid.pixels() <= 1024 && run.tiles.count >= 8) {
        run.by_channels(stream);
        if (moments) moments->sum_samples(run.plan, y.parts[0], stream);
    } else {
        run.by_strips(moments, stream);
    }
}

}  // namespace cover::cpu
