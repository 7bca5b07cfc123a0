// One function per command, each in a file of its name. They return the exit code of a success or of a failed
// verification; everything else that goes wrong is an Error.
#pragma once

#include "app/options.h"

namespace cover::app {

int run(const TextOptions&);
int run(const DemoOptions&);
int run(const PrepareOptions&);
int run(const PretrainOptions&);
int run(const EvaluateOptions&);
int run(const ExportOptions&);
int run(const ReportOptions&);
int run(const ApplyOptions&);
int run(const VerifyGoldenOptions&);
int run(const VerifyRunsOptions&);
int run(const VerifyBatchOptions&);
int run(const BenchStepOptions&);
int run(const BenchOpsOptions&);
int run(const InfoOptions&);

}  // namespace cover::app
