#include "app/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "app/config.h"
#include "app/log.h"
#include "app/machine.h"
#include "app/pictures.h"
#include "app/progress.h"
#include "app/version.h"
#include "app/weights.h"
#include "core/check.h"
#include "core/file.h"
#include "cover/trainer.h"
#include "data/loader.h"

namespace cover::app {
namespace {

using nlohmann::ordered_json;

constexpr std::uint32_t holdout_epoch = 0xfffffffd;  // no run comes this far: its draws are its own
constexpr std::size_t most_heldout = 256;            // samples that are scored at a time

std::atomic<int> stop_signal{0};

// The first signal asks the run to stop after this step; a second one kills it as usual.
class SignalGuard {
public:
    SignalGuard() {
        stop_signal = 0;
        for (const int number : {SIGINT, SIGTERM})
            before_[number] = std::signal(number, [](int received) {
                stop_signal = received;
                std::signal(received, SIG_DFL);
            });
    }
    ~SignalGuard() {
        for (const auto& [number, handler] : before_) std::signal(number, handler);
    }
    SignalGuard(const SignalGuard&) = delete;
    SignalGuard& operator=(const SignalGuard&) = delete;

private:
    std::map<int, void (*)(int)> before_;
};

void refuse_used_folder(const std::string& folder) {
    for (const char* name : {"config.toml", "log.jsonl", "model.safetensors", "checkpoints"}) {
        std::error_code error;
        require(!std::filesystem::exists(folder + "/" + name, error), ErrorKind::configuration, "[pretrain] ", folder,
                ": holds a run already (", name, "); choose another --out");
    }
}

struct Split {
    std::vector<std::int64_t> training, heldout;
};

// Whole subjects are held out: two images of one person never stand on both sides.
Split split_by_subject(const PatchFile& patches, const TrainConfig& config) {
    std::map<std::string, std::vector<std::int64_t>> subjects;
    for (std::int64_t i = 0; i < patches.sample_count(); ++i) subjects[patches.subject(i)].push_back(i);
    std::vector<const std::vector<std::int64_t>*> order;
    for (const auto& [name, samples] : subjects) order.push_back(&samples);
    RandomStream random({.seed = config.seed, .purpose = Purpose::split});
    for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
    auto held = static_cast<std::size_t>(std::llround(config.holdout * static_cast<double>(order.size())));
    if (config.holdout > 0) held = std::max<std::size_t>(held, 1);
    require(held < order.size(), ErrorKind::configuration, "[config] holdout: ", config.holdout, " of ", order.size(),
            " subjects leaves none to train on");
    Split split;
    for (std::size_t i = 0; i < order.size(); ++i) {
        auto& side = i < held ? split.heldout : split.training;
        side.insert(side.end(), order[i]->begin(), order[i]->end());
    }
    std::sort(split.training.begin(), split.training.end());
    std::sort(split.heldout.begin(), split.heldout.end());
    return split;
}

// Losses of the held-out samples, each with the same views every time.
StepResult heldout_losses(const Model& model, const TrainConfig& config, const PatchFile& patches,
                          std::vector<std::int64_t> samples, Stream& stream) {
    samples.resize(std::min(samples.size(), most_heldout));
    StepResult sum;
    double weight = 0;
    for (std::size_t from = 0; from < samples.size(); from += static_cast<std::size_t>(config.batch)) {
        const auto to = std::min(samples.size(), from + static_cast<std::size_t>(config.batch));
        const std::vector<std::int64_t> part(samples.begin() + static_cast<long>(from),
                                             samples.begin() + static_cast<long>(to));
        const Views views = make_views(read_images(patches, part), keys_of(part, holdout_epoch), config, stream);
        if (views.empty) continue;
        const StepResult result = evaluate_step(model, views, stream);
        const double pixels = views.valid * static_cast<double>(part.size());
        sum.loss_vec += pixels * result.loss_vec;
        sum.loss_con += pixels * result.loss_con;
        sum.loss_vec_zero += pixels * result.loss_vec_zero;
        weight += pixels;
    }
    if (weight > 0) {
        sum.loss_vec /= weight;
        sum.loss_con /= weight;
        sum.loss_vec_zero /= weight;
    }
    sum.loss = sum.loss_vec + sum.loss_con;
    return sum;
}

void check_memory(const TrainConfig& config) {
    const std::size_t needed = estimate_memory(config), available = available_bytes();
    if (available == 0 || needed <= available) return;
    const auto fits = largest_batch(config, available);
    fail(ErrorKind::device,
         fmt::format("[pretrain] batch {} of this patch needs about {:.1f} GiB and {:.1f} GiB are free; {}",
                     config.batch, static_cast<double>(needed) / (1 << 30), static_cast<double>(available) / (1 << 30),
                     fits > 0 ? fmt::format("the largest batch that fits is {}: --batch {}", fits, fits)
                              : "not even a batch of 1 fits: choose a smaller --patch"));
}

std::string patch_text(const TrainConfig& config) {
    return config.dims == 2 ? text(config.patch[1], " x ", config.patch[2])
                            : text(config.patch[0], " x ", config.patch[1], " x ", config.patch[2]);
}

double mean_of_last(const std::vector<StepPoint>& steps, double StepPoint::*value) {
    std::vector<double> values;
    for (const auto& step : steps) values.push_back(step.*value);
    return values.empty() ? std::nan("") : running_mean(values, 25).back();
}

class Run {
public:
    Run(TrainConfig& config, const std::string& folder, const std::vector<std::string>& picture_data)
        : config_(config), folder_(folder), picture_data_(picture_data), patches_(PatchFile::open(config.data)) {
        split_ = split_by_subject(patches_, config_);
        const Grid grid = patches_.grid();
        complete_config(config_, {patches_.spatial_dims(),
                                  patches_.channels(),
                                  {grid.d, grid.h, grid.w},
                                  static_cast<std::int64_t>(split_.training.size())});
    }

