#!/usr/bin/env python3
"""Sets what `cover bench` measured on a GPU beside what bench/gpu_baseline.py measured there of PyTorch and cuDNN.

    python3 bench/compare_pytorch_gpu.py RAW                    the folder that tools/gpu_bench.sh filled; prints tables
    python3 bench/compare_pytorch_gpu.py RAW --results FOLDER   and writes FOLDER/gpu_DEVICE_DATE.json
    python3 bench/compare_pytorch_gpu.py --markdown bench/results/gpu_*.json > docs/benchmarks_gpu.md

RAW holds any of pytorch.json, pytorch_compile_CASE.json, conv.json, fused.json, ops.json, step_CASE_PRECISION.json;
what is absent leaves its columns empty.
A file of results may have a string "provenance", how it came about where no single run wrote it; the page shows it.
Needs Python alone.
"""

import argparse
import datetime
import json
import pathlib
import re
import sys

import gpu_floor
import step_shapes as shapes

PASSES = ("conv", "conv_backward_data", "conv_backward_weight")
PRECISIONS = ("bf16", "tf32", "fp32")
CASES = ("2d", "3d")
VENDOR = re.compile(r"^(cudnn|cublas|vendor)")

HEADER = """# On a GPU, beside PyTorch and cuDNN

Printed by `bench/compare_pytorch_gpu.py --markdown` from the files named below each heading, which `make gpu-bench`
wrote, unless a line there says how else; no figure here is typed by hand. Times are medians, taken by the device's
own clock around each call, operands rotated where they would fit its cache. The roof of a pass is the larger of its
products at the device's matrix rate and of its bytes (each operand once) at its copy rate; both rates are the best
seen in the same run: of a plain loop of mma.sync or fused multiply-adds, of PyTorch's large matrix products, of our
copy and of PyTorch's. cuDNN is called through PyTorch with `cudnn.benchmark`, channels last, without bias; our
forward adds the bias, our weight gradient has its own.
"""


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(path):
    """The JSON of a file, or None: a program that was stopped at its limit leaves none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def gather(folder):
    ours = [found for name in ("conv", "fused", "ops") if (found := load(folder / f"{name}.json"))]
    steps = {f"{case} {precision}": found for case in CASES for precision in PRECISIONS
             if (found := load(folder / f"step_{case}_{precision}.json"))}
    pytorch = load(folder / "pytorch.json")
    if pytorch:
        # One process for each case of torch.compile: they compiled side by side.
        for case in CASES:
            part = (load(folder / f"pytorch_compile_{case}.json") or {}).get("sections", {}).get("compile")
            if part:
                kept = pytorch["sections"].setdefault("compile", {"seconds": 0.0, "rows": [], "left_out": []})
                kept["seconds"] = max(kept["seconds"], part["seconds"])
                kept["rows"] += part["rows"]
                kept["left_out"] += part["left_out"]
    names = [part.get("device") for part in ours + [pytorch or {}]] + [s.get("device_name") for s in steps.values()]
    return {"device": next((name for name in names if name), "unknown device"),
            "date": datetime.date.today().isoformat(), "cover": ours, "steps": steps, "pytorch": pytorch}


def section(data, name):
    return ((data["pytorch"] or {}).get("sections", {}).get(name) or {}).get("rows", [])


def rates(data):
    """GFLOP/s by precision and GB/s of copying: the best that either program saw."""
    found = {"copy": 0.0, "bf16": 0.0, "tf32": 0.0, "fp32": 0.0}
    for part in data["cover"]:
        found["copy"] = max(found["copy"], part["roofs"]["copy_gigabytes_per_second"])
        for precision in PRECISIONS:
            found[precision] = max(found[precision], part["roofs"][f"{precision}_gflops"])
    for row in section(data, "roof"):
        key, rate = ("copy", "gigabytes_per_second") if row["precision"] == "bytes" else (row["precision"], "gflops")
        found[key] = max(found[key], row.get(rate, 0.0))
    # The multiply-adds of float32 are a roof of ours alone, where PyTorch measured none.
    return found


def best_rows(data, precision):
    """{(op, shape): (row, ms)} of the fastest native row, and the same of the vendor's; TF32 takes exact rows too."""
    native, vendor = {}, {}
    accepted = {"bf16": ("bf16",), "tf32": ("tf32", "fp32"), "fp32": ("fp32",)}[precision]
    for part in data["cover"]:
        for row in part["rows"]:
            if "error" in row or row["precision"] not in accepted:
                continue
            into = vendor if VENDOR.match(row["row"]) else native
            key, found = (row["op"], row["shape"]), (row["row"], 1e3 * row["seconds"])
            if key not in into or found[1] < into[key][1]:
                into[key] = found
    return native, vendor


