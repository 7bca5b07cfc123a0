#include "tests/hostile_support.h"

#include <malloc.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "core/check.h"
#include "core/file.h"
#include "core/storage.h"
#include "data/h5_process.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COVER_SANITIZED 1
#else
#define COVER_SANITIZED 0
#endif

namespace cover::test {
namespace {

std::int64_t status_bytes(const std::string& key) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind(key, 0) == 0) return 1024 * std::atoll(line.c_str() + key.size());
    return 0;
}

std::int64_t held_at_reset = 0;

}  // namespace

ProgramOutcome run_limited(const TemporaryFolder& folder, std::string arguments, const std::string& limits) {
    for (auto at = arguments.find("%d"); at != std::string::npos; at = arguments.find("%d", at))
        arguments.replace(at, 2, folder.path());
    // Beside the folder, so that a test may look at what the program left in it.
    const std::string out = folder.path() + ".out", err = folder.path() + ".err";
    const std::string command =
        text("{ ", limits, " exec timeout 120 " COVER_PROGRAM " ", arguments, "; } >", out, " 2>", err, " </dev/null");
    const int status = std::system(command.c_str());
    ProgramOutcome outcome;
    if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
    if (outcome.code > 128) outcome.signal = outcome.code - 128;
    outcome.out = read_file(out);
    outcome.err = read_file(err);
    std::remove(out.c_str());
    std::remove(err.c_str());
    return outcome;
}

std::string misfit(const ProgramOutcome& outcome, int code, const std::string& part) {
    const std::string said = text(" (exit ", outcome.code, ", signal ", outcome.signal, "): ", outcome.err);
    if (outcome.signal != 0 || outcome.code != code) return text("expected exit ", code, said);
    if (outcome.err.find(part) == std::string::npos) return text("expected '", part, "'", said);
    const auto line = outcome.err.rfind('\n', outcome.err.find(part)) + 1;  // npos + 1 is 0
    const auto begin = outcome.err.find_first_not_of(' ', line);
    if (outcome.err[begin] != '[') return text("no sentence that says where", said);
    if (outcome.err.size() > 20000) return text("too long", said.substr(0, 2000));
    return {};
}

bool long_tests() {
    const char* asked = std::getenv("COVER_LONG_TESTS");
    return asked && std::string(asked) == "1";
}

void reset_peak() {
    std::ofstream("/proc/self/clear_refs") << 5;
    held_at_reset = status_bytes("VmRSS:");
}

std::int64_t peak_growth() { return COVER_SANITIZED ? 0 : status_bytes("VmHWM:") - held_at_reset; }

void forget_children() {
    for (const Device device : {Device::cpu, Device::emulated}) release_unused_memory(device);
    malloc_trim(0);
    reset_peak();
    (void)H5Child::take_largest_bytes();
}

std::int64_t largest_child() { return COVER_SANITIZED ? 0 : H5Child::take_largest_bytes(); }

}  // namespace cover::test
