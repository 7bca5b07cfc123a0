#!/bin/sh
# A compiler launcher for nvcc: keeps what `-Xptxas -v` says of each kernel (registers, spills, shared memory) beside the
# object, as OBJECT.report, where tests/cuda_report_test.cpp reads it. All other messages pass through.
# Usage: keep_compiler_report.sh nvcc ARGUMENTS
object=
previous=
for argument in "$@"; do
    if [ "$previous" = -o ]; then object=$argument; fi
    previous=$argument
done
if [ -z "$object" ]; then exec "$@"; fi
"$@" 2> "$object.report"
status=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' "$object.report" >&2
exit $status