def plane_of(data):
    """dims, patch, batch of the 2D shapes that were timed."""
    if data["cover"]:
        part = data["cover"][0]
        return part["dims"], part["patch"][2], part["batch"]
    return (data["pytorch"] or {}).get("plane", (2, 384, 24))


# ---- tables ----------------------------------------------------------------------------------------------------------


def number(value, digits=3):
    return "" if value is None else f"{value:.{digits}g}" if value < 1000 else f"{value:.0f}"


def table(head, lines):
    if not lines:
        return []
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]


def conv_tables(data):
    dims, patch, batch = plane_of(data)
    roofs, out = rates(data), []
    layers = [layer[:3] for layer in shapes.unet_layers()]
    listed = [(2 * batch, *layer, 3, layers.count(layer)) for layer in dict.fromkeys(layers)]
    listed += [(batch, *layer, 1, 2) for layer in shapes.projections()]
    for precision in PRECISIONS:
        native, vendor = best_rows(data, precision)
        cudnn = {(row["op"], row["shape"]): row["ms"] for row in section(data, "conv")
                 if row["precision"] == precision and "ms" in row}
        lines, total, counted = [], {"ours": 0.0, "cudnn": 0.0, "roof": 0.0}, 0
        for index, (n, level, c_in, c_out, kernel, times) in enumerate(listed):
            sides = shapes.sides_of(dims, patch, level)
            shape = shapes.shape_text(n, sides, f"{c_in}->{c_out}" + (" (1)" if kernel == 1 else ""))
            flop, moved = shapes.conv_cost(n, sides, c_in, c_out, kernel, shapes.ELEMENT[precision])
            known = roofs[precision] and roofs["copy"]
            roof = max(flop / roofs[precision], moved / roofs["copy"]) / 1e6 if known else 0.0
            cells = [shape]
            for op in PASSES:
                name, ours = native.get((op, shape), ("", None))
                theirs = cudnn.get((op, shape)) or vendor.get((op, shape), ("", None))[1]
                if index == 0 and op == "conv_backward_data":
                    cells.append("")
                    continue
                parts = [f"{number(ours)} `{name}`" if ours else "-"]
                parts.append(number(theirs) if theirs else "-")
                parts.append(f"{ours / theirs:.2f}" if ours and theirs else "-")
                parts.append(f"{100 * roof / ours:.0f} %" if ours and roof else "-")
                cells.append(" / ".join(parts))
                if kernel == 3 and ours and theirs:
                    counted += times
                    total["ours"] += times * ours
                    total["cudnn"] += times * theirs
                    total["roof"] += times * roof
            lines.append(cells)
        if not cudnn and not any(op in PASSES for op, _ in native):
            continue
        out.append(f"\n### Convolutions, {precision}\n")
        out.append("Each pass: ours in ms and its row / cuDNN in ms / ours over cuDNN / our share of the roof. "
                   "(1): projections.\n")
        out += table(["layer", "forward", "data gradient", "weight gradient"], lines)
        if counted:
            out.append(f"\n{counted} of the 53 passes of the U-Net were timed in both: ours {total['ours']:.2f} ms, "
                       f"cuDNN {total['cudnn']:.2f} ms, ours over cuDNN **{total['ours'] / total['cudnn']:.2f}**; "
                       f"the roof is {total['roof']:.2f} ms.")
    return out + ladder(data, listed, dims, patch)


