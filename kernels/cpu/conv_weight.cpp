// dweight += sum over pixels of x * dy, dbias += sum of dy. Within a sample the pixels are summed slice by slice, then
// the samples in a fixed binary tree ((s0 + s1) + (s2 + s3)) + ..., whatever the threads do.
#include <bit>

#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"
#include "kernels/cpu/conv_strip.h"

namespace cover::cpu {
namespace {

constexpr i64 max_rows = 9;
// Pixels whose input and gradient stay in the first-level cache while all weights of a tile pass over them.
constexpr i64 chunk_pixels = 96;

// Joins the sums of samples as they come: level k of the stack holds the sum of 2^k samples.
class SampleTree {
public:
    SampleTree(const ConvKernels& kernels, float* stack, i64 count) : kernels_(kernels), stack_(stack), count_(count) {}
    static i64 levels(i64 samples) { return std::bit_width(static_cast<std::uint64_t>(samples)) + 1; }
    // Where the next sample's sum belongs; followed by push().
    float* next() { return stack_ + top_ * count_; }
    void push() {
        ++top_;
        ++samples_;
        for (i64 s = samples_; s % 2 == 0; s /= 2) join();
    }
    // The sum of all samples.
    const float* finish() {
        while (top_ > 1) join();
        return stack_;
    }

private:
    void join() {
        --top_;
        kernels_.add_rows(stack_ + (top_ - 1) * count_, 0, stack_ + top_ * count_, 0, 1, count_);
    }

    const ConvKernels& kernels_;
    float* stack_;
    i64 count_, top_ = 0, samples_ = 0;
};

struct WeightGradient {
    const ConvKernels& kernels;
    const ConvParams& params;
    float* dweight;
    float* dbias;
    const float* dy;
    const ConvInput& x;
    StripPlan plan;
    ChannelBlocks blocks;
    ChannelTiles tiles;

    WeightGradient(const ConvKernels& kernels_, const ConvParams& params_, float* dweight_, float* dbias_,
                   const float* dy_, const ConvInput& x_)
        : kernels(kernels_),
          params(params_),
          dweight(dweight_),
          dbias(dbias_),
          dy(dy_),
          x(x_),
          plan(params_),
          blocks(params_.c_in, 32),
          tiles(params_.c_out, kernels_.lanes) {}

    i64 panel_count(i64 block, i64 tile) const { return params.taps() * blocks.of(block) * tiles.width(tile); }
    i64 panel_offset(i64 block, i64 tile) const {
        return params.taps() * (blocks.first(block) * tiles.columns() + blocks.of(block) * tiles.columns_before(tile));
    }

    float* gradient_at(i64 block, i64 tile) const {
        return dweight + blocks.first(block) * params.c_out + tiles.first(tile);
    }

    // Adds a panel (tap, channel, column) to dweight.
    void unpack(i64 block, i64 tile, const float* panel) const {
        const i64 channels = blocks.of(block), width = tiles.width(tile);
        for (i64 t = 0; t < params.taps(); ++t, panel += channels * width)
            kernels.add_rows(gradient_at(block, tile) + t * params.c_in * params.c_out, params.c_out, panel, width,
                             channels, tiles.of(tile));
    }

    // One pass over the pixels of a strip, in chunks.
    void accumulate(const float* strip, const std::int32_t* offset, i64 pixels, const i64* row_offset, i64 channels,
                    const float* gradient, i64 stride, int vectors, float* panel, bool onto) const {
        ConvWeightBlock b{};
        b.x = strip;
        b.row_offset = row_offset;
        b.rows = plan.rows();
        b.run = plan.taps_w * channels;
        b.out = panel;
        b.dy_stride = stride;
        b.vectors = vectors;
        b.accumulate = onto;
        const i64 chunks = divide_up(pixels, chunk_pixels);
        for (i64 c = 0; c < chunks; ++c) {
            const i64 first = pixels * c / chunks;
            b.offset = offset + first;
            b.pixels = pixels * (c + 1) / chunks - first;
            b.dy = gradient + first * stride;
            kernels.weight_block(b);
            b.accumulate = true;
        }
    }

