#!/usr/bin/env python3
"""Prints, as a table for docs/ladder/, what ptxas said of the CUDA kernels of one op when they were compiled.

    tools/register_table.py BUILD OP        e.g. build conv
"""

import pathlib
import re
import subprocess
import sys


def main():
    build, op = sys.argv[1:]
    report = pathlib.Path(build) / "kernels/cuda/CMakeFiles/cover_cuda.dir" / f"{op}.cu.o.report"
    text = subprocess.run(["c++filt"], input=report.read_text(), capture_output=True, text=True, check=True).stdout
    kernels, kernel, architecture, spills = {}, None, None, None
    for line in text.splitlines():
        if found := re.search(r"entry function '(?:void )?(.+?)\((?:.*)\)' for '(sm_\w+)'", line):
            kernel = re.sub(r"cover::cuda::native::(\w+::)?|cover::", "", found[1])
            architecture = found[2]
        elif found := re.search(r"(\d+) bytes spill stores", line):
            spills = found[1]
        elif found := re.search(r"Used (\d+) registers", line):
            kernels.setdefault(kernel, {})[architecture] = found[1] + ("" if spills == "0" else f" ({spills} bytes spilled)")
    architectures = sorted({a for row in kernels.values() for a in row})
    print("| kernel | registers, " + " | ".join(architectures) + " |")
    print("|---|" + "---|" * len(architectures))
    for kernel, row in sorted(kernels.items()):
        print(f"| `{kernel}` | " + " | ".join(row.get(a, "") for a in architectures) + " |")


main()
