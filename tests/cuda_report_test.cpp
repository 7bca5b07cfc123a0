// What ptxas said of the CUDA kernels when they were compiled (tools/keep_compiler_report.sh keeps it).
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>

#include "tests/support.h"

namespace cover {

TEST_CASE("cuda: no kernel spills registers, for sm_80 and for sm_90a") {
    const std::string folder = COVER_CUDA_OBJECTS;
    if (folder.empty()) return test::skip("no nvcc: there are no CUDA kernels to look at");
    const std::regex entry("Compiling entry function '([^']+)' for '(sm_[0-9a-z]+)'");
    const std::regex spills("([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
    std::map<std::string, int> kernels;  // by architecture
    for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
        if (file.path().extension() != ".report") continue;
        std::ifstream report(file.path());
        std::string kernel, architecture;
        for (std::string line; std::getline(report, line);) {
            std::smatch found;
            if (std::regex_search(line, found, entry)) {
                kernel = found[1];
                architecture = found[2];
                ++kernels[architecture];
            } else if (std::regex_search(line, found, spills)) {
                const bool none = found[1] == "0" && found[2] == "0";
                CHECK_MESSAGE(none, kernel, " for ", architecture, ": ", line);
            }
        }
    }
    for (const char* architecture : {"sm_80", "sm_90a"})
        CHECK_MESSAGE(kernels[architecture] >= 20, architecture, ": ", kernels[architecture], " kernels in ", folder);
}

}  // namespace cover
