#!/usr/bin/env python3
"""Times one COVER training step in PyTorch and in `cover bench step`, in turn, in one run.

Every measurement is a fresh process: PyTorch, cover, PyTorch, cover, ... so that a drift of the machine's speed hits
both; the ratio is taken pair by pair. float32, the same number of threads for both, both views stacked in one batch,
the memory layout that is faster for PyTorch (tried first). Peak memory is the operating system's figure for each
process. Exit 0, 1 when a run fails, 77 when torch is absent.

    python3 bench/compare_pytorch.py
    python3 bench/compare_pytorch.py --case 2d-64 --repeats 5 --out
    python3 bench/compare_pytorch.py --case 3d-48 --layers
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CASES = {  # dims, patch, batch, steps of one process
    "2d-64": (2, 64, 4, 8),
    "2d-128": (2, 128, 4, 4),
    "2d-256": (2, 256, 4, 2),
    "3d-48": (3, 48, 1, 2),
}
WARM_UP = 2


# ---- the PyTorch process -------------------------------------------------------------------------------------------


class TorchCase:
    def __init__(self, dims, patch, batch, layout):
        import torch

        import pytorch_cover as reference

        torch.manual_seed(0)
        self.torch, self.dims = torch, dims
        self.format = torch.contiguous_format
        if layout == "channels_last":
            self.format = torch.channels_last if dims == 2 else torch.channels_last_3d
        sides = (patch,) * dims
        self.model = reference.Cover(dims)
        for parameter in self.model.parameters():  # not mov.grid, whose four axes in 3D are no image's
            if parameter.dim() == dims + 2:
                parameter.data = parameter.data.to(memory_format=self.format)
        optimizer = reference.make_optimizer(self.model)
        views = [torch.rand(batch, 1, *sides).contiguous(memory_format=self.format) for _ in range(2)]
        # A turn by 0.2 rad in the plane of the last two axes, and a shift by 2 pixels.
        grid = torch.stack(torch.meshgrid(*[torch.arange(patch) - (patch - 1) / 2] * dims, indexing="ij"))
        psi = torch.full_like(grid, 2.0)
        psi[-2] += -0.02 * grid[-2] - 0.199 * grid[-1]
        psi[-1] += 0.199 * grid[-2] - 0.02 * grid[-1]
        psi = psi.expand(batch, *psi.shape).contiguous()
        mask = reference.overlap_mask(psi)
        self.step = lambda: reference.train_step(self.model, optimizer, *views, psi, mask)
        self.forward = lambda: self.model(*views)

    def times(self, steps):
        for _ in range(WARM_UP):
            self.step()
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            loss = self.step()[0]
            seconds.append(time.perf_counter() - start)
        if not self.torch.isfinite(loss):
            sys.exit("the PyTorch step gave a loss that is not finite")
        return seconds

    def convolutions(self):
        """[(name, module, input shape, FLOP forward)] in order of execution."""
        found = []

        def hook(name):
            def see(module, inputs, output):
                taps = module.weight[0, 0].numel()
                flop = 2 * taps * module.in_channels * output.numel()
                found.append((name, module, tuple(inputs[0].shape), flop))

            return see

        handles = [m.register_forward_hook(hook(n)) for n, m in self.model.named_modules() if hasattr(m, "kernel_size")
                   and hasattr(m, "in_channels")]
        with self.torch.no_grad():
            self.forward()
        for handle in handles:
            handle.remove()
        return found

    def step_flop(self):
        """Forward, and in backward both gradients; the first convolution needs none of its input."""
        convolutions = self.convolutions()
        return sum(3 * flop for *_, flop in convolutions) - convolutions[0][3]

    def conv_seconds(self):
        """Time that one step spends in convolutions, forward and backward."""
        with self.torch.profiler.profile(activities=[self.torch.profiler.ProfilerActivity.CPU]) as profile:
            self.step()
        names = ("aten::convolution", "aten::convolution_backward")
        return sum(e.cpu_time_total for e in profile.key_averages() if e.key in names) / 1e6

    def layers(self):
        """Seconds of each convolution on its own: forward, gradient of the input, gradient of the weights."""
        torch = self.torch
        first = True
        for name, module, shape, flop in self.convolutions():
            x = torch.rand(shape).contiguous(memory_format=self.format)
            dy = torch.rand_like(module(x).detach())
            arguments = (dy, x, module.weight.detach(), [module.out_channels], module.stride, module.padding,
                         module.dilation, False, [0] * self.dims, 1)

            def backward(mask):
                return lambda: torch.ops.aten.convolution_backward(*arguments, mask)

            def measure(function):
                with torch.no_grad():
                    function()
                    seconds = []
                    while len(seconds) < 3 or (sum(seconds) < 0.3 and len(seconds) < 50):
                        start = time.perf_counter()
                        function()
                        seconds.append(time.perf_counter() - start)
                return statistics.median(seconds)

            yield {"name": name, "shape": shape, "out_channels": module.out_channels, "flop": flop,
                   "forward": measure(lambda: module(x)),
                   "backward_data": None if first else measure(backward([True, False, False])),
                   "backward_weight": measure(backward([False, True, True]))}
            first = False


def torch_child(arguments):
    import torch

    torch.set_num_threads(arguments.threads)
    dims, patch, batch, steps = CASES[arguments.case[0]]
    steps = arguments.steps or steps
    case = TorchCase(dims, patch, batch, arguments.layout)
    if arguments.child == "layers":
        result = {"layers": list(case.layers())}
    else:
        seconds = case.times(steps)
        result = {"seconds": statistics.median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    if arguments.child == "trial":
        result.update(flop=case.step_flop(), conv_seconds=case.conv_seconds(), torch=torch.__version__,
                      parameters=sum(p.numel() for p in case.model.parameters()),
                      capability=torch.backends.cpu.get_cpu_capability())
    print(json.dumps(result))


# ---- the process that compares --------------------------------------------------------------------------------------


class RunFailed(Exception):
    pass


def run(command):
    """Runs it in a process of its own; its JSON (the last line of its output) and its peak memory in bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        text = out.read().strip()
        if child.returncode != 0:
            raise RunFailed(f"{' '.join(map(str, command))}\nended with {child.returncode}:\n{err.read()[-2000:]}")
    start = text.find("{")
    try:
        result = json.loads(text[start:])
    except ValueError:
        raise RunFailed(f"{' '.join(map(str, command))}\nprinted no JSON but: {text[:500]!r}") from None
    result["peak_process_bytes"] = usage.ru_maxrss * 1024
    return result


