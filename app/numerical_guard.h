// What a run does about a step whose loss or gradient norm is not finite, and about one far outside the recent spread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "app/log.h"
#include "app/progress.h"
#include "cover/guard.h"
#include "cover/trainer.h"

namespace cover::app {

class NumericalGuard {
public:
    // name_of_sample: what a person calls a sample, "12 (patient_7)". Everything must outlive the guard.
    NumericalGuard(const TrainConfig& config, std::string folder, Trainer& trainer, Stream& stream, Log& log,
                   Progress& progress, std::function<std::string(std::int64_t)> name_of_sample);

    // Steps that were not finite so far, those before a resume included.
    std::int64_t count() const { return count_; }
    void set_count(std::int64_t count) { count_ = count; }

    // After a step that was not finite and has left the trainer as it was. Names the tensor, layer and samples, writes
    // the batch to FOLDER/nonfinite-step-0000123.safetensors for `cover verify batch` (the first time and when the run
    // stops), and says how to go on: skip or rollback. Throws Error(numerical) where the run is to stop.
    NonFinitePolicy decide(const Tensor& images, const std::vector<SampleKey>& keys, const StepRecord& record);

    // Logs an event `outlier` for a loss or gradient norm far outside its recent spread.
    void watch(const StepRecord& record, const std::vector<SampleKey>& keys);

private:
    std::string describe(const NonFinite& found, const std::vector<SampleKey>& keys) const;

    const TrainConfig& config_;
    std::string folder_;
    Trainer& trainer_;
    Stream& stream_;
    Log& log_;
    Progress& progress_;
    std::function<std::string(std::int64_t)> name_of_sample_;
    std::int64_t count_ = 0;
    SpreadMonitor loss_, gradient_norm_;
};

}  // namespace cover::app
