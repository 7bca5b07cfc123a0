// The program `cover`. The only place where an Error becomes an exit code.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "app/commands.h"
#include "core/check.h"
#include "data/h5.h"

namespace {

// What stdio still holds must reach its reader: a full disk is an error even at the very end. A reader that has closed
// its pipe has seen enough and gets no message.
int flushed(int code) {
    const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
    if (!failed) return code;
    if (errno != EPIPE) std::fprintf(stderr, "[cover] the output cannot be written: is the disk full?\n");
    return static_cast<int>(cover::ErrorKind::io);
}

int fail_with(cover::ErrorKind kind, const char* sentence) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", sentence);
    return static_cast<int>(kind);
}

}  // namespace

int main(int argc, char** argv) {
    if (const int code = cover::run_child_if_asked(argc, argv); code >= 0) return code;
    // A closed pipe is an error of the write that meets it, not a silent death in the middle of a run.
    std::signal(SIGPIPE, SIG_IGN);
    // So is a file that may not grow any further (ulimit -f): EFBIG instead of a signal.
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        const auto command = cover::app::parse_command_line(argc, argv);
        return flushed(std::visit([](const auto& options) { return cover::app::run(options); }, command));
    } catch (const cover::Error& error) {
        return fail_with(error.kind(), error.what());
    } catch (const std::bad_alloc&) {
        return fail_with(cover::ErrorKind::device,
                         "[cover] there is not enough memory; use a smaller batch or patch, or close other programs");
    } catch (const std::exception& error) {
        return fail_with(cover::ErrorKind::internal, cover::text("[cover] internal error: ", error.what()).c_str());
    }
}
