// A training run without its files: weights, optimizer, schedule and the views of each batch. Spec section 7.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "cover/step.h"
#include "kernels/devices.h"

namespace cover {

ModelConfig model_config(const TrainConfig& config);
OptimizerOptions optimizer_options(const TrainConfig& config);

struct StepRecord {
    std::int64_t step = 0;  // of this record, from 0
    StepResult result{};
    double lr = 0;
    double valid = 0;          // share of the mask
    std::int64_t redrawn = 0;  // samples
    bool skipped = false;      // empty mask in the whole batch: nothing changed, result is all zero
    double seconds = 0;        // views, step and optimizer; not the wait for data

    // L_vec divided by what a zero field would score on the same batch and mask.
    double loss_vec_ratio() const { return result.loss_vec / result.loss_vec_zero; }
};

class Trainer {
public:
    // config: completed (complete_config). Weights are drawn from the seed. The stream must outlive the trainer.
    Trainer(const TrainConfig& config, Stream& stream);

    // images (B,D,H,W,C) as stored, one key each. When the record's result is not finite() nothing has changed, the
    // count of steps included.
    StepRecord step(const Tensor& images, const std::vector<SampleKey>& keys);
    // Counts a step that was not finite as one that was skipped.
    void pass_over() {
        ++steps_done_;
        ++steps_skipped_;
    }

    Model& model() { return model_; }
    const Model& model() const { return model_; }
    Optimizer& optimizer() { return optimizer_; }
    // Batches seen so far, skipped ones included: the next record's number.
    std::int64_t steps_done() const { return steps_done_; }
    std::int64_t steps_skipped() const { return steps_skipped_; }
    // For restore_training() (checkpoint.h), which puts weights and moments back as well.
    void set_position(std::int64_t steps_done, std::int64_t steps_skipped) {
        steps_done_ = steps_done;
        steps_skipped_ = steps_skipped;
    }

private:
    // A step as the device recorded it, with the tensors that it reads and writes.
    struct RecordedStep {
        Views inputs;
        StepTensors results;
        std::unique_ptr<Recording> recording;
    };

    StepResult run_step(const Views& views, double lr);

    TrainConfig config_;
    Stream& stream_;
    Model model_;
    Optimizer optimizer_;
    std::int64_t steps_done_ = 0, steps_skipped_ = 0;
    bool has_run_ = false;  // one step, as it stands in the code
    std::unique_ptr<RecordedStep> recorded_;
};

// Bytes of tensors that a step holds at its peak, weights and moments included. An upper estimate; a
// test holds it below 1.6 times what a small step takes (tests/nn_test.cpp).
// stored: sides (D, H, W) of the images as they lie in the file, from which the patches are cut.
std::size_t estimate_memory(const TrainConfig& config, const std::array<std::int64_t, 3>& stored);

// Largest batch up to config.batch whose estimate fits `bytes`; 0 when not even one sample does.
std::int64_t largest_batch(const TrainConfig& config, const std::array<std::int64_t, 3>& stored, std::size_t bytes);

}  // namespace cover
