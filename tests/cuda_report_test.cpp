// The CUDA rows where there is no device: what ptxas said when they were compiled (tools/keep_compiler_report.sh keeps
// it), and what a launch says that cannot be.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>

#include "kernels/elementwise.h"
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

TEST_CASE("cuda: a launch that fails names the line that launched") {
    if (test::device_stream(Device::cuda)) return test::skip("there is a CUDA device: the launch would not fail");
    bool found = false;
    for (const auto& row : scale_table()) {
        if (row.device != Device::cuda || found) continue;
        found = true;
        Stream stream;
        stream.device = Device::cuda;
        std::string said;
        try {
            row.run(View(), ConstView(), {.count = 1, .factor = 2}, stream);
        } catch (const Error& error) {
            said = error.what();
        }
        CHECK_MESSAGE(said.find("[cuda] scale: ") != std::string::npos, said);
        CHECK_MESSAGE(std::regex_search(said, std::regex("kernels/cuda/elementwise\\.cu:[0-9]+")), said);
    }
    if (!found) test::skip("no nvcc: there are no CUDA rows");
}

}  // namespace cover
