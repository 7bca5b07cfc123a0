// How a run shows where it is: a bar that redraws itself on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cover::app {

struct ProgressPoint {
    std::int64_t step = 0;  // done so far
    double loss = 0;
    double loss_vec_ratio = 0;
    double images_per_second = 0;
    double seconds_left = 0;
};

// "12 s", "3 min 05 s", "2 h 11 min".
std::string duration_text(double seconds);

// The line without its line end. `width` > 0 makes it a bar of that many columns at most; 0 makes it plain.
std::string progress_line(const ProgressPoint& point, std::int64_t steps, int width);

// Writes to stderr.
class Progress {
public:
    // Image rate and time left are taken over the last steps.
    Progress(std::int64_t steps, std::int64_t images_per_step);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // `step` counts finished steps; `seconds` is what this one took.
    void update(std::int64_t step, double loss, double loss_vec_ratio, double seconds);
    // A sentence above the bar.
    void say(const std::string& sentence);
    // Leaves the last line standing.
    void finish();

private:
    void clear_line();

    std::int64_t steps_, images_per_step_;
    bool terminal_;
    bool bar_shown_ = false;
    double seconds_per_step_ = 0;
    std::string last_;
    std::chrono::steady_clock::time_point shown_at_;
};

}  // namespace cover::app