def ladder(data, listed, dims, patch):
    """Every row's time over the passes that it can do."""
    weights = {}
    for n, level, c_in, c_out, kernel, times in listed:
        if kernel == 3:
            weights[shapes.shape_text(n, shapes.sides_of(dims, patch, level), f"{c_in}->{c_out}")] = times
    sums = {}
    for part in data["cover"]:
        for row in part["rows"]:
            if row["op"] in PASSES and row["shape"] in weights and "seconds" in row:
                entry = sums.setdefault((row["op"], row["row"], row["precision"]), [0, 0.0, 0.0])
                times = weights[row["shape"]]
                entry[0] += times
                entry[1] += times * 1e3 * row["seconds"]
                entry[2] += times * row["flops"]
    lines = [[op, f"`{row}`", precision, str(count), number(ms, 4), number(flop / ms / 1e9, 3)]
             for (op, row, precision), (count, ms, flop) in sums.items()]
    if not lines:
        return []
    return ["\n### Rungs, over the passes of the U-Net that each can do\n"] + table(
        ["pass", "row", "precision", "passes", "ms together", "TFLOP/s"], lines)


def op_table(data):
    lines = []
    for precision in ("bf16", "fp32"):
        native, _ = best_rows(data, precision)
        pytorch = {(row["op"], row["shape"]): row for row in section(data, "ops")
                   if row["precision"] == precision and "ms" in row}
        sizes = {(row["op"], row["shape"]): row["bytes"] for part in data["cover"] for row in part["rows"]
                 if row["precision"] == precision and "bytes" in row}
        keys = [key for key in native if key[0] not in PASSES]
        for op, shape in keys + [key for key in pytorch if key not in native]:
            name, ours = native.get((op, shape), ("", None))
            theirs = pytorch.get((op, shape), {}).get("ms")
            moved = sizes.get((op, shape))
            lines.append([op, shape, precision, f"`{name}`" if name else "", number(ours),
                          number(moved / ours / 1e6, 4) if ours and moved else "", number(theirs),
                          f"{theirs / ours:.1f}" if ours and theirs else ""])
    if not lines:
        return []
    return ["\n### Other ops\n"] + table(
        ["op", "shape", "precision", "row", "ours, ms", "GB/s", "PyTorch, ms", "PyTorch over ours"], lines)


def floors(data):
    """{"2d bf16": parts in ms} for the cases of the steps that were timed."""
    roofs, found = rates(data), {}
    cases = dict((data["pytorch"] or {}).get("cases", {}))
    for key, step in data["steps"].items():
        sides = [int(side) for side in step["patch"].split("x")]
        cases.setdefault(key.split()[0], (step["dims"], sides[-1], step["batch"]))
    for case, (dims, patch, batch) in cases.items():
        for precision in PRECISIONS:
            if roofs["copy"] and roofs[precision] and roofs["fp32"]:
                found[f"{case} {precision}"] = gpu_floor.floor(
                    dims, patch, batch, shapes.ELEMENT[precision], roofs[precision], roofs["fp32"], roofs["copy"])
    return found