    TrainingOutcome go() {
        Machine machine(config_);
        require(machine.dtype() == DType::float32, ErrorKind::configuration,
                "[config] precision: fp64 is for `cover verify` only; take fp32");
        check_memory(config_);
        Trainer trainer(config_, machine.stream());
        if (!config_.init.empty()) initialise_from_file(trainer.model());
        trainer_ = &trainer;
        stream_ = &machine.stream();
        metadata_ = weights_metadata(config_, patches_.preprocessing());

        create_folder(folder_);
        write_file(folder_ + "/config.toml", config_toml(config_));
        const auto data_hash = patches_.content_hash();
        write_file(folder_ + "/manifest.json", manifest(data_hash).dump(2) + "\n");
        Log log(folder_ + "/log.jsonl");
        Progress progress(config_.steps, config_.batch);
        announce(progress);
        log.write({{"event", "start"},
                   {"program", "cover " + version()},
                   {"steps", config_.steps},
                   {"batch", config_.batch},
                   {"samples", split_.training.size()},
                   {"heldout", split_.heldout.size()},
                   {"data_hash", data_hash},
                   {"beyond_reach", reach_.beyond},
                   {"device", name_of(config_.device)},
                   {"precision", name_of(config_.precision)},
                   {"kernels", kernel_summary(config_)},
                   {"threads", config_.threads}});

        Loader loader(patches_, {.batch = config_.batch,
                                 .seed = config_.seed,
                                 .threads = config_.loader_threads,
                                 .indices = split_.training});
        const SignalGuard guard;
        const auto start = std::chrono::steady_clock::now();
        try {
            while (trainer.steps_done() < config_.steps && stop_signal == 0) step(loader, log, progress);
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::numerical) throw;
            progress.finish();
            finish(start, trainer.steps_done());
            log.write({{"event", "stop"}, {"step", trainer.steps_done()}, {"why", error.what()}});
            throw;
        }
        progress.finish();
        if (last_saved_ != trainer.steps_done()) save(log, progress);
        finish(start, trainer.steps_done());
        const bool interrupted = stop_signal != 0;
        log.write({{"event", "stop"},
                   {"step", trainer.steps_done()},
                   {"why", interrupted ? "interrupted" : "finished"},
                   {"seconds", outcome_.seconds},
                   {"skipped", outcome_.skipped},
                   {"redrawn", outcome_.redrawn},
                   {"peak_bytes", peak_process_bytes()}});
        require(!interrupted, ErrorKind::interrupted, "[pretrain] interrupted after ", trainer.steps_done(), " of ",
                config_.steps, " steps; the weights so far are in ", folder_, "/model.safetensors");
        return std::move(outcome_);
    }

private:
    void initialise_from_file(Model& model) {
        const auto file = read_safetensors(config_.init);
        model.load(file.tensors, config_.init, is_backbone_only(file));
    }

