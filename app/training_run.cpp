#include "app/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/batch_stage.h"
#include "app/checkpoints.h"
#include "app/config.h"
#include "app/holdout.h"
#include "app/log.h"
#include "app/machine.h"
#include "app/numerical_guard.h"
#include "app/pictures.h"
#include "app/progress.h"
#include "app/report_build.h"
#include "app/run_folder.h"
#include "app/stop_signal.h"
#include "app/version.h"
#include "app/weights.h"
#include "core/check.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/rng.h"
#include "cover/trainer.h"
#include "data/loader.h"

namespace cover::app {
namespace {

using nlohmann::ordered_json;

constexpr const char* nonfinite_key = "nonfinite";  // in a checkpoint: steps that were not finite so far

std::string patch_text(const TrainConfig& config) {
    return config.dims == 2 ? text(config.patch[1], " x ", config.patch[2])
                            : text(config.patch[0], " x ", config.patch[1], " x ", config.patch[2]);
}

// A row that --kernel names but that cannot run here is found before a folder is made: one image goes through a network
// of the run's shapes, which is then dropped.
void try_selected_rows(TrainConfig config, const Grid& grid, Stream& stream) {
    if (config.kernel.empty()) return;
    config.batch = 1;
    Trainer trainer(config, stream);
    Tensor images = Tensor::empty({1, grid.d, grid.h, grid.w, config.in_channels});
    RandomStream random({.seed = config.seed});
    for (std::int64_t i = 0; i < images.count(); ++i)
        images.data<float>()[i] = static_cast<float>(random.uniform(0, 1));
    constexpr std::uint32_t tries = 16;  // some views have no valid pixel
    for (std::uint32_t i = 0; i < tries; ++i)
        if (!trainer.step(images, {{i, 0}}).skipped) return;
}

class Run {
public:
    Run(TrainConfig& config, const std::string& folder, const std::vector<std::string>& picture_data,
        const ResumeOptions& resume)
        : config_(config),
          folder_(folder),
          picture_data_(picture_data),
          resume_(resume),
          patches_(PatchFile::open(config.data)) {
        split_ = split_by_subject(patches_, config_);
        complete_config(config_, facts_of_data());
    }

    TrainingOutcome go() {
        Machine machine(config_);
        require(machine.dtype() != DType::float64, ErrorKind::configuration,
                "[config] precision: fp64 is for `cover verify` only; take fp32");
        check_memory("pretrain", config_, facts_of_data().sides, LoaderOptions().ring + 1);
        try_selected_rows(config_, patches_.grid(), machine.stream());
        Trainer trainer(config_, machine.stream());
        trainer_ = &trainer;
        stream_ = &machine.stream();
        metadata_ = weights_metadata(config_, patches_.preprocessing());
        data_hash_ = patches_.content_hash();
        Progress progress(config_.steps, config_.batch);

        if (resume_.resume) return_to_checkpoint(progress);
        if (last_saved_ < 0 && !config_.init.empty()) initialise_from_file(trainer.model());
        if (is_complete(progress)) return std::move(outcome_);
        open_folder();
        Log log(folder_ + "/log.jsonl");
        announce(progress);
        log_start(log);

        Loader loader(patches_, {.batch = config_.batch,
                                 .seed = config_.seed,
                                 .start_step = position_.next_batch,
                                 .threads = config_.loader_threads,
                                 .indices = split_.training});
        const Grid grid = patches_.grid();
        BatchStage stage([&loader] { return loader.next(); }, stream_->device,
                         {config_.batch, grid.d, grid.h, grid.w, patches_.channels()});
        NumericalGuard guard(config_, folder_, trainer, machine.stream(), log, progress,
                             [this](std::int64_t sample) { return text(sample, " (", patches_.subject(sample), ")"); });
        if (const auto at = position_.extra.find(nonfinite_key); at != position_.extra.end())
            guard.set_count(std::strtoll(at->second.c_str(), nullptr, 10));
        guard_ = &guard;
        const StopSignal signal;
        const auto start = std::chrono::steady_clock::now();
        try {
            // A run that may go back needs something to go back to.
            if (config_.on_nonfinite == NonFinitePolicy::rollback && last_saved_ < 0) save(log, progress);
            while (trainer.steps_done() < config_.steps && !StopSignal::received()) step(stage, log, progress);
        } catch (const Error& error) {
            progress.finish();
            // Weights that are not finite must not push good ones out.
            const bool worth_saving = trainer.model().parameters().values().all_finite();
            if (worth_saving && last_saved_ != trainer.steps_done()) save(log, progress);
            settle(start);
            log_stop(log, error.what());
            make_report(progress);
            if (worth_saving) require_saved(log, error.what());
            throw;
        }
        progress.finish();
        if (last_saved_ != trainer.steps_done()) {
            log_holdout(log, progress);
            save(log, progress);
        }
        settle(start);
        const bool interrupted = StopSignal::received();
        log_stop(log, interrupted ? "interrupted" : "finished");
        make_report(progress);
        require_saved(log, "");
        require(!interrupted, ErrorKind::interrupted, "[pretrain] interrupted after ", trainer.steps_done(), " of ",
                config_.steps, " steps; ", folder_, " holds them, --resume goes on");
        return std::move(outcome_);
    }

private:
    DataFacts facts_of_data() const {
        const Grid grid = patches_.grid();
        return {patches_.spatial_dims(),
                patches_.channels(),
                {grid.d, grid.h, grid.w},
                static_cast<std::int64_t>(split_.training.size())};
    }

