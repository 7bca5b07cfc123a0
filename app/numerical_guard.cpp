#include "app/numerical_guard.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "app/batch_file.h"
#include "app/config.h"
#include "core/check.h"

namespace cover::app {

using nlohmann::ordered_json;

NumericalGuard::NumericalGuard(const TrainConfig& config, std::string folder, Trainer& trainer, Stream& stream,
                               Log& log, Progress& progress, std::function<std::string(std::int64_t)> name_of_sample)
    : config_(config),
      folder_(std::move(folder)),
      trainer_(trainer),
      stream_(stream),
      log_(log),
      progress_(progress),
      name_of_sample_(std::move(name_of_sample)) {}

std::string NumericalGuard::describe(const NonFinite& found, const std::vector<SampleKey>& keys) const {
    std::string samples;
    for (const std::int64_t at : found.samples)
        samples += (samples.empty() ? ", sample " : ", ") + name_of_sample_(keys[static_cast<std::size_t>(at)].sample);
    return "not finite first in the " + found.place() + samples;
}

NonFinitePolicy NumericalGuard::decide(const Tensor& images, const std::vector<SampleKey>& keys,
                                       const StepRecord& record) {
    ++count_;
    const std::int64_t step = record.step + 1;
    const Views views = make_views(images, keys, config_, stream_);
    const auto found = find_non_finite(trainer_.model(), views, config_.loss, stream_);
    const std::string where =
        found ? describe(*found, keys) : std::string("a sum that overflows, each of its parts is finite");
    // Leaving out a batch does not mend weights.
    const bool of_weights = found && found->tensor == "weight";
    const bool stop = config_.on_nonfinite == NonFinitePolicy::stop || count_ > config_.nonfinite_cap ||
                      (of_weights && config_.on_nonfinite == NonFinitePolicy::skip);

    const std::string path = fmt::format("{}/nonfinite-step-{:07}.safetensors", folder_, step);
    std::string stored;
    if (stop || count_ == 1) {
        try {
            write_batch(path, {step, images, keys, trainer_.model().to_file(), config_toml(config_), where});
            stored = "; `cover verify batch " + path + "` computes it again";
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::io) throw;
            stored = text("; its batch could not be kept: ", error.what());
        }
    }
    ordered_json samples = ordered_json::array();
    for (const auto& key : keys) samples.push_back({{"epoch", key.epoch}, {"sample", key.sample}});
    log_.write({{"event", "nonfinite"},
                {"step", step},
                {"loss", record.result.loss},
                {"grad_norm", record.result.grad_norm},
                {"where", where},
                {"batch", samples},
                {"policy", name_of(config_.on_nonfinite)},
                {"count", count_}});
    const std::string sentence = text("step ", step, ": the loss is ", record.result.loss, " and the gradient norm ",
                                      record.result.grad_norm, ", ", where, stored);
    if (stop) {
        const std::string cap =
            count_ > config_.nonfinite_cap && config_.on_nonfinite != NonFinitePolicy::stop
                ? text("; it is the ", count_, "th such step and --nonfinite-cap is ", config_.nonfinite_cap)
                : "";
        const char* advice =
            of_weights
                ? "; the weights themselves went beyond float32: go on from the last checkpoint with --resume"
                  " --on-nonfinite rollback, or start again with a lower --lr"
                : "; the weights are as they were before it: lower --lr, look at the data, or go on with --resume"
                  " and --on-nonfinite skip or rollback";
        fail(ErrorKind::numerical, text("[pretrain] ", sentence, cap, advice));
    }
    progress_.say(sentence);
    return config_.on_nonfinite;
}

void NumericalGuard::watch(const StepRecord& record, const std::vector<SampleKey>& keys) {
    const auto look = [&](SpreadMonitor& monitor, const char* what, double value) {
        const auto outlier = monitor.add(value);
        if (!outlier) return;
        ordered_json samples = ordered_json::array();
        for (const auto& key : keys) samples.push_back(key.sample);
        log_.write({{"event", "outlier"},
                    {"step", record.step + 1},
                    {"what", what},
                    {"value", value},
                    {"median", outlier->median},
                    {"spread", outlier->spread},
                    {"samples", samples}});
        progress_.say(fmt::format("step {}: {} {:.4g} is far from the {:.4g} of the last steps (spread {:.2g})",
                                  record.step + 1, what, value, outlier->median, outlier->spread));
    };
    look(loss_, "loss", record.result.loss);
    look(gradient_norm_, "grad_norm", record.result.grad_norm);
}

}  // namespace cover::app