def torch_command(kind, case, layout, arguments):
    return [sys.executable, __file__, "--child", kind, "--case", case, "--layout", layout, "--threads",
            str(arguments.threads), "--steps", str(arguments.steps or 0)]


def cover_command(case, arguments):
    dims, patch, batch, steps = CASES[case]
    return [arguments.cover, "bench", "step", "--dims", str(dims), "--patch", str(patch), "--batch", str(batch),
            "--threads", str(arguments.threads), "--steps", str(arguments.steps or steps), "--json"]


def choose_layout(case, arguments):
    trials = {}
    for layout in ("contiguous", "channels_last"):
        trials[layout] = run(torch_command("trial", case, layout, arguments))
    best = min(trials, key=lambda layout: trials[layout]["seconds_min"])  # robust when the machine is shared
    facts = trials[best]
    print(f"{case}: torch {facts['torch']} ({facts['capability']}), {facts['parameters']:,} parameters, "
          f"{facts['flop'] / 1e9:.1f} GFLOP of convolutions per step")
    print("  layouts tried: " + ", ".join(f"{n} {t['seconds_min']:.3f} s" for n, t in trials.items()) + f"; takes {best}")
    print(f"  PyTorch convolutions: {facts['conv_seconds']:.3f} s of a step, "
          f"{facts['flop'] / facts['conv_seconds'] / 1e9:.1f} GFLOP/s")
    return best, facts