    // Loads the newest whole checkpoint, if there is one, after all that must be equal has been compared.
    void return_to_checkpoint(Progress& progress) {
        std::error_code error;
        if (std::filesystem::exists(folder_, error)) {
            lock_.emplace(folder_);
            require_same_settings(folder_, config_, facts_of_data());
            require_same_data(recorded_fact(folder_, "data_hash"), folder_ + "/manifest.json", config_, data_hash_);
            auto newest = newest_checkpoint(folder_);
            for (const auto& sentence : newest.damaged) progress.say(sentence);
            require(newest.checkpoint || newest.damaged.empty(), ErrorKind::data, "[pretrain] --resume: ", folder_,
                    ": no checkpoint is whole; move ", folder_, "/checkpoints away to begin at step 0");
            if (newest.checkpoint) return load(*newest.checkpoint, newest.damaged_at, progress);
        }
        progress.say(text("[pretrain] --resume: ", folder_, " holds no checkpoint; the run begins at step 0"));
    }

    void load(const Checkpoint& checkpoint, const std::vector<CheckpointPlace>& damaged, Progress& progress) {
        const auto& source = checkpoint.place.folder;
        require_same_data(checkpoint.manifest.value("data_hash", ""), source + "/manifest.json", config_, data_hash_);
        position_ = restore_training(*trainer_, checkpoint.model, checkpoint.state, source);
        require(position_.steps == checkpoint.place.step, ErrorKind::data, "[pretrain] --resume: ", source,
                ": holds step ", position_.steps, "; give the folder its name back");
        require(position_.steps <= config_.steps, ErrorKind::configuration, "[pretrain] --resume: --steps ",
                config_.steps, ": the run has ", position_.steps, " steps already; ask for more or leave it out");
        const auto kernels = kernel_summary(config_);
        require(position_.kernels == kernels || resume_.allow_other_kernels, ErrorKind::configuration,
                "[pretrain] --resume: ", source, ": the run computed with the kernels '", position_.kernels,
                "', this process would take '", kernels,
                "', and the bits would differ from here on; give the same --kernel on the same type of machine, or",
                " accept it with --allow-other-kernels");
        for (const auto& place : damaged) set_aside(place);
        last_saved_ = position_.steps;
        outcome_.skipped = position_.skipped;
        outcome_.redrawn = position_.redrawn;
        log_bytes_ = checkpoint.manifest.value("log_bytes", std::int64_t{-1});
        resumed_build_ = checkpoint.manifest.value("build", "");
        if (resumed_build_ != build_description())
            progress.say(text("[pretrain] --resume: ", source, " was written by another build (", resumed_build_,
                              "); the bits may differ from here on"));
        if (put_weights_right(folder_, checkpoint))
            progress.say(text(folder_, "/model.safetensors: put to the weights of step ", position_.steps));
        if (position_.steps < config_.steps) progress.say(text("[pretrain] --resume: goes on from ", source));
    }

