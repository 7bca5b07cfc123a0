#!/usr/bin/env python3
"""Tables and a picture of loss_vec_ratio from the logs of runs named WARP-SEED (docs/learning.md).

    python3 tools/learning_curves.py RUN... [--svg FILE]

Every value is the mean of the 25 steps that end at the step named. Prints Markdown. Needs Python alone.
"""

import argparse
import json
import pathlib

# Of each experiment: what the authors' code reached on the same data with one seed (reference warp), the steps that the
# table names, the last step, and the largest and smallest value of the picture.
EXPERIMENTS = {
    2: {"authors": {50: 0.88, 125: 0.74, 325: 0.67, 500: 0.60}, "authors_con": "0.002", "last": 500,
        "marks": (50, 125, 275, 325, 500), "top": 1.3, "bottom": 0.4},
    3: {"authors": {25: 1.30, 75: 1.06, 275: 0.86, 325: 0.84, 400: 0.81}, "authors_con": "", "last": 400,
        "marks": (25, 75, 150, 275, 325, 400), "top": 1.5, "bottom": 0.6},
}
COLOURS = {"reference": "#1f6fb4", "exact": "#c8611a", "authors": "#555555"}


def read(run):
    steps = []
    for line in (pathlib.Path(run) / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            steps.append(event)
    return steps


def mean25(steps, key, at):
    window = [s[key] for s in steps[at - 25 : at]]
    return sum(window) / len(window) if len(steps) >= at else None


def cell(value, digits=3):
    return "" if value is None else f"{value:.{digits}f}"


def svg(runs, path, experiment):
    width, height, left, bottom, top, right = 760, 400, 52, 40, 16, 16
    x = lambda step: left + (width - left - right) * step / experiment["last"]
    y = lambda value: top + (height - top - bottom) * (experiment["top"] - value) / (experiment["top"] - experiment["bottom"])
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for value in (v / 10 for v in range(4, 15, 2) if experiment["bottom"] <= v / 10 < experiment["top"]):
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for step in range(0, experiment["last"] + 1, 100):
        out.append(f'<text x="{x(step):.1f}" y="{height - bottom + 18}" text-anchor="middle">{step}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">step</text>')
    for name, steps in runs.items():
        warp = name.rsplit("-", 1)[0]
        points = " ".join(f"{x(at):.1f},{y(min(mean25(steps, 'loss_vec_ratio', at), experiment['top'])):.1f}" for at in range(25, len(steps) + 1, 5))
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[warp]}" stroke-width="1.4"/>')
    for step, value in experiment["authors"].items():
        out.append(f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="4" fill="{COLOURS["authors"]}"/>')
    for row, (name, colour) in enumerate((("reference warp, one line a seed", COLOURS["reference"]), ("exact warp", COLOURS["exact"]), ("the authors' code, one seed", COLOURS["authors"]))):
        out.append(f'<rect x="{width - 236}" y="{top + 8 + 18 * row}" width="14" height="4" fill="{colour}"/>'
                   f'<text x="{width - 216}" y="{top + 14 + 18 * row}">{name}</text>')
    out.append("</svg>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--below", type=float, default=0.85, help="say when a run's mean of 25 steps first was")
    parser.add_argument("--dims", type=int, choices=EXPERIMENTS, default=2)
    arguments = parser.parse_args()
    runs = {pathlib.Path(run).name: read(run) for run in arguments.runs}
    experiment = EXPERIMENTS[arguments.dims]
    authors, marks, last = experiment["authors"], experiment["marks"], experiment["last"]
    print("| run | steps | " + " | ".join(f"at {m}" for m in marks) + f" | loss_con at {last} |")
    print("|---|---|" + "---|" * (len(marks) + 1))
    print(f"| authors' code, one seed | {last} | " + " | ".join(cell(authors.get(m), 2) for m in marks) + f" | {experiment['authors_con']} |")
    for name, steps in runs.items():
        print(f"| {name} | {len(steps)} | " + " | ".join(cell(mean25(steps, "loss_vec_ratio", m)) for m in marks) + f" | {cell(mean25(steps, 'loss_con', last), 4)} |")
    for warp in ("reference", "exact"):
        group = [steps for name, steps in runs.items() if name.startswith(warp)]
        if not group:
            continue
        means = []
        for m in marks:
            values = [v for v in (mean25(steps, "loss_vec_ratio", m) for steps in group) if v is not None]
            means.append(sum(values) / len(values) if len(values) == len(group) else None)
        print(f"| **{warp}, mean of {len(group)}** | | " + " | ".join(cell(v) for v in means) + " | |")
        print(f"| {warp}, mean minus authors' | | " + " | ".join("" if v is None or m not in authors else f"{v - authors[m]:+.3f}" for m, v in zip(marks, means)) + " | |")
    for name, steps in runs.items():
        values = [step["loss_vec_ratio"] for step in steps]
        first = next((i for i in range(25, len(steps) + 1) if sum(values[i - 25 : i]) / 25 < arguments.below), None)
        if first:
            seconds = sum(step["seconds"] for step in steps[:first])
            print(f"{name}: mean of 25 below {arguments.below} at step {first}, {seconds:.0f} s of steps")
    if arguments.svg:
        svg(runs, arguments.svg, experiment)


if __name__ == "__main__":
    main()
