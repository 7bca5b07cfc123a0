// cover report: report.html of a run, made anew.
#include <cstdio>

#include "app/commands.h"
#include "app/report_build.h"
#include "core/file.h"

namespace cover::app {

int run(const ReportOptions& options) {
    const RunReport report = build_report({.run = options.run,
                                           .weights = options.weights,
                                           .data = options.data,
                                           .threads = options.threads,
                                           .check_data = true});
    for (const auto& note : report.notes) std::fprintf(stderr, "[report] %s\n", note.c_str());
    const std::string out = options.out.empty() ? options.run + "/report.html" : options.out;
    write_file(out, render_report(report));
    std::fprintf(stderr, "report: %s\n", out.c_str());
    return 0;
}

}  // namespace cover::app