    // A finished run whose files are all there: nothing is left to do.
    bool is_complete(Progress& progress) {
        if (last_saved_ < config_.steps) return false;
        const auto history = read_log(folder_ + "/log.jsonl", config_.steps);
        std::error_code error;
        if (history.log.ended != "finished" || history.dropped_events > 0 ||
            !std::filesystem::exists(folder_ + "/report.html", error))
            return false;
        steps_ = history.log.steps;
        outcome_.steps = config_.steps;
        outcome_.seconds = history.seconds;
        settle_means();
        progress.say(text("[pretrain] --resume: ", folder_, " is finished: ", config_.steps,
                          " steps, its last checkpoint and weights are whole"));
        return true;
    }

    void open_folder() {
        create_folder(folder_);
        if (!lock_) lock_.emplace(folder_);
        remove_leftovers(folder_);
        require_room(folder_, checkpoint_bytes(contents()), "[pretrain] a checkpoint");
        write_if_changed(folder_ + "/config.toml", config_toml(config_));
        write_if_changed(folder_ + "/manifest.json", manifest().dump(2) + "\n");
        if (!resume_.resume) return;
        const auto path = folder_ + "/log.jsonl";
        const auto history = read_log(path, position_.steps, log_bytes_);
        cut_log(path, history);
        seconds_before_ = history.seconds;
        log_begun_ = history.bytes > 0;
        dropped_events_ = history.dropped_events;
        steps_ = history.log.steps;
    }

    CheckpointContents contents() {
        position_.kernels = kernel_summary(config_);
        position_.redrawn = outcome_.redrawn;
        return checkpoint_contents(*trainer_, position_, metadata_,
                                   {{"program", "cover " + version()},
                                    {"build", build_description()},
                                    {"data_hash", data_hash_},
                                    {"device", name_of(config_.device)},
                                    {"precision", name_of(config_.precision)},
                                    {"kernels", position_.kernels}});
    }

    void log_start(Log& log) {
        if (!log_begun_)
            log.write({{"event", "start"},
                       {"program", "cover " + version()},
                       {"steps", config_.steps},
                       {"batch", config_.batch},
                       {"samples", split_.training.size()},
                       {"heldout", split_.heldout.size()},
                       {"data_hash", data_hash_},
                       {"beyond_reach", reach_.beyond},
                       {"device", name_of(config_.device)},
                       {"precision", name_of(config_.precision)},
                       {"kernels", kernel_summary(config_)},
                       {"threads", config_.threads}});
        if (resume_.resume)
            log.write({{"event", "resume"},
                       {"step", position_.steps},
                       {"steps", config_.steps},
                       {"dropped_events", dropped_events_},
                       {"program", "cover " + version()},
                       {"kernels", kernel_summary(config_)},
                       {"threads", config_.threads}});
        log.require_written();
    }

    void log_stop(Log& log, const std::string& why) {
        log.write({{"event", "stop"},
                   {"step", trainer_->steps_done()},
                   {"why", why},
                   {"saved", last_saved_ == trainer_->steps_done()},
                   {"seconds", outcome_.seconds},
                   {"skipped", outcome_.skipped},
                   {"redrawn", outcome_.redrawn},
                   {"peak_bytes", peak_process_bytes()}});
        log.flush();
    }

    // The end of a run. `why`: the sentence that it ends with; empty where it went well.
    void require_saved(Log& log, const std::string& why) {
        const std::string before = why.empty() ? "" : why + "\n";
        const auto places = list_checkpoints(folder_);
        require(last_saved_ == trainer_->steps_done(), ErrorKind::io, before, "[pretrain] ", folder_,
                ": the run ends at step ", trainer_->steps_done(), " without its last checkpoint on the disk (",
                save_trouble_, "); ",
                places.empty() ? std::string("there is none before it") : places.back().folder + " stands",
                "; make room, then go on with --resume");
        require(report_trouble_.empty(), ErrorKind::io, before, "[pretrain] ", folder_,
                ": weights and checkpoint are saved, but the report is not: ", report_trouble_);
        log.require_written();
    }

