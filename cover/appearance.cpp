#include "cover/appearance.h"

#include <algorithm>
#include <cmath>

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

Grid grid_of(const Tensor& x, int spatial_dims) { return {spatial_dims, x.side(1), x.side(2), x.side(3)}; }

std::int64_t elements_of_sample(const Tensor& x) { return x.count() / x.side(0); }

RandomStream stream_of(const TrainConfig& config, Purpose purpose, const SampleKey& key) {
    return RandomStream({config.seed, key.epoch, key.sample, purpose, 0});
}

// The blocks of one sample that are painted over, at most config.inpaint_max_blocks; the rest stay empty.
void draw_blocks(BlockDraw* out, const Grid& grid, const TrainConfig& config, const SampleKey& key) {
    const Sides sides{grid.d, grid.h, grid.w};
    RandomStream random = stream_of(config, Purpose::inpaint, key);
    const PhiloxStream fill = stream_of(config, Purpose::inpaint_fill, key).blocks();
    std::int64_t filled = 0;
    for (int block = 0; block < config.inpaint_max_blocks; ++block) {
        if (!(random.uniform() < config.inpaint_probability)) break;
        BlockDraw& draw = out[block];
        draw = {.side = {1, 1, 1}, .first = filled, .stream = fill};
        for (int axis = 3 - grid.spatial_dims; axis < 3; ++axis) {
            const std::int64_t s = sides[static_cast<std::size_t>(axis)], low = std::max<std::int64_t>(1, 3 * s / 30);
            const std::int64_t high = std::max(low + 1, 4 * s / 30);
            draw.side[axis] = low + random.below(high - low);
            draw.corner[axis] = 3 + random.below(s - draw.side[axis] - 3 - 3);
        }
        filled += draw.side[0] * draw.side[1] * draw.side[2];
    }
}

// False for a patch in which the largest block that may be drawn leaves no corner in [3, s - side - 3).
bool has_room_for_blocks(const Grid& grid) {
    const Sides sides{grid.d, grid.h, grid.w};
    for (int axis = 3 - grid.spatial_dims; axis < 3; ++axis) {
        const std::int64_t s = sides[static_cast<std::size_t>(axis)];
        const std::int64_t largest = std::max({std::int64_t{1}, 3 * s / 30, 4 * s / 30 - 1});
        if (s - largest - 3 <= 3) return false;
    }
    return true;
}

}  // namespace

void blur(Tensor& x, const std::vector<double>& sigmas, int spatial_dims, Border border, Stream& stream) {
    std::vector<std::vector<double>> of_samples;
    GaussianBlurParams params{
        .n = x.side(0), .grid = grid_of(x, spatial_dims), .channels = x.side(4), .border = border};
    for (const double sigma : sigmas) {
        of_samples.push_back(gaussian_weights(sigma));
        params.radius = std::max(params.radius, static_cast<std::int64_t>(of_samples.back().size() / 2));
    }
    if (params.radius == 0) return;
    Tensor weights = Tensor::zeros({params.n, params.taps()}, DType::float64);
    for (std::size_t i = 0; i < of_samples.size(); ++i) {
        const std::int64_t zeros = params.radius - static_cast<std::int64_t>(of_samples[i].size() / 2);
        double* row = weights.data<double>() + static_cast<std::int64_t>(i) * params.taps();
        std::copy(of_samples[i].begin(), of_samples[i].end(), row + zeros);
    }
    const Tensor there = weights.to(stream.device);
    gaussian_blur(x.view(), there.view(), params, stream);
}

ElasticDraw draw_elastic(const TrainConfig& config, const RandomKey& key) {
    RandomStream random(key);
    ElasticDraw draw{.stream = random.blocks()};
    draw.sigma = random.uniform(config.elastic_sigma_min, config.elastic_sigma_max);
    draw.alpha = static_cast<float>(random.uniform(0, config.elastic_alpha_max));
    return draw;
}

void make_elastic(Tensor& waves, const std::vector<ElasticDraw>& draws, Stream& stream) {
    std::vector<NoiseDraw> noise;
    std::vector<double> sigmas;
    for (const ElasticDraw& draw : draws) {
        noise.push_back({draw.stream, 1});
        sigmas.push_back(draw.sigma);
    }
    const Tensor records = records_on<NoiseDraw>(stream.device, noise);
    constexpr std::int64_t first = 4;  // the first block served sigma and alpha
    uniform_noise(waves.view(), records.view(),
                  {.n = waves.side(0), .elements = elements_of_sample(waves), .first = first}, stream);
    blur(waves, sigmas, static_cast<int>(waves.side(4)), Border::zero, stream);
}

void change_appearance(Tensor& patches, const TrainConfig& config, const std::vector<SampleKey>& keys,
                       const std::vector<SampleKey>& strength_keys, Stream& stream) {
    const Grid grid = grid_of(patches, config.dims);
    const std::int64_t n = patches.side(0), elements = elements_of_sample(patches);
    std::vector<NoiseDraw> noise;
    std::vector<double> sigmas;
    std::vector<ContrastDraw> contrasts;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const auto strength = [&](Purpose purpose) { return stream_of(config, purpose, strength_keys[i]); };
        noise.push_back({stream_of(config, Purpose::noise, keys[i]).blocks(),
                         static_cast<float>(strength(Purpose::noise_strength).uniform(0, config.noise_sd_max))});
        sigmas.push_back(strength(Purpose::blur).uniform(0, config.blur_sigma_max));
        contrasts.push_back(
            {static_cast<float>(strength(Purpose::contrast).uniform(config.contrast_min, config.contrast_max)),
             static_cast<float>(config.brightness_sd * strength(Purpose::brightness).normal())});
    }
    const Tensor noise_there = records_on<NoiseDraw>(stream.device, noise);
    add_noise(patches.view(), noise_there.view(), {.n = n, .elements = elements}, stream);
    blur(patches, sigmas, config.dims, Border::reflect, stream);
    const Tensor contrasts_there = records_on<ContrastDraw>(stream.device, contrasts);
    change_contrast(patches.view(), contrasts_there.view(), {.n = n, .elements = elements}, stream);

    if (!has_room_for_blocks(grid) || config.inpaint_max_blocks == 0) return;
    const FillBlocksParams params{
        .n = n, .grid = grid, .channels = patches.side(4), .blocks = config.inpaint_max_blocks};
    std::vector<BlockDraw> blocks(static_cast<std::size_t>(n * params.blocks));
    for (std::size_t i = 0; i < keys.size(); ++i)
        draw_blocks(blocks.data() + static_cast<std::int64_t>(i) * params.blocks, grid, config, keys[i]);
    const Tensor blocks_there = records_on<BlockDraw>(stream.device, blocks);
    fill_blocks(patches.view(), blocks_there.view(), params, stream);
}

}  // namespace cover
