#include "app/run_log.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/check.h"

namespace cover::app {
namespace {

using nlohmann::json;

constexpr std::size_t longest_line = std::size_t{1} << 20;  // this program's are below 1 KiB

double number(const json& event, const char* key) {
    const auto at = event.find(key);
    return at != event.end() && at->is_number() ? at->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::int64_t integer(const json& event, const char* key, std::int64_t fallback) {
    const auto at = event.find(key);
    return at != event.end() && at->is_number_integer() ? at->get<std::int64_t>() : fallback;
}

std::string words(const json& event, const char* key) {
    const auto at = event.find(key);
    return at != event.end() && at->is_string() ? at->get<std::string>() : "";
}

// A resumed run does the steps after its checkpoint again.
template <class Point>
void append(std::vector<Point>& points, const Point& point) {
    while (!points.empty() && points.back().step >= point.step) points.pop_back();
    points.push_back(point);
}

}  // namespace

void add_event(RunLog& log, const json& event) {
    const std::string kind = words(event, "event");
    const std::int64_t step = integer(event, "step", -1);
    if (kind == "start") {
        const double beyond = number(event, "beyond_reach");
        if (beyond >= 0) log.beyond_reach = beyond;
        log.threads = static_cast<int>(std::clamp<std::int64_t>(integer(event, "threads", 0), 0, 1 << 20));
    } else if (kind == "step" && step >= 0) {
        append(log.steps, StepPoint{step, number(event, "loss"), number(event, "loss_vec"), number(event, "loss_con"),
                                    number(event, "loss_vec_ratio"), number(event, "grad_norm"), number(event, "lr"),
                                    number(event, "valid"), number(event, "seconds"), number(event, "wait")});
    } else if (kind == "holdout" && step >= 0) {
        append(log.heldout, Heldout{step, number(event, "loss"), number(event, "loss_vec"), number(event, "loss_con"),
                                    number(event, "loss_vec_ratio")});
    } else if (kind == "skipped") {
        ++log.skipped;
    } else if (kind == "redrawn") {
        log.redrawn += std::max<std::int64_t>(integer(event, "samples", 0), 0);
    } else if (kind == "checkpoint") {
        ++log.checkpoints;
    } else if (kind == "checkpoint_failed") {
        ++log.failed_checkpoints;
    } else if (kind == "resume") {
        ++log.resumed;
    } else if (kind == "nonfinite") {
        ++log.nonfinite;
    } else if (kind == "outlier") {
        ++log.outliers;
    } else if (kind == "rollback") {
        ++log.rollbacks;
        std::erase_if(log.steps, [&](const StepPoint& point) { return point.step > step; });
        std::erase_if(log.heldout, [&](const Heldout& point) { return point.step > step; });
    }
    // What follows a stop belongs to a run that goes on.
    if (kind == "start" || kind == "resume" || kind == "step") log.ended = "";
    if (kind == "stop") {
        log.ended = words(event, "why");
        const double seconds = number(event, "seconds");
        log.run_seconds = seconds > 0 ? seconds : 0;
        log.peak_bytes = std::max<std::int64_t>(integer(event, "peak_bytes", 0), 0);
    }
}

RunLog read_run_log(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
    require(file != nullptr, ErrorKind::io, "[report] ", path,
            ": cannot be read: ", std::generic_category().message(errno));
    RunLog log;
    std::string line;
    std::int64_t line_number = 0, damaged = 0, first_damaged = 0;
    bool too_long = false;
    const auto end_of_line = [&](bool complete) {
        ++line_number;
        const json event = too_long ? json(json::value_t::discarded) : json::parse(line, nullptr, false);
        if (event.is_object()) {
            add_event(log, event);
        } else if (!complete) {
            log.notes.push_back(text("The last line of log.jsonl (", line_number, ", ", line.size(),
                                     " bytes) breaks off and is left out: the process was stopped while it wrote."));
        } else if (damaged++ == 0) {
            first_damaged = line_number;
        }
        line.clear();
        too_long = false;
    };
    std::string block(1 << 16, '\0');
    for (std::size_t got = 0; (got = std::fread(block.data(), 1, block.size(), file.get())) > 0;)
        for (std::size_t from = 0; from < got;) {
            const std::size_t end = std::min(block.find('\n', from), got);
            too_long = too_long || line.size() + (end - from) > longest_line;
            if (!too_long) line.append(block, from, end - from);
            if (end < got) end_of_line(true);
            from = end + 1;
        }
    require(std::ferror(file.get()) == 0, ErrorKind::io, "[report] ", path, ": cannot be read to its end");
    if (!line.empty() || too_long) end_of_line(false);
    if (damaged > 0)
        log.notes.push_back(text(damaged, damaged == 1 ? " line" : " lines", " of log.jsonl could not be read and ",
                                 damaged == 1 ? "is" : "are", " left out, the first is line ", first_damaged, "."));
    return log;
}

}  // namespace cover::app