    void initialise_from_file(Model& model) {
        const auto file = read_safetensors(config_.init);
        model.load(file.tensors, config_.init, is_backbone_only(file));
    }

    ordered_json manifest() const {
        const Grid grid = patches_.grid();
        const bool flat = config_.dims == 2;
        return {{"program", "cover " + version()},
                {"build", build_description()},
                {"data_hash", data_hash_},
                {"data",
                 {{"files", config_.data},
                  {"samples", patches_.sample_count()},
                  {"heldout", split_.heldout.size()},
                  {"channels", patches_.channels()},
                  {"shape", flat ? ordered_json{grid.h, grid.w} : ordered_json{grid.d, grid.h, grid.w}},
                  {"spacing", patches_.spacing()},
                  {"type", patches_.type(0).name()}}},
                {"report_data", picture_data_},
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
            static_cast<double>(estimate_memory(config_, facts_of_data().sides)) / (1 << 30)));
        constexpr int draws = 1000;
        reach_ = reach_statistics(config_, {sides.d, sides.h, sides.w}, draws);
        const char* consequence = config_.limit_reach == LimitReach::off
                                      ? "; --limit-reach redraw or scale keeps them within"
                                      : "; --limit-reach keeps them within";
        progress.say(fmt::format(
            "{:.1f} % of the valid pixels have a true displacement beyond the pyramid's reach of {:g} pixels{}",
            100 * reach_.beyond, pyramid_reach(config_), reach_.beyond > 0 ? consequence : ""));
    }

    void step(BatchStage& stage, Log& log, Progress& progress) {
        const StagedBatch staged = stage.next();
        const Batch& batch = staged.batch;
        std::vector<SampleKey> keys;
        for (const auto& sample : batch.samples)
            keys.push_back({sample.epoch, static_cast<std::uint32_t>(sample.index)});
        const StepRecord record = trainer_->step(staged.images, keys);
        if (!record.result.finite()) {
            get_over(batch, keys, record, log, progress);
            return save_where_due(log, progress);
        }
        position_.next_batch = batch.step + 1;
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
            steps_.push_back(
                {.step = number, .loss_con = record.result.loss_con, .loss_vec_ratio = record.loss_vec_ratio()});
            progress.update(number, record.result.loss, record.loss_vec_ratio(), seconds);
            guard_->watch(record, keys);
        }
        // What the optimizer did shows in the next step's loss; before a save it must show now.
        if ((number % config_.checkpoint_every == 0 || number == config_.steps) &&
            !trainer_->model().parameters().values().all_finite())
            return get_over(batch, keys, record, log, progress);
        save_where_due(log, progress);
        if (log.trouble() != log_trouble_) {
            log_trouble_ = log.trouble();
            progress.say(
                log_trouble_.empty()
                    ? text(folder_, "/log.jsonl: is written again")
                    : text(folder_, "/log.jsonl: cannot be written, its lines wait in memory: ", log_trouble_));
        }
    }

    void save_where_due(Log& log, Progress& progress) {
        const std::int64_t number = trainer_->steps_done();
        if (number == last_saved_ || number % config_.checkpoint_every != 0) return;
        log_holdout(log, progress);
        save(log, progress);
    }

    // A step that was not finite: the guard says how, or ends the run.
    void get_over(const Batch& batch, const std::vector<SampleKey>& keys, const StepRecord& record, Log& log,
                  Progress& progress) {
        const auto policy = guard_->decide(batch.images, keys, record);
        position_.next_batch = batch.step + 1;
        position_.extra[nonfinite_key] = text(guard_->count());
        if (policy == NonFinitePolicy::skip) {
            trainer_->pass_over();
            ++outcome_.skipped;
            log.write({{"event", "skipped"}, {"step", trainer_->steps_done()}, {"why", "not finite"}});
            return;
        }
        const std::int64_t from = trainer_->steps_done();
        const auto newest = newest_checkpoint(folder_);
        require(newest.checkpoint.has_value(), ErrorKind::numerical, "[pretrain] step ", from + 1, ": ", folder_,
                " has no whole checkpoint to go back to; make room for one, or lower --lr");
        const auto& checkpoint = *newest.checkpoint;
        const auto past = restore_training(*trainer_, checkpoint.model, checkpoint.state, checkpoint.place.folder);
        outcome_.skipped = past.skipped;
        std::erase_if(steps_, [&](const StepPoint& point) { return point.step > past.steps; });
        log.write({{"event", "rollback"}, {"step", past.steps}, {"from", from}, {"next_batch", position_.next_batch}});
        progress.say(text("back to step ", past.steps, ", going on with the next batch"));
    }

