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
      model_(model_config(config), activation_type(config.precision), stream.device),
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
        record.result = run_step(views, record.lr);
    if (record.result.finite()) ++steps_done_;
    record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return record;
}

StepResult Trainer::run_step(const Views& views, double lr) {
    // The first step loads kernels and takes all memory; the second is recorded and, like those behind it, played.
    if (!has_run_ || !Recording::possible(stream_)) {
        has_run_ = true;
        return train_step(model_, optimizer_, views, config_.loss, lr, stream_);
    }
    optimizer_.schedule(lr);
    if (!recorded_) {
        auto step = std::make_unique<RecordedStep>();
        step->inputs = {.images = views.images.clone(), .field = views.field.clone(), .mask = views.mask.clone()};
        step->recording = std::make_unique<Recording>(
            stream_, [&] { step->results = enqueue_step(model_, optimizer_, step->inputs, config_.loss, stream_); });
        recorded_ = std::move(step);
    } else {
        recorded_->inputs.images.copy_from(views.images);
        recorded_->inputs.field.copy_from(views.field);
        recorded_->inputs.mask.copy_from(views.mask);
    }
    recorded_->recording->play();
    const StepResult result = recorded_->results.read();
    if (result.finite()) optimizer_.count_step();
    return result;
}

std::size_t estimate_memory(const TrainConfig& config, const std::array<std::int64_t, 3>& stored) {
    // Without fusion, which needs less. Numbers per pixel of full resolution that one image holds until its backward:
    // per stage the two raw convolution outputs, from which all that follows them is made again; coarser stages hold
    // fewer pixels.
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
    // Views: at most the stored image twice and its field.
    const double views =
        image_share * (static_cast<double>(config.dims) + 2 * static_cast<double>(config.in_channels)) / 2;
    const auto each = static_cast<double>(size_of(activation_type(config.precision)));
    ParameterSet parameters(config.dims);
    UNet(parameters, config.in_channels, config.channels);
    VectorPyramid(parameters, config.channels, config.heads, config.head_dim, config.radius, config.levels,
                  config.warp);
    std::int64_t largest = 0;
    for (const Parameter& p : parameters.list()) largest = std::max(largest, p.shape.count());
    // Values, gradients and two moments; a convolution's packed weights and partial sums.
    const double weights =
        (4.0 * static_cast<double>(parameters.trained_count()) + 2.0 * static_cast<double>(largest)) * sizeof(float);
    const double bytes = (floats + passing) * each + views * sizeof(float);
    return static_cast<std::size_t>(2 * static_cast<double>(config.batch) * pixels * bytes + weights);
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
