#!/usr/bin/env python3
"""Holds bench/compare_pytorch_gpu.py to numbers that are known: python3 tests/python/gpu_tables.py --cover COVER

The floor of a step at the rates for which it was worked out by hand, and the tables of a made-up run in which cuDNN
takes half of our time in every pass: all 53 passes must find each other under the names that `cover bench ops` prints.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import compare_pytorch_gpu as compare
import gpu_floor

failures = []


def check(holds, what):
    if not holds:
        failures.append(what)


def near(value, expected, tolerance=0.005):
    return abs(value - expected) <= tolerance * expected


def check_floor():
    """384 x 384, batch 24, bfloat16. By hand, layer by layer: 9.01 TFLOP and 31.8 GB of convolutions."""
    huge = 1e15
    at_both = gpu_floor.floor(2, 384, 24, 2, 790e3, 60e3, 4300)
    check(near(at_both["convolutions"], 13.3), f"convolutions {at_both['convolutions']} ms, by hand 13.3")
    check(near(at_both["step"], 15.0), f"step {at_both['step']} ms, by hand 15.0")
    products = gpu_floor.floor(2, 384, 24, 2, 790e3, huge, huge)
    check(near(products["convolutions"], 9.00987e3 / 790), f"products {products['convolutions']} ms, by hand 11.405")
    check(near(products["projections"], 0.03533e3 / 790), f"projections {products['projections']} ms, by hand 0.0447")
    check(near(gpu_floor.floor(2, 384, 24, 2, huge, huge, 4300)["convolutions"], 31.8 / 4.3),
          "bytes alone are not 31.8 GB")
    voxels = 2 * 4 * 96**3
    first = 2 * 27 * 32 * voxels / 790e9  # the first layer needs no data gradient
    volume = gpu_floor.floor(3, 96, 4, 2, 790e3, huge, huge)
    check(near(volume["convolutions"], 6 * 274752 * voxels / 790e9 - first), "3D products are not 274,752 MAC a voxel")


def check_tables(cover):
    command = [cover, "bench", "ops", "--op", "conv", "--patch", "16", "--batch", "1", "--row", "ref", "--seconds",
               "0.0001", "--json"]
    ran = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = []
    for row in ran["rows"]:
        flops = row["gflops"] * row["seconds"] * 1e9
        rows.append({"op": row["op"], "shape": row["shape"], "row": "cuda_6", "precision": "bf16",
                     "seconds": row["seconds"], "flops": flops, "bytes": flops / 100})
    roofs = {"copy_gigabytes_per_second": 3000, "fp32_gflops": 5e4, "tf32_gflops": 3e5, "bf16_gflops": 6e5}
    ours = {"device": "a device", "dims": 2, "patch": [1, 16, 16], "batch": 1, "roofs": roofs, "rows": rows}
    found = {}  # the network has some shapes twice, of which the faster time counts
    for row in sorted(rows, key=lambda row: -row["seconds"]):
        found[row["op"], row["shape"]] = row
    pytorch = {"device": "a device", "torch": "0", "cudnn": 0, "plane": [2, 16, 1], "cases": {"2d": [2, 16, 1]},
               "sections": {
                   "conv": {"left_out": [], "rows": [
                       {"op": op, "shape": shape, "precision": "bf16", "ms": 500 * row["seconds"]}
                       for (op, shape), row in found.items()]},
                   "step": {"left_out": ["3d bf16"], "rows": [
                       {"case": "2d", "precision": "bf16", "way": "eager", "ms": 40.0, "peak_allocated_bytes": 8 << 30},
                       {"case": "2d", "precision": "fp32", "way": "eager", "error": "out of memory"}]},
                   "compile": {"left_out": [], "rows": [
                       {"case": "2d", "precision": "bf16", "way": "compiled", "ms": 32.0,
                        "peak_allocated_bytes": 6 << 30}]}}}
    step = {"dims": 2, "patch": "16x16", "batch": 1, "seconds": 0.024, "peak_bytes": 3 << 30, "device_name": "a device"}
    with tempfile.TemporaryDirectory() as folder:
        raw = pathlib.Path(folder)
        for name, value in (("conv", ours), ("pytorch", pytorch), ("step_2d_bf16", step)):
            (raw / f"{name}.json").write_text(json.dumps(value))
        (raw / "ops.json").write_text('{"rows": [')  # as a program leaves it that was stopped at its limit
        text = compare.report(compare.gather(raw), folder)
    check("53 of the 53 passes" in text, "not all 53 passes were found in both")
    check("ours over cuDNN **2.00**" in text, "twice cuDNN's time is not printed as 2.00")
    line = next((line for line in text.splitlines() if line.startswith("| 2d bf16")), "")
    cells = [cell.strip() for cell in line.split("|")]
    check(cells[2:6] == ["24", "40", "32", "0.75"], f"the line of the step is wrong: {line}")
    check(cells[8:11] == ["3", "6", "0.50"], f"the memory of the step is wrong: {line}")
    check("out of memory" in text and "PyTorch, step: 1" in text, "what did not run, or was left out, is not said")
    for layer in compare.shapes.projections():
        check(f"{layer[1]}->{layer[2]} (1) | -" not in text, f"the projection of level {layer[0]} was not found")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cover", required=True)
    arguments = parser.parse_args()
    check_floor()
    check_tables(arguments.cover)
    print("\n".join(failures) or "floor and tables hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
