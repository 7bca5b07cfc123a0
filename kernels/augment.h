// What changes the pixels of a view, spec section 6, each op on a batch of samples with settings of their own: noise, a
// separable Gaussian, contrast and brightness, blocks of noise painted in; and the noise that an elastic field is made
// of. Random numbers come from core/philox.h and are named by the element's index in its sample.
//
// The float32 rows `ref` are those that run on the CPU: next to a training step there all of this is little.
#pragma once

#include <span>

#include "core/philox.h"
#include "core/shape.h"
#include "kernels/records.h"
#include "kernels/variant.h"

namespace cover {

// A sample's noise, a record of uniform_noise and add_noise.
struct NoiseDraw {
    PhiloxStream stream;
    float size = 1;
};

struct NoiseParams {
    std::int64_t n = 1;
    std::int64_t elements = 1;  // of a sample
    std::int64_t first = 0;     // number of the stream that element 0 takes; uniform_noise only

    constexpr std::int64_t count() const { return n * elements; }
};

using UniformNoiseRun = void(View y, ConstView draws, const NoiseParams&, Stream&);
using UniformNoiseVariant = Variant<NoiseParams, UniformNoiseRun>;
std::span<const UniformNoiseVariant> uniform_noise_table();
// y (n, elements) = size * (2 u - 1), u in [0, 1): overwritten. The same bits on every device.
UniformNoiseRun uniform_noise;

using AddNoiseRun = void(View x, ConstView draws, const NoiseParams&, Stream&);
using AddNoiseVariant = Variant<NoiseParams, AddNoiseRun>;
std::span<const AddNoiseVariant> add_noise_table();
// x (n, elements) += size * g in place, g standard normal; four elements share a block of the stream.
AddNoiseRun add_noise;

// What lies outside: zero, or the image mirrored at its border (reflect: d c b a | a b c d | d c b a).
enum class Border : std::uint8_t { zero, reflect };

struct GaussianBlurParams {
    std::int64_t n = 1;
    Grid grid;
    std::int64_t channels = 1;
    std::int64_t radius = 0;
    Border border = Border::zero;

    constexpr std::int64_t taps() const { return 2 * radius + 1; }
    constexpr std::int64_t count() const { return n * grid.pixels() * channels; }
};

// The place that lies `i` steps from the border of a mirrored line.
COVER_HOST_DEVICE inline std::int64_t mirrored(std::int64_t i, std::int64_t side) {
    const std::int64_t period = 2 * side;
    i = ((i % period) + period) % period;
    return i < side ? i : period - 1 - i;
}

using GaussianBlurRun = void(View x, ConstView weights, const GaussianBlurParams&, Stream&);
using GaussianBlurVariant = Variant<GaussianBlurParams, GaussianBlurRun>;
std::span<const GaussianBlurVariant> gaussian_blur_table();
// x (n,D,H,W,C) in place, along each spatial axis in turn, D first; stored in x's type behind each. weights (n, taps),
// float64, with which the sums are taken, in the order of the taps and rounded after each step: the same bits on every
// device. A sample with a smaller radius has zeros at both ends.
GaussianBlurRun gaussian_blur;

// A record of change_contrast.
struct ContrastDraw {
    float contrast = 1, brightness = 0;
};

struct ContrastParams {
    std::int64_t n = 1;
    std::int64_t elements = 1;  // of a sample

    constexpr std::int64_t count() const { return n * elements; }
};

using ChangeContrastRun = void(View x, ConstView draws, const ContrastParams&, Stream&);
using ChangeContrastVariant = Variant<ContrastParams, ChangeContrastRun>;
std::span<const ChangeContrastVariant> change_contrast_table();
// x (n, elements) = (x - mean) * contrast + mean + brightness in place; the mean is the sample's, summed in double.
ChangeContrastRun change_contrast;

// One block that is painted in, a record of fill_blocks.
struct BlockDraw {
    std::int64_t corner[3] = {};  // (D, H, W)
    std::int64_t side[3] = {};    // 0: no block
    std::int64_t first = 0;       // number of the stream that its first pixel takes; further ones in row order
    PhiloxStream stream;
    std::uint32_t unused = 0;
};

struct FillBlocksParams {
    std::int64_t n = 1;
    Grid grid;
    std::int64_t channels = 1;
    std::int64_t blocks = 1;  // per sample

    constexpr std::int64_t count() const { return n * grid.pixels() * channels; }
};

using FillBlocksRun = void(View x, ConstView draws, const FillBlocksParams&, Stream&);
using FillBlocksVariant = Variant<FillBlocksParams, FillBlocksRun>;
std::span<const FillBlocksVariant> fill_blocks_table();
// x (n,D,H,W,C) in place: every pixel of a block gets one number of [0, 1), the same for each channel; of two blocks
// the later one stays. draws (n, blocks). The same bits on every device.
FillBlocksRun fill_blocks;

// Throw Error(internal) on sizes below 1, a 2D grid with D != 1 and a negative radius or first number.
void validate(const NoiseParams& params);
void validate(const GaussianBlurParams& params);
void validate(const ContrastParams& params);
void validate(const FillBlocksParams& params);

namespace ref {
std::span<const UniformNoiseVariant> uniform_noise_rows();
std::span<const AddNoiseVariant> add_noise_rows();
std::span<const GaussianBlurVariant> gaussian_blur_rows();
std::span<const ChangeContrastVariant> change_contrast_rows();
std::span<const FillBlocksVariant> fill_blocks_rows();
}  // namespace ref

}  // namespace cover