    // Many pixels: a task is a slice of a sample and sums all weights.
    void by_slices(Stream& stream, i64 slices) {
        const std::vector<Strip> strips = plan.strips(std::min(blocks.size, params.c_in), params.c_out, 64 * 1024);
        const i64 per_sample = static_cast<i64>(strips.size()) / plan.n;
        slices = std::min(slices, per_sample);
        const i64 columns = tiles.columns(), count = params.taps() * params.c_in * columns;
        Tensor sums = floats(plan.n * slices * (count + columns));
        stream.parallel(plan.n * slices, [&](i64 task) {
            float* sum = sums.data<float>() + task * (count + columns);
            const i64 sample = task / slices, slice = task % slices;
            const i64 begin = per_sample * slice / slices, end = per_sample * (slice + 1) / slices;
            for (i64 i = begin; i < end; ++i)
                add_strip(strips[static_cast<std::size_t>(sample * per_sample + i)], sum, sum + count, i != begin);
        });
        const i64 stride = count + columns;
        stream.parallel(blocks.count * tiles.count + 1, [&](i64 task) {
            const bool is_bias = task == blocks.count * tiles.count;
            const i64 block = is_bias ? 0 : task / tiles.count, tile = is_bias ? 0 : task % tiles.count;
            const i64 length = is_bias ? columns : panel_count(block, tile);
            const float* first = sums.data<float>() + (is_bias ? count : panel_offset(block, tile));
            Tensor stack = floats(SampleTree::levels(plan.n) * length);
            SampleTree tree(kernels, stack.data<float>(), length);
            for (i64 n = 0; n < plan.n; ++n) {
                std::memcpy(tree.next(), first + n * slices * stride, static_cast<std::size_t>(length) * 4);
                for (i64 s = 1; s < slices; ++s)
                    kernels.add_rows(tree.next(), 0, first + (n * slices + s) * stride, 0, 1, length);
                tree.push();
            }
            if (!is_bias)
                unpack(block, tile, tree.finish());
            else if (dbias)
                kernels.add_rows(dbias, 0, tree.finish(), 0, 1, params.c_out);
        });
    }

    void add_strip(const Strip& s, float* sum, float* bias_sum, bool onto) const {
        const i64 pixels = plan.pixels(s), most = std::min(blocks.size, params.c_in);
        Tensor scratch = floats(plan.padded_pixels(s) * most);
        Tensor positions = floats(pixels);
        // Up to 32 channels the tiles of dy are read where they lie; further apart they would fall on each other in the
        // first-level cache.
        const bool direct = params.c_out <= 32 && params.c_out == tiles.columns();
        Tensor gradients = floats(direct ? 1 : pixels * tiles.columns());
        auto* offset = reinterpret_cast<std::int32_t*>(positions.data<float>());
        const float* strip_dy = dy + plan.first_pixel(s) * params.c_out;
        const auto panel = [&](i64 tile) { return gradients.data<float>() + pixels * tiles.columns_before(tile); };
        for (i64 tile = 0; tile < tiles.count; ++tile) {
            if (!direct)
                kernels.copy_panel(panel(tile), strip_dy + tiles.first(tile), pixels, params.c_out, tiles.of(tile),
                                   tiles.width(tile));
            kernels.sum_pixels(bias_sum + tiles.first(tile), direct ? strip_dy + tiles.first(tile) : panel(tile),
                               direct ? params.c_out : tiles.width(tile), pixels, tiles.vectors(tile), onto);
        }
        i64 row_offset[max_rows];
        for (i64 block = 0; block < blocks.count; ++block) {
            const i64 channels = blocks.of(block);
            x.fill(plan, s, blocks.first(block), channels, scratch.data<float>());
            plan.fill_row_offsets(s, channels, row_offset);
            if (block == 0 || channels != blocks.of(block - 1)) plan.fill_positions(s, channels, offset);
            for (i64 tile = 0; tile < tiles.count; ++tile)
                accumulate(scratch.data<float>(), offset, pixels, row_offset, channels,
                           direct ? strip_dy + tiles.first(tile) : panel(tile),
                           direct ? params.c_out : tiles.width(tile), tiles.vectors(tile),
                           sum + panel_offset(block, tile), onto);
        }
    }

