// What the sanitizers see of emulated kernels: tests/emulation_faults.cu, built once with each, runs a fault by name.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "core/file.h"
#include "tests/support.h"

namespace cover::test {
namespace {

struct Outcome {
    int code;
    std::string errors;
};

// Reports are those of the sanitizers' defaults, whatever this process was started with.
Outcome run_fault(const std::string& program, const std::string& fault, const std::string& order) {
    const TemporaryFolder folder;
    const std::string errors = folder.path() + "/errors";
    const int status =
        std::system(("COVER_FIBER_ORDER=" + order + " ASAN_OPTIONS=detect_stack_use_after_return=1 TSAN_OPTIONS= '" +
                     program + "' " + fault + " 2>'" + errors + "' </dev/null >/dev/null")
                        .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(errors)};
}

// Whether the program runs here at all; the test is skipped otherwise.
bool can_run(const std::string& program) {
    if (!std::filesystem::exists(program)) {
        skip("the program of faults was not built with this sanitizer (" + program + ")");
        return false;
    }
    if (run_fault(program, "clean", "forward").errors.find("unexpected memory mapping") != std::string::npos) {
        skip("the thread sanitizer cannot run under this kernel's address randomisation (vm.mmap_rnd_bits)");
        return false;
    }
    return true;
}

void check_clean(const std::string& program, const std::string& what) {
    for (const char* order : {"forward", "reversed", "random"}) {
        CAPTURE(order);
        const Outcome outcome = run_fault(program, what, order);
        CHECK(outcome.code == 0);
        CHECK(outcome.errors == "");
    }
}

void check_found(const std::string& program, const std::string& fault, int code, const std::string& word,
                 const std::string& place) {
    CAPTURE(fault);
    const Outcome outcome = run_fault(program, fault, "forward");
    CAPTURE(outcome.errors);
    CHECK(outcome.code == code);
    CHECK(outcome.errors.find(word) != std::string::npos);
    CHECK(outcome.errors.find(place) != std::string::npos);
}

}  // namespace

TEST_CASE("emulation faults: the address sanitizer follows fibers and fences") {
    const std::string program = COVER_EMULATION_FAULTS "_address";
    if (!can_run(program)) return;
    check_clean(program, "clean");
    check_clean(program, "exception");
    check_found(program, "over_read", 1, "AddressSanitizer: use-after-poison", "in over_read");
    check_found(program, "over_read_global", 1, "AddressSanitizer: heap-buffer-overflow", "in over_read_global");
}

TEST_CASE("emulation faults: the thread sanitizer finds races between CUDA threads") {
    const std::string program = COVER_EMULATION_FAULTS "_thread";
    if (!can_run(program)) return;
    check_clean(program, "clean");
    const Outcome outcome = run_fault(program, "exception", "random");
    CHECK(outcome.code == 0);
    CHECK(outcome.errors == "");
    for (const char* fault :
         {"equal_writers", "equal_blocks", "equal_blocks_of_many", "write_after_read", "shuffle_for_a_barrier"})
        check_found(program, fault, 66, "ThreadSanitizer: data race", fault);
}

}  // namespace cover::test
