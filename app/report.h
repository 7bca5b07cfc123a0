// report.html: one self-contained page without scripts, legible in light and dark, on paper and on a phone. What it
// shows comes in as plain numbers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cover::app {

struct StepPoint {
    std::int64_t step = 0;
    double loss_vec = 0, loss_con = 0, loss_vec_ratio = 0;
};

// One sample's views and fields, row by row; of a volume, its middle slice and the components within it.
struct ViewPair {
    std::string caption;
    int height = 0, width = 0;
    std::vector<float> moving, fixed;     // (H, W); [0, 1] is shown from black to white
    std::vector<float> mask;              // (H, W), 1 where the true displacement stays inside
    std::vector<float> truth, predicted;  // (H, W, 2), pixels, (down, right)
};

struct Heldout {
    std::int64_t step = 0;
    double loss_vec_ratio = 0;
};

struct RunReport {
    std::string title;
    std::string summary;                                      // one or two sentences
    std::vector<std::pair<std::string, std::string>> facts;   // what ran, on what, how long
    std::vector<std::pair<std::string, std::string>> scores;  // evaluation, where there was one
    std::vector<StepPoint> steps;
    std::vector<Heldout> heldout;
    std::vector<ViewPair> pairs;
    std::string config;  // text of config.toml
};

// Throws Error(internal) when a vector's length does not fit its height and width.
std::string render_report(const RunReport& report);

// Mean of each value and up to `window` - 1 before it; a value that is not finite is left out.
std::vector<double> running_mean(const std::vector<double>& values, int window);

}  // namespace cover::app
