#include "cover/trainer.h"

#include <algorithm>
#include <chrono>

#include "nn/init.h"
#include "nn/schedule.h"

namespace cover {

ModelConfig model_config(const TrainConfig& config) {
    return {.spatial_dims = config.dims,
            .in_channels = config.in_channels,
            .channels = config.channels,
            .head_dim = config.head_dim,
            .heads = config.heads,
            .radius = config.radius,
            .levels = config.levels,
            .warp = config.warp};
}

OptimizerOptions optimizer_options(const TrainConfig& config) {
    return {.adam = config.optimizer == OptimizerKind::adam,
            .beta1 = config.beta1,
            .beta2 = config.beta2,
            .epsilon = config.epsilon,
            .momentum = config.momentum,
            .weight_decay = config.weight_decay,
            .clip = config.clip};
}

Trainer::Trainer(const TrainConfig& config, Stream& stream)
    : config_(config),
      stream_(stream),
      model_(model_config(config), DType::float32, stream.device),
      optimizer_(model_.parameters(), optimizer_options(config)) {
    initialise(model_.parameters(), config.seed);
}

StepRecord Trainer::step(const Tensor& images, const std::vector<SampleKey>& keys) {
    const auto start = std::chrono::steady_clock::now();
    StepRecord record{.step = steps_done_,
                      .lr = learning_rate(config_.lr, config_.schedule == ScheduleKind::cosine, config_.warmup,
                                          steps_done_, config_.steps)};
    const Views views = make_views(images, keys, config_, stream_);
    record.valid = views.valid;
    record.redrawn = views.redrawn;
    record.skipped = views.empty;
    if (views.empty)
        ++steps_skipped_;
    else
        record.result = train_step(model_, optimizer_, views, config_.loss, record.lr, stream_);
    if (record.result.finite()) ++steps_done_;
    record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return record;
}

std::size_t estimate_memory(const TrainConfig& config, const std::array<std::int64_t, 3>& stored) {
    // Floats per pixel of full resolution that one image holds until its backward: per stage the two raw convolution
    // outputs, from which all that follows them is made again; coarser stages hold fewer pixels.
    const auto& c = config.channels;
    const double shrink = config.dims == 2 ? 0.25 : 0.125;
    double floats = 2 * static_cast<double>(config.in_channels), share = 1;
    // Alive at the peak besides: the joined input of the last decoder stage while it is put together again from its two
    // parts, or a level's queries and keys with their gradients.
    double passing = 2 * static_cast<double>(c[0] + c[7]);
    for (std::size_t level = 0; level < 5; ++level, share *= shrink) {
        const auto encoder = static_cast<double>(c[level]);
        floats += share * 2 * encoder;
        // The projection of a level; f5 to f1 stand from coarse to fine.
        const double projected = static_cast<double>(config.heads[4 - level]) * static_cast<double>(config.head_dim);
        floats += share * projected;
        passing = std::max(passing, share * 3 * projected);
        if (level > 0) floats += share * static_cast<double>(c[level - 1]);  // pooled input
        if (level < 4) {
            const auto decoder = static_cast<double>(c[8 - level]);
            // And the warped features of one of the two views, and the gradient of both.
            floats += share * (2 + 0.5 + 1) * decoder;
        }
    }
    const double pixels = static_cast<double>(config.patch[0] * config.patch[1] * config.patch[2]);
    const double image_share =
        static_cast<double>(stored[0]) * static_cast<double>(stored[1]) * static_cast<double>(stored[2]) / pixels;
    // Views: the stored image twice and its field.
    floats +=
        passing + image_share * (static_cast<double>(config.dims) + 2 * static_cast<double>(config.in_channels)) / 2;
    ParameterSet parameters(config.dims);
    UNet(parameters, config.in_channels, config.channels);
    VectorPyramid(parameters, config.channels, config.heads, config.head_dim, config.radius, config.levels,
                  config.warp);
    std::int64_t largest = 0;
    for (const Parameter& p : parameters.list()) largest = std::max(largest, p.shape.count());
    // Values, gradients and two moments; a convolution's packed weights and partial sums.
    const double weights =
        (4.0 * static_cast<double>(parameters.trained_count()) + 2.0 * static_cast<double>(largest)) * sizeof(float);
    return static_cast<std::size_t>(2 * static_cast<double>(config.batch) * pixels * floats * sizeof(float) + weights);
}

std::int64_t largest_batch(const TrainConfig& config, const std::array<std::int64_t, 3>& stored, std::size_t bytes) {
    TrainConfig tried = config;
    std::int64_t fits = 0, beyond = config.batch + 1;
    while (fits + 1 < beyond) {
        tried.batch = fits + (beyond - fits) / 2;
        (estimate_memory(tried, stored) <= bytes ? fits : beyond) = tried.batch;
    }
    return fits;
}

}  // namespace cover