def step_table(data):
    theirs = {}
    for row in section(data, "step") + section(data, "compile"):
        if "ms" in row:
            theirs[f"{row['case']} {row['precision']}", row["way"]] = row
    bounds, lines, gib = floors(data), [], 2**30
    for key in [f"{case} {precision}" for case in CASES for precision in PRECISIONS]:
        ours = data["steps"].get(key)
        ways = [theirs.get((key, way)) for way in ("eager", "compiled")]
        if not ours and not any(ways):
            continue
        fastest = min((way["ms"] for way in ways if way), default=None)
        alone = " (eager alone)" if ways[0] and not ways[1] else ""
        least = min((way.get("peak_allocated_bytes") or 0 for way in ways if way), default=0) or None
        milliseconds = 1e3 * ours["seconds"] if ours else None
        bound = bounds.get(key, {}).get("step")
        memory = ours["peak_bytes"] if ours else None
        lines.append([key, number(milliseconds, 4), *(number(way["ms"], 4) if way else "" for way in ways),
                      f"{milliseconds / fastest:.2f}{alone}" if ours and fastest else "", number(bound, 4),
                      f"{100 * bound / milliseconds:.0f} %" if ours and bound else "",
                      number(memory / gib) if ours else "", number(least / gib) if least else "",
                      f"{memory / least:.2f}" if ours and least else ""])
    if not lines:
        return []
    out = ["\n### The training step\n"] + table(
        ["case", "ours, ms", "PyTorch eager", "compiled", "ours over the faster", "floor, ms", "share of floor",
         "our peak, GiB", "PyTorch's lower peak", "ours over it"], lines)
    shown = {key: parts for key, parts in bounds.items() if key.endswith("bf16")}
    for key, parts in shown.items():
        out.append(f"\nFloor of {key}, from the rates above: " + ", ".join(
            f"{name} {value:.2f} ms" for name, value in parts.items()) + ".")
    return out


def report(data, source):
    roofs, pytorch = rates(data), data["pytorch"] or {}
    dims, patch, batch = plane_of(data)
    out = [f"\n## {data['device']}, {data['date']}\n",
           f"`{source}`. {dims}D patch {patch}, batch {batch} ({2 * batch} images); copy {roofs['copy']:.0f} GB/s; "
           "products " + ", ".join(f"{p} {roofs[p] / 1e3:.1f}" for p in PRECISIONS) + " TFLOP/s"
           + (f"; PyTorch {pytorch['torch']}, cuDNN {pytorch['cudnn']}." if pytorch else "; PyTorch was not there.")]
    if "provenance" in data:
        out.append(f"\n{data['provenance']}")
    out += step_table(data) + conv_tables(data) + op_table(data)
    sections = pytorch.get("sections", {})
    left = [f"PyTorch, {name}: {len(part['left_out'])}" for name, part in sections.items() if part["left_out"]]
    left += [f"ours: {part['left_out']}" for part in data["cover"] if part.get("left_out")]
    errors = [f"{row.get('op', row.get('case', ''))} {row.get('row', row.get('way', ''))} {row.get('shape', '')} "
              f"{row.get('precision', '')}: {row['error']}" for part in data["cover"] + list(sections.values())
              for row in part["rows"] if "error" in row]
    warnings = [f"PyTorch {row['way']}, {row['case']} {row['precision']}: {row['warning']}"
                for part in sections.values() for row in part["rows"] if "warning" in row]
    if warnings:
        out.append("\nTo be read with care: " + "; ".join(warnings) + ".")
    if left:
        out.append("\nLeft out at a limit of time: " + "; ".join(left) + ".")
    if errors:
        out.append("\nDid not run:\n")
        out += ["- " + " ".join(error.split()) for error in dict.fromkeys(errors)]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", metavar="RAW")
    parser.add_argument("--results", metavar="FOLDER", help="where the numbers are kept as one JSON file")
    parser.add_argument("--markdown", nargs="+", metavar="FILE", help="print the page of docs/ from such files")
    arguments = parser.parse_args()
    if arguments.markdown:
        print(HEADER + "\n".join(report(json.loads(pathlib.Path(path).read_text()), path)
                                 for path in sorted(arguments.markdown, reverse=True)))
        return 0
    if not arguments.folder:
        parser.error("takes the folder that tools/gpu_bench.sh filled, or --markdown FILE...")
    data = gather(pathlib.Path(arguments.folder))
    if not data["cover"] and not data["steps"] and not data["pytorch"]:
        print(f"{arguments.folder} holds no measurement")
        return 1
    print(report(data, arguments.folder))
    if arguments.results:
        name = re.sub(r"[^a-z0-9]+", "_", data["device"].lower()).strip("_")
        path = pathlib.Path(arguments.results) / f"gpu_{name}_{data['date']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1) + "\n")
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
