#include "cover/appearance.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cover/views.h"

namespace cover {
namespace {

using Sides = std::array<std::int64_t, 3>;

std::vector<double> gaussian_weights(double sigma) {
    const auto radius = static_cast<std::int64_t>(4 * sigma + 0.5);
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t i = -radius; i <= radius; ++i) {
        weights.push_back(radius == 0 ? 1 : std::exp(-0.5 * static_cast<double>(i * i) / (sigma * sigma)));
        sum += weights.back();
    }
    for (double& w : weights) w /= sum;
    return weights;
}

std::int64_t mirrored(std::int64_t i, std::int64_t side) {
    const std::int64_t period = 2 * side;
    i = ((i % period) + period) % period;
    return i < side ? i : period - 1 - i;
}

}  // namespace

void gaussian_blur(float* data, int spatial_dims, const Sides& sides, std::int64_t channels, double sigma,
                   Border border) {
    const std::vector<double> weights = gaussian_weights(sigma);
    const auto radius = static_cast<std::int64_t>(weights.size() / 2);
    if (radius == 0) return;
    const std::int64_t strides[3] = {sides[1] * sides[2] * channels, sides[2] * channels, channels};
    for (int axis = 3 - spatial_dims; axis < 3; ++axis) {
        const std::int64_t side = sides[static_cast<std::size_t>(axis)], stride = strides[axis];
        const std::int64_t lines = sides[0] * sides[1] * sides[2] * channels / side;
        std::vector<double> line(static_cast<std::size_t>(side));
        for (std::int64_t l = 0; l < lines; ++l) {
            // Line l starts at the element whose coordinate on `axis` is zero.
            float* start = data + l / stride * stride * side + l % stride;
            for (std::int64_t i = 0; i < side; ++i) line[static_cast<std::size_t>(i)] = start[i * stride];
            for (std::int64_t i = 0; i < side; ++i) {
                double sum = 0;
                for (std::int64_t k = -radius; k <= radius; ++k) {
                    const std::int64_t j = border == Border::reflect ? mirrored(i + k, side) : i + k;
                    if (j < 0 || j >= side) continue;
                    sum += weights[static_cast<std::size_t>(k + radius)] * line[static_cast<std::size_t>(j)];
                }
                start[i * stride] = static_cast<float>(sum);
            }
        }
    }
}

void add_elastic(float* field, int spatial_dims, const Sides& sides, const TrainConfig& config, const RandomKey& key) {
    const std::int64_t pixels = sides[0] * sides[1] * sides[2];
    RandomStream random(key);
    const double sigma = random.uniform(config.elastic_sigma_min, config.elastic_sigma_max);
    const double alpha = random.uniform(0, config.elastic_alpha_max);
    std::vector<float> noise(static_cast<std::size_t>(pixels * spatial_dims));
    // The first block served sigma and alpha.
    for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = 2 * random.uniform_at(i + 4) - 1;
    gaussian_blur(noise.data(), spatial_dims, sides, spatial_dims, sigma, Border::zero);
    for (std::size_t i = 0; i < noise.size(); ++i) field[i] += static_cast<float>(alpha) * noise[i];
}

void change_appearance(float* patch, int spatial_dims, const Sides& sides, std::int64_t channels,
                       const TrainConfig& config, const SampleKey& key, const SampleKey& strength_key) {
    const std::int64_t count = sides[0] * sides[1] * sides[2] * channels;
    const auto stream = [&](Purpose purpose, const SampleKey& k) {
        return RandomStream({config.seed, k.epoch, k.sample, purpose, 0});
    };

    const auto noise_sd =
        static_cast<float>(stream(Purpose::noise_strength, strength_key).uniform(0, config.noise_sd_max));
    const RandomStream noise = stream(Purpose::noise, key);
    for (std::int64_t i = 0; i < count; i += 4) {
        const auto values = normals(noise.block(static_cast<std::uint32_t>(i / 4)));
        for (std::int64_t j = i; j < std::min(i + 4, count); ++j)
            patch[j] += noise_sd * static_cast<float>(values[static_cast<std::size_t>(j - i)]);
    }

    gaussian_blur(patch, spatial_dims, sides, channels,
                  stream(Purpose::blur, strength_key).uniform(0, config.blur_sigma_max), Border::reflect);

    const auto contrast =
        static_cast<float>(stream(Purpose::contrast, strength_key).uniform(config.contrast_min, config.contrast_max));
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += patch[i];
    const auto mean = static_cast<float>(sum / static_cast<double>(count));
    const auto brightness =
        static_cast<float>(config.brightness_sd * stream(Purpose::brightness, strength_key).normal());
    for (std::int64_t i = 0; i < count; ++i) patch[i] = (patch[i] - mean) * contrast + mean + brightness;

    const int first = 3 - spatial_dims;
    bool room = true;
    for (int axis = first; axis < 3; ++axis) {
        // The largest block that may be drawn must leave a corner in [3, s - side - 3).
        const std::int64_t s = sides[static_cast<std::size_t>(axis)];
        const std::int64_t largest = std::max({std::int64_t{1}, 3 * s / 30, 4 * s / 30 - 1});
        room = room && s - largest - 3 > 3;
    }
    if (!room) return;
    RandomStream blocks = stream(Purpose::inpaint, key);
    const RandomStream fill = stream(Purpose::inpaint_fill, key);
    std::uint64_t filled = 0;
    for (int block = 0; block < config.inpaint_max_blocks; ++block) {
        if (!(blocks.uniform() < config.inpaint_probability)) break;
        Sides side{1, 1, 1}, corner{};
        for (int axis = first; axis < 3; ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            const std::int64_t s = sides[a], low = std::max<std::int64_t>(1, 3 * s / 30);
            const std::int64_t high = std::max(low + 1, 4 * s / 30);
            side[a] = low + blocks.below(high - low);
            corner[a] = 3 + blocks.below(s - side[a] - 3 - 3);
        }
        for (std::int64_t d = corner[0]; d < corner[0] + side[0]; ++d)
            for (std::int64_t h = corner[1]; h < corner[1] + side[1]; ++h)
                for (std::int64_t w = corner[2]; w < corner[2] + side[2]; ++w) {
                    const float value = fill.uniform_at(filled++);
                    float* pixel = patch + ((d * sides[1] + h) * sides[2] + w) * channels;
                    for (std::int64_t c = 0; c < channels; ++c) pixel[c] = value;
                }
    }
}

}  // namespace cover
