#include "app/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/check.h"

namespace cover::app {

Log::Log(const std::string& path) : path_(path) {
    file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    require(file_ >= 0, ErrorKind::io, "[log] ", path, ": cannot be written: ", std::generic_category().message(errno));
}

Log::~Log() {
    if (file_ >= 0) ::close(file_);
}

void Log::write(const nlohmann::ordered_json& object) {
    // Paths may hold bytes that are no UTF-8; they are replaced rather than refused.
    const auto line = object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    std::size_t written = 0;
    while (written < line.size()) {
        const auto done = ::write(file_, line.data() + written, line.size() - written);
        if (done < 0 && errno == EINTR) continue;
        require(done >= 0, ErrorKind::io, "[log] ", path_,
                ": cannot be written: ", std::generic_category().message(errno));
        written += static_cast<std::size_t>(done);
    }
}

}  // namespace cover::app
