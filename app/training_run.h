// A training run with its files: the run folder of `cover pretrain`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cover/config.h"
#include "cover/evaluate.h"

namespace cover::app {

struct TrainingOutcome {
    std::int64_t steps = 0, skipped = 0, redrawn = 0;
    double seconds = 0;         // of the whole run, earlier parts included
    double loss_vec_ratio = 0;  // mean of the last 25 steps
    double loss_con = 0;        // likewise
};

struct ResumeOptions {
    bool resume = false;  // go on from the newest whole checkpoint of the folder; with none, begin at step 0
    bool allow_other_kernels = false;
};

// Trains on config.data and writes config.toml, manifest.json, log.jsonl, checkpoints/, model.safetensors and
// report.html to `folder`, which must not hold a run yet unless it is resumed. A run that is complete is checked and
// left as it is. Whatever ends a run, its last step is saved first. Throws Error(interrupted) after SIGINT or SIGTERM;
// Error(numerical) when the loss is not finite, with the weights as they were before that step; Error(configuration)
// when a run to be resumed has other settings, data or kernels; Error(io) when the last checkpoint is not on the disk.
// picture_data: patch files whose images stand in the report as held out; empty: the run's own.
TrainingOutcome train(TrainConfig config, const std::string& folder, const std::vector<std::string>& picture_data = {},
                      const ResumeOptions& resume = {});

}  // namespace cover::app
