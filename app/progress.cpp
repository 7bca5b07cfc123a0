#include "app/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cover::app {
namespace {

constexpr auto redraw_after = std::chrono::milliseconds(100);
constexpr auto line_after = std::chrono::seconds(10);

int terminal_width() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col;
}

}  // namespace

std::string duration_text(double seconds) {
    if (!std::isfinite(seconds) || seconds < 0) return "?";
    const auto whole = static_cast<long long>(std::llround(std::min(seconds, 1e12)));
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string progress_line(const ProgressPoint& point, std::int64_t steps, int width) {
    const auto numbers =
        fmt::format("step {}/{}  loss {:.4g}  ratio {:.3f}  {:.3g} images/s  {} left", point.step, steps, point.loss,
                    point.loss_vec_ratio, point.images_per_second, duration_text(point.seconds_left));
    if (width <= 0) return numbers;
    const int room = width - static_cast<int>(numbers.size()) - 4;
    if (room < 8) return numbers.substr(0, static_cast<std::size_t>(std::max(width - 1, 0)));
    const int cells = std::min(room, 40);
    const double share = steps > 0 ? static_cast<double>(point.step) / static_cast<double>(steps) : 1;
    const int full = std::clamp(static_cast<int>(share * cells), 0, cells);
    return "[" + std::string(static_cast<std::size_t>(full), '=') +
           std::string(static_cast<std::size_t>(cells - full), ' ') + "] " + numbers;
}

Progress::Progress(std::int64_t steps, std::int64_t images_per_step)
    : steps_(steps), images_per_step_(images_per_step), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { finish(); }

void Progress::update(std::int64_t step, double loss, double loss_vec_ratio, double seconds) {
    // A running mean over about twenty steps: steady, and over the slow first step soon.
    seconds_per_step_ = seconds_per_step_ == 0 ? seconds : seconds_per_step_ + (seconds - seconds_per_step_) * 0.05;
    const double rate = seconds_per_step_ > 0 ? static_cast<double>(images_per_step_) / seconds_per_step_ : 0;
    const ProgressPoint point{step, loss, loss_vec_ratio, rate, static_cast<double>(steps_ - step) * seconds_per_step_};

    const auto now = std::chrono::steady_clock::now();
    const bool due = !bar_shown_ || step == steps_ || now - shown_at_ >= (terminal_ ? redraw_after : line_after);
    if (!due) return;
    shown_at_ = now;
    bar_shown_ = true;
    if (terminal_) {
        last_ = progress_line(point, steps_, terminal_width());
        std::fprintf(stderr, "\r\033[K%s", last_.c_str());
    } else {
        std::fprintf(stderr, "%s\n", progress_line(point, steps_, 0).c_str());
    }
    std::fflush(stderr);
}

void Progress::clear_line() {
    if (terminal_ && !last_.empty()) std::fprintf(stderr, "\r\033[K");
}

void Progress::say(const std::string& sentence) {
    clear_line();
    std::fprintf(stderr, "%s\n", sentence.c_str());
    if (terminal_ && !last_.empty()) std::fprintf(stderr, "%s", last_.c_str());
    std::fflush(stderr);
}

void Progress::finish() {
    if (terminal_ && !last_.empty()) std::fprintf(stderr, "\n");
    last_.clear();
    std::fflush(stderr);
}

}  // namespace cover::app
