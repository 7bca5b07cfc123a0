// What a command line means: one struct per command, with its defaults. The parser itself is in options.cpp, the only
// file that sees CLI11.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "app/config.h"

namespace cover::app {

// Something to print, then exit 0: --help, --version.
struct TextOptions {
    std::string text;
};

struct DemoOptions {
    std::string out;  // empty: cover-demo, in 3D cover-demo-3d
    int dims = 2;     // 3: volumes
    int threads = 0;  // 0: all cores
    std::uint64_t seed = 0;
};

// Values as the user wrote them; data/prepare reads them.
struct PrepareOptions {
    std::vector<std::string> inputs;
    std::string out;
    std::string size, spacing, normalize, window, store, labels, split;
    int channels_in = 1;
    bool keep_aspect = false, strict = false;
};

struct PretrainOptions {
    ConfigSources config;
    std::string out;
    bool resume = false, allow_other_kernels = false;
};

struct EvaluateOptions {
    std::string weights;
    std::vector<std::string> data;
    std::int64_t pairs = 64;
    std::uint64_t seed = 1;
    ConfigSources config;  // degree, patch, device, precision, threads, kernel where they were given
    bool json = false;
};

struct ExportOptions {
    std::string run, out;
    std::string part = "all";  // or "backbone"
};

struct ApplyOptions {
    std::string weights;
    std::vector<std::string> inputs;
    std::string out, what;
    std::string tile;      // sides; "whole"; empty: the patch of the training run
    ConfigSources config;  // device, precision, threads, kernel
    bool overwrite = false, json = false;
};

struct ReportOptions {
    std::string run, out, weights;  // out: empty for RUN/report.html; weights: empty for the run's latest
    std::vector<std::string> data;
    int threads = 0;
};

struct VerifyGoldenOptions {
    std::vector<std::string> files;
    std::string dump;
    ConfigSources config;  // warp, device, precision, threads, kernel
    bool warp_given = false;
    bool json = false;
};

struct VerifyRunsOptions {
    std::string a, b;  // run folders
    bool json = false;
};

struct VerifyBatchOptions {
    std::string file;
    ConfigSources config;  // device, precision, threads, kernel
    bool json = false;
};

struct BenchStepOptions {
    ConfigSources config;  // shapes, network and machine
    int steps = 5;
    bool profile = false, json = false;
};

struct BenchOpsOptions {
    ConfigSources config;
    std::string op;         // names with commas; empty: every op
    std::string row;        // empty: every row that can run
    double seconds = 0.2;   // per row
    double limit = 0;       // on all rows together, in seconds; 0: none
    std::string precision;  // on a device: rows of this one alone; empty: of all
    bool json = false;
};

struct InfoOptions {
    std::string file;  // empty: the program and the machine
    bool json = false;
};

using Command = std::variant<TextOptions, DemoOptions, PrepareOptions, PretrainOptions, EvaluateOptions, ExportOptions,
                             ApplyOptions, ReportOptions, VerifyGoldenOptions, VerifyRunsOptions, VerifyBatchOptions,
                             BenchStepOptions, BenchOpsOptions, InfoOptions>;

// Throws Error(usage) on an unknown command or option (naming the nearest), a missing one, or a value that cannot be
// read.
Command parse_command_line(int argc, const char* const* argv);

}  // namespace cover::app