    ordered_json manifest(const std::string& data_hash) const {
        return {{"program", "cover " + version()},
                {"build", build_description()},
                {"data_hash", data_hash},
                {"device", name_of(config_.device)},
                {"processor", processor_name()},
                {"precision", name_of(config_.precision)},
                {"kernels", kernel_summary(config_)},
                {"parameters", trainer_->model().parameters().trained_count()}};
    }

    void announce(Progress& progress) {
        const auto& sides = patches_.grid();
        progress.say(fmt::format(
            "{} images of {}, {} held out; {} steps of {}, patch {}, {} threads, about {:.2f} GiB of memory",
            patches_.sample_count(),
            config_.dims == 2 ? text(sides.h, " x ", sides.w) : text(sides.d, " x ", sides.h, " x ", sides.w),
            split_.heldout.size(), config_.steps, config_.batch, patch_text(config_), config_.threads,
            static_cast<double>(estimate_memory(config_)) / (1 << 30)));
        constexpr int draws = 1000;
        reach_ = reach_statistics(config_, {sides.d, sides.h, sides.w}, draws);
        const char* consequence = config_.limit_reach == LimitReach::off
                                      ? "; --limit-reach redraw or scale keeps them within"
                                      : "; --limit-reach keeps them within";
        progress.say(fmt::format(
            "{:.1f} % of the valid pixels have a true displacement beyond the pyramid's reach of {:g} pixels{}",
            100 * reach_.beyond, pyramid_reach(config_), reach_.beyond > 0 ? consequence : ""));
    }

    void step(Loader& loader, Log& log, Progress& progress) {
        const Batch batch = loader.next();
        std::vector<SampleKey> keys;
        for (const auto& sample : batch.samples)
            keys.push_back({sample.epoch, static_cast<std::uint32_t>(sample.index)});
        const StepRecord record = trainer_->step(batch.images, keys);
        const std::int64_t number = trainer_->steps_done();
        const double seconds = record.seconds + batch.waited;
        if (record.redrawn > 0) {
            outcome_.redrawn += record.redrawn;
            log.write({{"event", "redrawn"}, {"step", number}, {"samples", record.redrawn}});
        }
        if (record.skipped) {
            ++outcome_.skipped;
            log.write({{"event", "skipped"}, {"step", number}, {"why", "no pixel of the batch is valid"}});
        } else {
            log.write({{"event", "step"},
                       {"step", number},
                       {"loss", record.result.loss},
                       {"loss_vec", record.result.loss_vec},
                       {"loss_con", record.result.loss_con},
                       {"loss_vec_ratio", record.loss_vec_ratio()},
                       {"grad_norm", record.result.grad_norm},
                       {"lr", record.lr},
                       {"valid", record.valid},
                       {"seconds", seconds},
                       {"wait", seconds > 0 ? batch.waited / seconds : 0}});
            outcome_.report.steps.push_back(
                {number, record.result.loss_vec, record.result.loss_con, record.loss_vec_ratio()});
            progress.update(number, record.result.loss, record.loss_vec_ratio(), seconds);
        }
        if (number % config_.checkpoint_every == 0) save(log, progress);
    }

    void save(Log& log, Progress& progress) {
        last_saved_ = trainer_->steps_done();
        write_safetensors(folder_ + "/model.safetensors", trainer_->model().to_file(), metadata_);
        if (split_.heldout.empty()) return;
        const StepResult losses = heldout_losses(trainer_->model(), config_, patches_, split_.heldout, *stream_);
        const double ratio = losses.loss_vec / losses.loss_vec_zero;
        log.write({{"event", "holdout"},
                   {"step", last_saved_},
                   {"loss", losses.loss},
                   {"loss_vec", losses.loss_vec},
                   {"loss_con", losses.loss_con},
                   {"loss_vec_ratio", ratio}});
        outcome_.report.heldout.push_back({last_saved_, ratio});
        progress.say(fmt::format("step {}: held-out loss {:.4g}, ratio {:.3f}", last_saved_, losses.loss, ratio));
    }

