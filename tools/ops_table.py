#!/usr/bin/env python3
"""Turns what `cover bench ops --json` printed into the tables of docs/benchmarks.md.

    cover bench ops --dims 2 --patch 128 --batch 4 --row cpu_avx2 --json > bench/results/ops_2d.json
    cover bench ops --dims 3 --patch 48 --batch 1 --row cpu_avx2 --json > bench/results/ops_3d.json
    tools/ops_table.py bench/results/ops_2d.json bench/results/ops_3d.json > docs/benchmarks.md

A file may have a sentence "provenance" beside what was printed; it is shown under the heading.
"""

import json
import pathlib
import sys

HEADER = """# Kernel rows, measured

Printed by `tools/ops_table.py` from the files named below each heading; nothing here is typed by hand. Anew:

    build/cover bench ops --dims 2 --patch 128 --batch 4 --row cpu_avx2 --json > bench/results/ops_2d.json
    build/cover bench ops --dims 3 --patch 48 --batch 1 --row cpu_avx2 --json > bench/results/ops_3d.json
    tools/ops_table.py bench/results/ops_2d.json bench/results/ops_3d.json > docs/benchmarks.md

These are not all rows: each heading says which were timed, and whether the fused convolutions, by which a step computes by
default on the CPU, are among them. `cover bench ops` without `--row` times every row that the machine can run. A row's time is the
median of repeated calls. Convolutions and local attention are set against the rate of a loop of independent fused
multiply-adds, the rest against the faster of a loop that copies and one
that adds in place (memory), both measured in the same run on the same threads; a map that fits the caches
may exceed it. Convolutions are those of the U-Net in the order of the forward pass: five stages down, four up,
five projections (1).
"""


def shapes(rows, ops):
    seen = []
    for row in rows:
        if row["op"] in ops and (row["shape"], row["row"]) not in seen:
            seen.append((row["shape"], row["row"]))
    return seen


def table(rows, ops, rate, unit, share, of):
    """One line per shape, one pair of columns per op: the first measurement of each (op, shape, row)."""
    first = {}
    for row in rows:
        first.setdefault((row["op"], row["shape"], row["row"]), row)
    lines = ["| shape | row | " + " | ".join(f"{op}, ms | {unit} | % of {of}" for op in ops) + " |"]
    lines.append("|---|---|" + "---|" * (3 * len(ops)))
    for shape, name in shapes(rows, ops):
        cells = []
        for op in ops:
            row = first.get((op, shape, name))
            cells.append(f"{1e3 * row['seconds']:.3g} | {row[rate]:.4g} | {row[share]:.0f}" if row else " | | ")
        lines.append(f"| {shape} | `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(path):
    data = json.loads(pathlib.Path(path).read_text())
    rows = data["rows"]
    patch = [side for side in data["patch"] if side > 1 or data["dims"] == 3]
    out = [f"\n## {data['dims']}D, patch {' x '.join(map(str, patch))}, batch {data['batch']} (both views: {2 * data['batch']})\n"]
    out.append(f"`{path}`: {data['processor']}, {data['threads']} threads; fused multiply-adds {data['fma_gflops']:.1f} GFLOP/s, "
               f"memory {data['memory_gigabytes_per_second']:.1f} GB/s. Rows: "
               + ", ".join(f"`{name}`" for name in dict.fromkeys(row["row"] for row in rows))
               + ("." if any(row["op"] == "fused_conv" for row in rows)
                  else ", of the plain ops alone.")
               + (" " + data["provenance"] if "provenance" in data else "") + "\n")
    by_flops = ("gflops", "GFLOP/s", "percent_of_fma", "FMA")
    by_bytes = ("gigabytes_per_second", "GB/s", "percent_of_memory", "memory")
    groups = [(["conv", "conv_backward_data", "conv_backward_weight"], by_flops),
              (["fused_conv", "fused_conv_backward_data", "fused_conv_backward_weight"], by_flops),
              (["local_attention", "local_attention_backward"], by_flops),
              (["group_norm", "group_norm_statistics", "group_norm_apply", "group_norm_backward"], by_bytes),
              (["warp", "warp_backward"], by_bytes),
              (["max_pool", "max_pool_backward"], by_bytes),
              (["upsample", "upsample_backward"], by_bytes),
              (["concat", "split"], by_bytes),
              (["masked_l1", "masked_l1_backward"], by_bytes),
              (["masked_cosine", "masked_cosine_backward"], by_bytes),
              (["add"], by_bytes), (["scale"], by_bytes), (["sum_of_squares"], by_bytes), (["adam"], by_bytes),
              (["sgd"], by_bytes), (["optimizer_factors"], by_bytes), (["cast"], by_bytes), (["cut_views"], by_bytes),
              (["uniform_noise"], by_bytes), (["add_noise"], by_bytes), (["change_contrast"], by_bytes),
              (["gaussian_blur"], by_flops), (["fill_blocks"], by_bytes)]
    known = {op for ops, _ in groups for op in ops}
    unknown = {row["op"] for row in rows} - known
    if unknown:
        sys.exit(f"{path}: no table for {', '.join(sorted(unknown))}; add the op to tools/ops_table.py")
    timed = {row["op"] for row in rows}
    for ops, columns in groups:
        ops = [op for op in ops if op in timed]
        if ops:
            out.append(table(rows, ops, *columns) + "\n")
    convs = [row for row in rows if row["op"].startswith("conv")]  # the plain ones: the fused do the work of other ops too
    if convs:
        flops = sum(row["gflops"] * row["seconds"] for row in convs)
        seconds = sum(row["seconds"] for row in convs)
        out.append(f"All {len(convs)} convolution passes together: {1e3 * seconds:.0f} ms, {flops / seconds:.1f} GFLOP/s, "
                   f"{100 * flops / seconds / data['fma_gflops']:.0f} % of the FMA loop.\n")
    return "\n".join(out)


if len(sys.argv) < 2:
    sys.exit(__doc__)
print(HEADER + "\n".join(report(path) for path in sys.argv[1:]), end="")
