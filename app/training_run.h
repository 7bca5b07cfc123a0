// A training run with its files: the run folder of `cover pretrain`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "app/report.h"
#include "cover/config.h"
#include "cover/evaluate.h"

namespace cover::app {

struct TrainingOutcome {
    std::int64_t steps = 0, skipped = 0, redrawn = 0;
    double seconds = 0;
    double loss_vec_ratio = 0;  // mean of the last 25 steps
    double loss_con = 0;        // likewise
    RunReport report;           // as it was written to report.html
};

// Trains on config.data and writes config.toml, manifest.json, log.jsonl, model.safetensors and report.html to
// `folder`, which must not hold a run yet. Throws Error(interrupted) after SIGINT or SIGTERM, with everything written;
// Error (numerical) when the loss is not finite, with the weights as they were before that step.
// picture_data: patch files whose images stand in the report as held out; empty: the run's own.
TrainingOutcome train(TrainConfig config, const std::string& folder, const std::vector<std::string>& picture_data = {});

// Rewrites report.html of a run.
void write_report(const std::string& folder, const RunReport& report);

// The rows of a table of scores.
std::vector<std::pair<std::string, std::string>> score_rows(const Evaluation& evaluation);

}  // namespace cover::app