    // Many weights: padded input and gradient panels are shared, a task owns a panel of the weights.
    void by_panels(Stream& stream) {
        const Strip one = plan.sample(0);
        const i64 pixels = plan.pixels(one), padded = plan.padded_pixels(one), columns = tiles.columns();
        Tensor copies = floats(plan.n * padded * params.c_in);
        Tensor gradients = floats(plan.n * pixels * columns);
        // Within a block or tile the samples lie one behind another.
        const auto strip = [&](i64 block, i64 n) {
            return copies.data<float>() + padded * (plan.n * blocks.first(block) + n * blocks.of(block));
        };
        const auto gradient = [&](i64 tile, i64 n) {
            return gradients.data<float>() + pixels * (plan.n * tiles.columns_before(tile) + n * tiles.width(tile));
        };
        stream.parallel((blocks.count + tiles.count) * plan.n, [&](i64 task) {
            const i64 n = task % plan.n, block = task / plan.n, tile = block - blocks.count;
            if (block < blocks.count)
                x.fill(plan, plan.sample(n), blocks.first(block), blocks.of(block), strip(block, n));
            else
                kernels.copy_panel(gradient(tile, n), dy + n * pixels * params.c_out + tiles.first(tile), pixels,
                                   params.c_out, tiles.of(tile), tiles.width(tile));
        });
        stream.parallel(blocks.count * tiles.count, [&](i64 task) {
            const i64 block = task / tiles.count, tile = task % tiles.count, channels = blocks.of(block);
            Tensor positions = floats(pixels);
            auto* offset = reinterpret_cast<std::int32_t*>(positions.data<float>());
            plan.fill_positions(one, channels, offset);
            i64 row_offset[max_rows];
            plan.fill_row_offsets(one, channels, row_offset);
            Tensor stack = floats(SampleTree::levels(plan.n) * panel_count(block, tile));
            if (pixels <= 128 && plan.n < 1 << conv_tree_levels) {
                ConvWeightBlock b{};
                b.x = strip(block, 0);
                b.x_sample_stride = padded * channels;
                b.offset = offset;
                b.pixels = pixels;
                b.row_offset = row_offset;
                b.rows = plan.rows();
                b.run = plan.taps_w * channels;
                b.dy = gradient(tile, 0);
                b.dy_stride = tiles.width(tile);
                b.dy_sample_stride = pixels * b.dy_stride;
                b.out = gradient_at(block, tile);
                b.vectors = tiles.vectors(tile);
                b.samples = plan.n;
                b.channels_in = channels;
                b.all_channels_in = params.c_in;
                b.channels_out = tiles.of(tile);
                b.all_channels_out = params.c_out;
                kernels.weight_tree_block(b);
            } else {
                SampleTree tree(kernels, stack.data<float>(), panel_count(block, tile));
                for (i64 n = 0; n < plan.n; ++n) {
                    accumulate(strip(block, n), offset, pixels, row_offset, channels, gradient(tile, n),
                               tiles.width(tile), tiles.vectors(tile), tree.next(), false);
                    tree.push();
                }
                unpack(block, tile, tree.finish());
            }
            if (block != 0 || !dbias) return;
            SampleTree bias_tree(kernels, stack.data<float>(), tiles.width(tile));
            for (i64 n = 0; n < plan.n; ++n) {
                kernels.sum_pixels(bias_tree.next(), gradient(tile, n), tiles.width(tile), pixels, tiles.vectors(tile),
                                   false);
                bias_tree.push();
            }
            kernels.add_rows(dbias + tiles.first(tile), 0, bias_tree.finish(), 0, 1, tiles.of(tile));
        });
    }
};

}  // namespace

void conv_weight_gradient(const ConvKernels& kernels, float* dweight, float* dbias, const float* dy, const ConvInput& x,
                          const ConvParams& params, Stream& stream) {
    WeightGradient run(kernels, params, dweight, dbias, dy, x);
    // Per sample and from the shape alone, so that neither threads nor the rest of the batch decide how sums are split.
    const i64 pixels = params.grid.pixels();
    const bool panels =
        run.blocks.count * run.tiles.count >= 8 && 2 * params.weight_count() > pixels * (params.c_in + params.c_out);
    if (panels)
        run.by_panels(stream);
    else
        run.by_slices(stream, std::clamp<i64>(pixels / 2048, 1, 4));
}

}  // namespace cover::cpu
