// A report from a run folder: config.toml, log.jsonl, manifest.json, model.safetensors and the patch files named there.
#pragma once

#include <string>
#include <vector>

#include "app/report.h"

namespace cover::app {

struct ReportSource {
    std::string run;                // folder
    std::string weights;            // file or checkpoint folder; empty: the run's model.safetensors
    std::vector<std::string> data;  // patch files in place of those that the run names; empty: those
    int threads = 0;                // 0: as many as the run had
    bool check_data = true;         // hash the data and compare with the manifest: reads all of it once
};

// Same folder, same report, for any number of threads. Where weights or data cannot be used the report has no scores
// and pictures and a note says why. Throws Error(io) when the folder is not there, Error(data) when it is no run of
// this program or when weights or data that were named here do not fit, Error(configuration) when its config.toml
// cannot be read.
RunReport build_report(const ReportSource& source);

// Makes report.html of a folder whose run has just ended, and says on stderr what it lacks.
RunReport write_report(const std::string& run);

}  // namespace cover::app