    // Held-out losses, before the checkpoint of the same step: a run that is resumed from it has their line already.
    void log_holdout(Log& log, Progress& progress) {
        if (split_.heldout.empty()) return;
        const std::int64_t number = trainer_->steps_done();
        const StepResult losses = heldout_losses(trainer_->model(), config_, patches_, split_.heldout, *stream_);
        if (!(losses.loss_vec_zero > 0)) {
            progress.say(text("step ", number, ": no pixel of the held-out views is valid, so they have no loss; hold ",
                              "out more with --holdout, or take a smaller --degree"));
            return;
        }
        const double ratio = losses.loss_vec / losses.loss_vec_zero;
        log.write({{"event", "holdout"},
                   {"step", number},
                   {"loss", losses.loss},
                   {"loss_vec", losses.loss_vec},
                   {"loss_con", losses.loss_con},
                   {"loss_vec_ratio", ratio}});
        progress.say(fmt::format("step {}: held-out loss {:.4g}, ratio {:.3f}", number, losses.loss, ratio));
    }

    // A save that fails does not end the run: the next one may find room again.
    void save(Log& log, Progress& progress) {
        const std::int64_t number = trainer_->steps_done();
        const auto begin = std::chrono::steady_clock::now();
        try {
            log.flush();  // the log of a checkpoint's steps is never behind it
            auto saved = contents();
            saved.facts["log_bytes"] = log.bytes();
            save_checkpoint(folder_, saved);
            last_saved_ = number;
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::io) throw;
            save_trouble_ = error.what();
            progress.say(
                text("step ", number, ": the checkpoint could not be written, the run goes on: ", error.what()));
            log.write({{"event", "checkpoint_failed"}, {"step", number}, {"why", error.what()}});
            return;
        }
        log.write({{"event", "checkpoint"},
                   {"step", number},
                   {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()}});
        try {
            prune_checkpoints(folder_, config_.keep);
        } catch (const Error& error) {
            progress.say(error.what());
        }
    }

    void settle_means() {
        outcome_.loss_vec_ratio = mean_of_last(steps_, &StepPoint::loss_vec_ratio);
        outcome_.loss_con = mean_of_last(steps_, &StepPoint::loss_con);
    }

    void settle(std::chrono::steady_clock::time_point start) {
        outcome_.steps = trainer_->steps_done();
        outcome_.seconds =
            seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        settle_means();
    }

    // Once everything else of the run folder is written: the report is made from it.
    void make_report(Progress& progress) {
        try {
            write_report(folder_);
        } catch (const Error& error) {
            report_trouble_ = error.what();  // must not hide how the run itself ended
            progress.say(report_trouble_);
        }
    }

    TrainConfig& config_;
    std::string folder_;
    std::vector<std::string> picture_data_;
    ResumeOptions resume_;
    PatchFile patches_;
    Split split_;
    std::optional<FolderLock> lock_;
    std::string data_hash_;
    RunPosition position_;
    Metadata metadata_;
    ReachStatistics reach_;
    Trainer* trainer_ = nullptr;
    Stream* stream_ = nullptr;
    NumericalGuard* guard_ = nullptr;
    std::int64_t last_saved_ = -1;
    double seconds_before_ = 0;
    bool log_begun_ = false;
    std::int64_t dropped_events_ = 0, log_bytes_ = -1;
    std::string resumed_build_, save_trouble_, report_trouble_, log_trouble_;
    std::vector<StepPoint> steps_;
    TrainingOutcome outcome_;
};

}  // namespace

TrainingOutcome train(TrainConfig config, const std::string& folder, const std::vector<std::string>& picture_data,
                      const ResumeOptions& resume) {
    check_config(config);
    if (!resume.resume) refuse_used_folder(folder);
    return Run(config, folder, picture_data, resume).go();
}

}  // namespace cover::app