def print_layers(case, layout, arguments):
    layers = run(torch_command("layers", case, layout, arguments))["layers"]
    print(f"  {'PyTorch convolution':44} {'input':>22} {'out':>4}  GFLOP/s: forward, data, weight")
    for layer in layers:
        rates = [layer["flop"] / layer[n] / 1e9 if layer[n] else None
                 for n in ("forward", "backward_data", "backward_weight")]
        shape = "x".join(map(str, layer["shape"]))
        print(f"  {layer['name']:44} {shape:>22} {layer['out_channels']:>4} "
              + " ".join(f"{r:8.1f}" if r else f"{'-':>8}" for r in rates))
    return layers


def compare(case, arguments):
    layout, facts = choose_layout(case, arguments)
    result = {"case": case, "layout": layout, "torch": facts["torch"], "flop": facts["flop"],
              "torch_conv_seconds": facts["conv_seconds"], "threads": arguments.threads, "pytorch": [], "cover": []}
    if arguments.layers:
        result["layers"] = print_layers(case, layout, arguments)
    if arguments.only_pytorch:
        print(f"  PyTorch peak memory {facts['peak_process_bytes'] / 2**20:.0f} MiB")
        return result
    for turn in range(arguments.repeats):
        result["pytorch"].append(run(torch_command("time", case, layout, arguments)))
        result["cover"].append(run(cover_command(case, arguments)))
        a, b = result["pytorch"][-1]["seconds"], result["cover"][-1]["seconds"]
        print(f"  pair {turn + 1}: PyTorch {a:.3f} s, cover {b:.3f} s, cover/PyTorch {b / a:.3f}", flush=True)

    def median(side, key):
        return statistics.median(r[key] for r in result[side])

    ratios = [b["seconds"] / a["seconds"] for a, b in zip(result["pytorch"], result["cover"])]
    result["ratio"] = statistics.median(ratios)
    result["ratio_min"], result["ratio_max"] = min(ratios), max(ratios)
    result["memory_ratio"] = median("cover", "peak_process_bytes") / median("pytorch", "peak_process_bytes")
    for side in ("pytorch", "cover"):
        seconds, peak = median(side, "seconds"), median(side, "peak_process_bytes")
        print(f"  {side:8} median {seconds:.3f} s a step ({facts['flop'] / seconds / 1e9:.1f} GFLOP/s of convolutions "
              f"over the whole step), peak memory {peak / 2**20:.0f} MiB")
    print(f"  time, cover/PyTorch: median {result['ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
          f"memory: {result['memory_ratio']:.3f}")
    return result


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of processes per case")
    parser.add_argument("--steps", type=int, default=0, help="timed steps per process; by default by case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cover", default=str(ROOT / "build/cover"), help="the program; default build/cover")
    parser.add_argument("--layers", action="store_true", help="rates of each convolution of PyTorch as well")
    parser.add_argument("--only-pytorch", action="store_true", help="do not run cover")
    parser.add_argument("--out", nargs="?", const=str(ROOT / "bench/results/compare_pytorch.json"), metavar="FILE",
                        help="write the numbers as JSON, by default to bench/results/compare_pytorch.json")
    parser.add_argument("--child", choices=("trial", "time", "layers"), help=argparse.SUPPRESS)
    parser.add_argument("--layout", choices=("contiguous", "channels_last"), default="contiguous",
                        help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("skipped: torch is not installed")
        return 77
    if arguments.child:
        torch_child(arguments)
        return 0
    if not arguments.only_pytorch and not os.access(arguments.cover, os.X_OK):
        parser.error(f"{arguments.cover} is no program; build it with make, or name one with --cover")
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    print(f"processor: {processor()}, {os.cpu_count()} cores, {arguments.threads} threads, float32, "
          f"load {os.getloadavg()[0]:.2f} at the start", flush=True)
    try:
        results = [compare(case, arguments) for case in arguments.case or CASES]
    except RunFailed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.out:
        path = pathlib.Path(arguments.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"processor": processor(), "cores": os.cpu_count(), "cases": results}, indent=1) + "\n")
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
