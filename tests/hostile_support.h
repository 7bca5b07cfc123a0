// What the tests of hostile input share: the program under limits, and what this process and its children use.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support.h"

namespace cover::test {

struct ProgramOutcome {
    int code = -1;   // exit code; 124 after two minutes
    int signal = 0;  // that ended the program; 0 when it exited
    std::string out, err;
};

// `cover ARGUMENTS` as in a shell; %d stands for the folder. limits: shell commands before it, as in "ulimit -f 8;".
ProgramOutcome run_limited(const TemporaryFolder& folder, std::string arguments, const std::string& limits = "");

// Empty when the program ended with `code` and a sentence that begins with "[where]", holds `part` and is the only
// thing said on standard error; otherwise what it did.
std::string misfit(const ProgramOutcome& outcome, int code, const std::string& part);

// True when the long versions were asked for (COVER_LONG_TESTS=1 in the environment).
bool long_tests();

// Peak resident memory of this process since the last reset_peak(), above what it held then, in bytes; 0 under a
// sanitizer, whose own memory would be counted.
void reset_peak();
std::int64_t peak_growth();
// Likewise the largest H5 child that has ended since the last call. forget_children() comes first: it also gives back
// what this process keeps for reuse, since a child is counted with it.
void forget_children();
std::int64_t largest_child();

}  // namespace cover::test
