#!/usr/bin/env python3
"""Which CUDA kernels compile to other machine code than at another commit: what has to run on a device again.

    tools/compare_machine_code.py 85429f1                       every source of kernels/cuda
    tools/compare_machine_code.py 85429f1 conv norm             these alone
    tools/compare_machine_code.py 85429f1 --cuobjdump /opt/cuda/bin/cuobjdump

Compiles both trees' sources for sm_80 and sm_90a with nvcc and compares the instructions of their kernels, addresses and
names left out: a kernel whose name or template arguments changed is the same one if its instructions are. Prints a line
for each source, and the kernels of the old tree that the new one no longer has. Exit 0: every kernel of the old tree is
there; 1: some are not; 2: it could not be found out. Half a minute for each source; needs nvcc and cuobjdump.
"""

import argparse
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++20", "-O2", "-I.", "-Xcompiler", "-fPIC", "--expt-relaxed-constexpr",
         "-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90a,code=sm_90a"]


def kernels(tree, source, cuobjdump, scratch):
    """{(architecture, hash of the instructions): [mangled name, ...]} of one source."""
    out = scratch / f"{source}.o"
    subprocess.run(["nvcc", *FLAGS, "-c", f"kernels/cuda/{source}.cu", "-o", out], cwd=tree, check=True)
    text = subprocess.run([cuobjdump, "-sass", out], check=True, capture_output=True, text=True).stdout
    bodies, architecture, body = {}, None, None
    for line in text.splitlines():
        line = line.strip()
        if found := re.match(r"arch = (\S+)", line):
            architecture = found.group(1)
        elif found := re.match(r"Function : (\S+)", line):
            body = bodies.setdefault((architecture, found.group(1)), [])
        elif body is not None and line.startswith("/*"):
            instruction = re.sub(r"/\*.*?\*/", "", line).strip()
            if instruction:
                body.append(instruction)
    found = {}
    for (architecture, name), body in bodies.items():
        key = architecture, hashlib.sha256("\n".join(body).encode()).hexdigest()
        found.setdefault(key, []).append(name)
    return found


def readable(names):
    if not shutil.which("c++filt"):
        return names
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True).stdout
    return [re.sub(r"cover::cuda::\w+::", "", name) for name in text.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="conv for kernels/cuda/conv.cu; by default all")
    parser.add_argument("--cuobjdump", default="cuobjdump", metavar="PROGRAM")
    arguments = parser.parse_args()
    for program, package in (("nvcc", "CUDA toolkit"), (arguments.cuobjdump, "CUDA toolkit (or name it: --cuobjdump)")):
        if not shutil.which(program):
            print(f"compare_machine_code: {program} is missing; it is part of the {package}")
            return 2
    changed = 0
    with tempfile.TemporaryDirectory() as folder:
        old_tree, scratch = pathlib.Path(folder) / "tree", pathlib.Path(folder)
        old_tree.mkdir()
        archive = subprocess.run(["git", "archive", arguments.commit, "core", "kernels"], cwd=ROOT, capture_output=True)
        if archive.returncode:
            print(f"compare_machine_code: {archive.stderr.decode().strip()}")
            return 2
        subprocess.run(["tar", "-x"], cwd=old_tree, input=archive.stdout, check=True)
        here = {path.stem for path in (ROOT / "kernels/cuda").glob("*.cu")}
        there = {path.stem for path in (old_tree / "kernels/cuda").glob("*.cu")}
        for source in arguments.sources or sorted(here & there):
            try:
                new = kernels(ROOT, source, arguments.cuobjdump, scratch)
                old = kernels(old_tree, source, arguments.cuobjdump, scratch)
            except subprocess.CalledProcessError as error:
                print(f"compare_machine_code: {source}: {error}")
                return 2
            lost = sorted((key[0], name) for key, names in old.items() if key not in new for name in names)
            changed += len(lost)
            print(f"{source}: {sum(map(len, old.values()))} kernels at {arguments.commit}, {len(lost)} of them with "
                  f"other instructions here; {sum(map(len, new.values()))} here", flush=True)
            for (architecture, _), name in zip(lost, readable([name for _, name in lost])):
                print(f"  {architecture} {name[:140]}")
        for source in sorted(here - there):
            if not arguments.sources:
                print(f"{source}: new")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