    void finish(std::chrono::steady_clock::time_point start, std::int64_t steps) {
        outcome_.steps = steps;
        outcome_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        auto& report = outcome_.report;
        outcome_.loss_vec_ratio = mean_of_last(report.steps, &StepPoint::loss_vec_ratio);
        outcome_.loss_con = mean_of_last(report.steps, &StepPoint::loss_con);
        report.title = "COVER pretraining: " + std::filesystem::path(folder_).filename().string();
        report.summary = fmt::format(
            "{} steps of {} images, patch {}. Over the last 25 steps the predicted displacement misses the true one by "
            "{:.3f} of what predicting no displacement would miss (loss_vec_ratio).",
            steps, config_.batch, patch_text(config_), outcome_.loss_vec_ratio);
        const double reach = pyramid_reach(config_);
        report.facts = {
            {"Program", "cover " + version() + " (" + build_description() + ")"},
            {"Data", text(patches_.sample_count(), " images, ", split_.heldout.size(), " of them held out")},
            {"Network", text(trainer_->model().parameters().trained_count(), " parameters, ", config_.dims, "D")},
            {"Warp", name_of(config_.warp)},
            {"Time", fmt::format("{}, {:.1f} images per second", duration_text(outcome_.seconds),
                                 static_cast<double>(steps * config_.batch) / outcome_.seconds)},
            {"Machine", text(processor_name(), ", ", config_.threads, " threads, ", name_of(config_.device), ", ",
                             name_of(config_.precision))},
            {"Beyond the pyramid's reach",
             fmt::format("{:.1f} % of the valid pixels ({:g} pixels)", 100 * reach_.beyond, reach)},
            {"Steps skipped, samples redrawn", text(outcome_.skipped, ", ", outcome_.redrawn)},
        };
        report.config = config_toml(config_);
        report.pairs = pictures();
        write_report(folder_, report);
    }

    std::vector<ViewPair> pictures() const {
        const Model& model = trainer_->model();
        if (!picture_data_.empty()) {
            const auto others = PatchFile::open(picture_data_);
            std::vector<std::int64_t> samples;
            for (std::int64_t i = 0; i < others.sample_count(); ++i) samples.push_back(i);
            return picture_pairs(model, config_, others, samples, "Held out:", *stream_);
        }
        if (!split_.heldout.empty())
            return picture_pairs(model, config_, patches_, split_.heldout, "Held out:", *stream_);
        return picture_pairs(model, config_, patches_, split_.training, "Trained on:", *stream_);
    }

    TrainConfig& config_;
    std::string folder_;
    std::vector<std::string> picture_data_;
    PatchFile patches_;
    Split split_;
    Metadata metadata_;
    ReachStatistics reach_;
    Trainer* trainer_ = nullptr;
    Stream* stream_ = nullptr;
    std::int64_t last_saved_ = -1;
    TrainingOutcome outcome_;
};

}  // namespace

TrainingOutcome train(TrainConfig config, const std::string& folder, const std::vector<std::string>& picture_data) {
    check_config(config);
    refuse_used_folder(folder);
    return Run(config, folder, picture_data).go();
}

void write_report(const std::string& folder, const RunReport& report) {
    write_file(folder + "/report.html", render_report(report));
}

std::vector<std::pair<std::string, std::string>> score_rows(const Evaluation& e) {
    std::string similarity;
    for (std::size_t k = 0; k < e.similarity.size(); ++k)
        if (std::isfinite(e.similarity[k]))
            similarity += fmt::format("{}{} px: {:.3f}", similarity.empty() ? "" : ", ", similarity_distances[k],
                                      e.similarity[k]);
    return {
        {"epe: mean distance of predicted and true displacement", fmt::format("{:.3f} pixels", e.epe)},
        {"epe_ratio: that as a share of the mean displacement", fmt::format("{:.3f}", e.epe_ratio)},
        {"loss_vec_ratio", fmt::format("{:.3f}", e.loss_vec_ratio)},
        {"consistency: mean cosine of matching features", fmt::format("{:.4f}", e.consistency)},
        {"similarity: mean cosine of features that far apart", similarity},
        {"beyond_reach", fmt::format("{:.1f} %", 100 * e.beyond_reach)},
        {"pairs", text(e.pairs)},
    };
}

}  // namespace cover::app
