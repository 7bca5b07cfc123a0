// log.jsonl read back: what a run said of itself, step by step.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace cover::app {

struct StepPoint {
    std::int64_t step = 0;
    // NaN where the line has no number.
    double loss = 0, loss_vec = 0, loss_con = 0, loss_vec_ratio = 0, grad_norm = 0, lr = 0, valid = 0, seconds = 0,
           wait = 0;
};

struct Heldout {
    std::int64_t step = 0;
    double loss = 0, loss_vec = 0, loss_con = 0, loss_vec_ratio = 0;
};

struct RunLog {
    std::vector<StepPoint> steps;  // ascending; where a resumed run repeats steps, the later line counts
    std::vector<Heldout> heldout;  // likewise
    std::int64_t skipped = 0, redrawn = 0, checkpoints = 0, failed_checkpoints = 0, resumed = 0;
    std::int64_t nonfinite = 0, rollbacks = 0, outliers = 0;  // events of the numerical guard
    double beyond_reach = -1;                                 // of the start line; negative when it says nothing
    std::string ended;                                        // `why` of the stop line; empty when there is none
    double run_seconds = 0;                                   // of the stop line; 0 when there is none
    std::int64_t peak_bytes = 0;                              // likewise
    int threads = 0;
    std::vector<std::string> notes;  // lines that could not be read, as sentences
};

// Takes one event in; what is not known is passed over.
void add_event(RunLog& log, const nlohmann::json& event);

// Lines that are no JSON object are left out and named in `notes`; a torn last line is what a killed process leaves.
// Throws Error(io) when the file cannot be read.
RunLog read_run_log(const std::string& path);

}  // namespace cover::app
