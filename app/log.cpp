#include "app/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/check.h"

namespace cover::app {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t most_waiting = std::size_t{64} << 20;  // bytes

std::string reason(int code) { return std::generic_category().message(code); }

double number(const nlohmann::json& event, const char* key) {
    const auto at = event.find(key);
    return at != event.end() && at->is_number() ? at->get<double>() : std::nan("");
}

}  // namespace

Log::Log(const std::string& path) : path_(path) {
    do file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    while (file_ < 0 && errno == EINTR);
    require(file_ >= 0, ErrorKind::io, "[log] ", path, ": cannot be written: ", reason(errno));
}

Log::~Log() {
    if (file_ >= 0) ::close(file_);
}

void Log::write(const ordered_json& object) {
    // Paths may hold bytes that are no UTF-8; they are replaced rather than refused.
    waiting_ += object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
    try_waiting();
    require(waiting_.size() <= most_waiting, ErrorKind::io, "[log] ", path_, ": cannot be written: ", trouble_, "; ",
            waiting_.size(), " bytes of it wait");
}

void Log::try_waiting() {
    std::size_t written = 0;
    trouble_.clear();
    while (written < waiting_.size() && trouble_.empty()) {
        const auto done = ::write(file_, waiting_.data() + written, waiting_.size() - written);
        if (done > 0)
            written += static_cast<std::size_t>(done);
        else if (done == 0 || errno != EINTR)
            trouble_ = done == 0 ? "the system takes no more bytes" : reason(errno);
    }
    waiting_.erase(0, written);
}

bool Log::flush() {
    if (!waiting_.empty()) try_waiting();
    if (!trouble_.empty()) return false;
    while (::fsync(file_) != 0) {
        if (errno == EINTR) continue;
        if (errno == EINVAL || errno == EROFS) break;  // a pipe or the like
        trouble_ = reason(errno);
        return false;
    }
    return true;
}

std::int64_t Log::bytes() const {
    struct stat status {};
    if (!waiting_.empty() || ::fstat(file_, &status) != 0) return -1;
    return status.st_size;
}

void Log::require_written() const {
    require(waiting_.empty() && trouble_.empty(), ErrorKind::io, "[log] ", path_, ": cannot be written: ", trouble_);
}

LogHistory read_log(const std::string& path, std::int64_t last_step, std::int64_t end) {
    LogHistory history;
    std::ifstream file(path, std::ios::binary);
    std::string line;
    bool understood = true;
    while (std::getline(file, line)) {
        const auto event = nlohmann::json::parse(line, nullptr, false);
        const bool whole = !file.eof() && event.is_object() && event.contains("event") && event["event"].is_string();
        const double step = whole ? number(event, "step") : std::nan("");
        const bool within = end >= 0 ? history.bytes + line.size() + 1 <= static_cast<std::uint64_t>(end)
                                     : !(step > static_cast<double>(last_step));
        understood = understood && whole && within;
        if (!understood) {
            ++history.dropped_events;
            continue;
        }
        history.bytes += line.size() + 1;
        add_event(history.log, event);
        if (const double seconds = number(event, "seconds"); event["event"] == "step" && seconds > 0)
            history.seconds += seconds;
    }
    return history;
}

void cut_log(const std::string& path, const LogHistory& history) {
    if (history.dropped_events == 0) return;
    require(::truncate(path.c_str(), static_cast<off_t>(history.bytes)) == 0, ErrorKind::io, "[log] ", path,
            ": cannot be cut: ", reason(errno));
}

}  // namespace cover::app
