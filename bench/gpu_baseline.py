#!/usr/bin/env python3
"""PyTorch and cuDNN alone, at COVER's shapes: what `cover` is compared with on a GPU. Needs only torch.

Sections, in this order, each under its own limit of seconds:

    roof     the device's copy rate and its rates of matrix products, from large ones
    conv     the 18 convolutions of the U-Net and the 5 projections, forward, data and weight gradient, through cuDNN
    ops      group norm + leaky ReLU, warp, mixture of vectors, pool, up-sampling: forward and backward
    step     the training step, eager: channels last, autocast to bfloat16, TF32, float32; time and peak memory
    compile  the same through torch.compile, in a process of its own that is ended at its limit

    python3 bench/gpu_baseline.py --out /tmp/baseline.json
    python3 bench/gpu_baseline.py --sections roof,conv --limit conv=20
    python3 bench/gpu_baseline.py --device cpu --tiny

What a limit cuts off is named in the table and in the JSON. Exit 0, 1 when a section fails, 77 when torch is absent.
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("skipped: torch is not installed")
    sys.exit(77)

import pytorch_cover as reference
import step_shapes as shapes
import torch_timing as timing

SECTIONS = ("roof", "conv", "ops", "step", "compile")
LIMITS = {"roof": 10, "conv": 35, "ops": 15, "step": 25, "compile": 60}
PRECISIONS = ("bf16", "tf32", "fp32")


class Budget:
    def __init__(self, seconds):
        self.start, self.seconds = time.monotonic(), seconds

    def left(self):
        return self.seconds - (time.monotonic() - self.start)


class Section:
    """Collects rows, and the names of what the limit left out."""

    def __init__(self, name, arguments):
        self.name, self.arguments = name, arguments
        self.device, self.clock = arguments.device, timing.Clock(arguments.device)
        self.rows, self.left_out = [], []
        limit = arguments.limits[name]
        if arguments.budget:
            limit = min(limit, arguments.budget.left())
        self.budget = Budget(limit)

    def time(self, call, **facts):
        label = " ".join(str(facts[k]) for k in ("what", "op", "shape", "precision") if k in facts)
        if self.budget.left() <= 0:
            self.left_out.append(label)
            return
        try:
            result = self.clock.measure(call, **self.arguments.repeats)
        except RuntimeError as error:  # out of memory, or no kernel for it
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            result = {"error": str(error).splitlines()[0][:200]}
        self.rows.append({**facts, **result})

    def random(self, *shape, dtype=torch.float32, dims=None, grad=False):
        tensor = torch.randn(shape, device=self.device, dtype=dtype)
        if dims:
            tensor = tensor.contiguous(memory_format=timing.channels_last(dims))
        return tensor.requires_grad_(grad)


# ---- roofs ---------------------------------------------------------------------------------------------------------


def roof(section):
    tiny = section.arguments.tiny
    count = (1 << 16) if tiny else (1 << 30)
    source, target = (torch.zeros(count, dtype=torch.uint8, device=section.device) for _ in range(2))
    section.time(lambda i: target.copy_(source), what="copy", precision="bytes")
    for row in section.rows:
        row["gigabytes_per_second"] = 2 * count / row["ms"] / 1e6
    del source, target
    side = 64 if tiny else 8192
    for precision in PRECISIONS:
        timing.set_precision(precision)
        n = side if precision != "fp32" else side // 2
        a, b = (section.random(n, n, dtype=timing.DTYPE[precision]) for _ in range(2))
        section.time(lambda i: a @ b, what=f"matmul {n}", precision=precision)
        if section.rows and section.rows[-1]["precision"] == precision and "ms" in section.rows[-1]:
            section.rows[-1]["gflops"] = 2 * n**3 / section.rows[-1]["ms"] / 1e6
        del a, b


# ---- convolutions --------------------------------------------------------------------------------------------------


def conv_passes(section, precision, n, sides, c_in, c_out, kernel, times, data_gradient=True):
    dims, dtype = len(sides), timing.DTYPE[precision]
    flop, moved = shapes.conv_cost(n, sides, c_in, c_out, kernel, shapes.ELEMENT[precision])
    count = timing.sets_for(moved)
    if section.budget.left() <= 0:  # without the seconds that it takes to allocate
        section.left_out.append(f"{precision} {shapes.shape_text(n, sides, f'{c_in}->{c_out}')}")
        return
    sets = [[section.random(n, c, *sides, dtype=dtype, dims=dims) for c in (c_in, c_out)] for _ in range(count)]
    weight = section.random(c_out, c_in, *(kernel,) * dims, dtype=dtype, dims=dims)
    pad, one, zero = [kernel // 2] * dims, [1] * dims, [0] * dims
    shape = shapes.shape_text(n, sides, f"{c_in}->{c_out}" + (" (1)" if kernel == 1 else ""))

    def forward(i):
        torch.ops.aten.convolution(sets[i % count][0], weight, None, one, pad, one, False, zero, 1)

    def backward(mask):
        def call(i):
            x, dy = sets[i % count]
            torch.ops.aten.convolution_backward(dy, x, weight, None, one, pad, one, False, zero, 1, mask)

        return call

    calls = [("conv", forward), ("conv_backward_weight", backward([False, True, False]))]
    if data_gradient:
        calls.insert(1, ("conv_backward_data", backward([True, False, False])))
    for op, call in calls:
        section.time(call, op=op, shape=shape, precision=precision, times=times, flop=flop, bytes=moved)


def conv(section):
    dims, patch, batch = section.arguments.plane
    for precision in section.arguments.precisions:
        timing.set_precision(precision)
        layers = [layer[:3] for layer in shapes.unet_layers()]
        for index, (level, c_in, c_out) in enumerate(dict.fromkeys(layers)):
            conv_passes(section, precision, 2 * batch, shapes.sides_of(dims, patch, level), c_in, c_out, 3,
                        layers.count((level, c_in, c_out)), index > 0)
        for level, c_in, c_out in shapes.projections():
            conv_passes(section, precision, batch, shapes.sides_of(dims, patch, level), c_in, c_out, 1, 2)


# ---- other ops -----------------------------------------------------------------------------------------------------


def op_pair(section, op, shape, precision, moved, make):
    """Times forward without a graph, and the gradient of all inputs alone; `moved`: bytes of both directions."""
    if section.budget.left() <= 0:
        section.left_out.append(f"{op} {shape} {precision}")
        return
    sets = []
    for _ in range(timing.sets_for(sum(moved), most=4)):
        function, inputs = make()
        sets.append((function, inputs))
    count = len(sets)

    def forward(i):
        function, inputs = sets[i % count]
        with torch.no_grad():
            function(*inputs)

    section.time(forward, op=op, shape=shape, precision=precision, bytes=moved[0])
    try:
        graphs = []
        for function, inputs in sets:
            y = function(*inputs)
            graphs.append((y, [t for t in inputs if t.requires_grad], torch.randn_like(y)))
    except RuntimeError as error:
        section.rows.append({"op": op + "_backward", "shape": shape, "precision": precision,
                             "error": str(error).splitlines()[0][:200]})
        return

    def backward(i):
        y, wanted, dy = graphs[i % count]
        torch.autograd.grad(y, wanted, dy, retain_graph=True)

    section.time(backward, op=op + "_backward", shape=shape, precision=precision, bytes=moved[1])


def ops(section):
    for precision in [p for p in section.arguments.precisions if p != "tf32"]:
        timing.set_precision("fp32")
        ops_of(section, precision, timing.DTYPE[precision], shapes.ELEMENT[precision])


def ops_of(section, precision, dtype, element):
    dims, patch, batch = section.arguments.plane
    channels, images = shapes.CHANNELS, 2 * batch
    for level in range(5):
        sides, c = shapes.sides_of(dims, patch, level), channels[level]
        moved = element * images * c * shapes.pixels_of(sides)

        def norm():
            x = section.random(images, c, *sides, dtype=dtype, dims=dims, grad=True)
            gamma, beta = (section.random(c, dtype=dtype, grad=True) for _ in range(2))
            return lambda x, g, b: F.leaky_relu(F.group_norm(x, c // 8, g, b), 0.2), (x, gamma, beta)

        op_pair(section, "group_norm", shapes.shape_text(images, sides, c), precision, (2 * moved, 3 * moved), norm)
    mov = reference.MoV(dims, shapes.RADIUS).to(section.device)
    for level in (4, 3, 2, 1, 0):
        sides = shapes.sides_of(dims, patch, level)
        pixels = batch * shapes.pixels_of(sides)
        c = channels[8 - level] if level < 4 else channels[4]
        features, field = element * pixels * c, element * pixels * dims

        def warp():
            # grid_sample takes one type for both: autocast would widen the features instead.
            source = section.random(batch, c, *sides, dtype=dtype, dims=dims, grad=True)
            return (lambda s, f: reference.warp(s.float(), f, "exact").to(dtype)), (
                source, (6 * torch.rand(batch, dims, *sides, device=section.device) - 3).requires_grad_())

        op_pair(section, "warp", shapes.shape_text(batch, sides, c), precision,
                (2 * features + field, 3 * features + 2 * field), warp)
        heads, head_dim = shapes.HEADS[4 - level], shapes.HEAD_DIM
        qk = element * pixels * heads * head_dim

        def vectors():
            return (lambda q, k: mov(q, k, heads)), tuple(
                section.random(batch, heads * head_dim, *sides, dtype=dtype, dims=dims, grad=True) for _ in range(2))

        op_pair(section, "local_attention", shapes.shape_text(batch, sides, f"{heads}*{head_dim} r{shapes.RADIUS}"),
                precision, (2 * qk + field, 4 * qk + field), vectors)
    for level in range(4):
        sides, c = shapes.sides_of(dims, patch, level), channels[level]
        big = element * images * c * shapes.pixels_of(sides)
        small = big // 2**dims

        def pool():
            return (lambda x: (F.max_pool2d if dims == 2 else F.max_pool3d)(x, 2)), (
                section.random(images, c, *sides, dtype=dtype, dims=dims, grad=True),)

        op_pair(section, "max_pool", shapes.shape_text(images, sides, c), precision,
                (big + small, 2 * big + small), pool)
        coarse, c_up = shapes.sides_of(dims, patch, level + 1), channels[7 - level]

        def grow():
            return (lambda x: reference.up(x, False)), (
                section.random(images, c_up, *coarse, dtype=dtype, dims=dims, grad=True),)

        moved = element * images * c_up * (shapes.pixels_of(coarse) + shapes.pixels_of(sides))
        op_pair(section, "upsample", shapes.shape_text(images, coarse, c_up), precision, (moved, moved), grow)


# ---- the training step ---------------------------------------------------------------------------------------------


class Step:
    def __init__(self, device, dims, patch, batch, precision, backend=None):
        torch.manual_seed(0)
        timing.set_precision("tf32" if precision == "bf16" else precision)
        self.cuda, self.batch = device.startswith("cuda"), batch
        form = timing.channels_last(dims)
        self.model = reference.Cover(dims).to(device)
        for parameter in self.model.parameters():
            if parameter.dim() == dims + 2:
                parameter.data = parameter.data.to(memory_format=form)
        self.optimizer = reference.make_optimizer(self.model)
        sides = (patch,) * dims
        self.views = [torch.rand(batch, 1, *sides, device=device).contiguous(memory_format=form) for _ in range(2)]
        # A turn by 0.2 rad in the plane of the last two axes, and a shift by 2 pixels.
        grid = torch.stack(torch.meshgrid(*[torch.arange(patch) - (patch - 1) / 2] * dims, indexing="ij"))
        psi = torch.full_like(grid, 2.0)
        psi[-2] += -0.02 * grid[-2] - 0.199 * grid[-1]
        psi[-1] += 0.199 * grid[-2] - 0.02 * grid[-1]
        self.psi = psi.expand(batch, *psi.shape).contiguous().to(device)
        self.mask = reference.overlap_mask(self.psi)
        model = self.model

        def losses(moving, fixed, psi, mask):
            with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=precision == "bf16"):
                return model.losses(*model(moving, fixed), psi, mask)

        self.losses = torch.compile(losses, dynamic=False, backend=backend) if backend else losses

    def run(self, _=0):
        self.optimizer.zero_grad(set_to_none=True)
        vec, con = self.losses(*self.views, self.psi, self.mask)
        (vec + con).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.last = (vec.detach(), con.detach())


def time_step(arguments, clock, case, precision, compiled):
    """One row: median of the steps, peak memory of the allocator, losses of the last step."""
    dims, patch, batch = arguments.case[case]
    row = {"case": case, "patch": patch, "batch": batch, "precision": precision,
           "way": "compiled" if compiled else "eager"}
    cuda = arguments.device.startswith("cuda")
    parent = os.getppid()
    step = None
    try:
        start = time.monotonic()
        step = Step(arguments.device, dims, patch, batch, precision, arguments.backend if compiled else None)
        step.run()
        clock.finish()
        row["first_seconds"] = time.monotonic() - start
        step.run()
        if cuda:
            clock.finish()
            torch.cuda.reset_peak_memory_stats()
        turn = pathlib.Path(arguments.wait_for) if arguments.wait_for else None
        if turn:
            turn.with_name(turn.name + ".ready").touch()
            while not turn.exists():
                if os.getppid() != parent:
                    sys.exit("the process that would give this one its turn has ended")
                time.sleep(0.05)
        row.update(clock.measure(step.run, least=3, most=12, milliseconds=1200 if cuda else 1, warm_up=1))
        if turn:
            turn.with_name(turn.name + ".ready").unlink()
            turn.unlink()
        # JSON has no NaN. A step whose losses are none is timed all the same, and said to be such.
        row["losses"] = [float(v) if torch.isfinite(v) else None for v in step.last]
        if None in row["losses"]:
            row["warning"] = "its losses are not finite"
        if cuda:
            row["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
            row["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
    except Exception as error:  # torch.compile raises many types; a row says which
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    del step
    if cuda:
        torch.cuda.empty_cache()
    return row


def steps_wanted(arguments, compiled=False):
    """bfloat16 in 2D first: what matters most, should the limit cut the rest off. Volumes take longest to compile."""
    wanted = [(case, precision) for precision in arguments.precisions for case in arguments.case]
    return sorted(wanted, key=lambda pair: pair[0]) if compiled else wanted


def step(section):
    for case, precision in steps_wanted(section.arguments):
        if section.budget.left() <= 0:
            section.left_out.append(f"{case} {precision}")
            continue
        section.rows.append(time_step(section.arguments, section.clock, case, precision, False))


def compile_child(arguments):
    """One JSON line per row, as soon as it is there: the parent may end this process at any time."""
    clock, cache = timing.Clock(arguments.device), arguments.compile_cache and pathlib.Path(arguments.compile_cache)
    if cache and cache.exists():
        torch.compiler.load_cache_artifacts(cache.read_bytes())
    for case, precision in steps_wanted(arguments, True):
        print(json.dumps({"begun": f"{case} {precision}"}), flush=True)
        row = time_step(arguments, clock, case, precision, True)
        torch._dynamo.reset()
        print(json.dumps(row), flush=True)
        if cache and "error" not in row:
            artifacts = torch.compiler.save_cache_artifacts()
            if artifacts:
                cache.parent.mkdir(parents=True, exist_ok=True)
                cache.write_bytes(artifacts[0])


def compile_section(section):
    command = [sys.executable, __file__, "--compile-child", "--device", section.device, "--precisions",
               ",".join(section.arguments.precisions), "--cases", ",".join(section.arguments.case),
               "--patch", str(section.arguments.patch), "--batch", str(section.arguments.batch)]
    command += ["--backend", section.arguments.backend]
    command += ["--wait-for", section.arguments.wait_for] if section.arguments.wait_for else []
    command += ["--tiny"] if section.arguments.tiny else []
    command += ["--compile-cache", section.arguments.compile_cache] if section.arguments.compile_cache else []
    begun = {f"{c} {p}": False for c, p in steps_wanted(section.arguments, True)}
    ended_by_limit = False
    # A session of its own, because the compiler's workers must end with it.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        text, error = child.communicate(timeout=max(section.budget.left(), 1))
        error = error if child.returncode else ""
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        text, error, ended_by_limit = child.communicate()[0], "", True
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        if "begun" not in row:
            section.rows.append(row)
            begun.pop(f"{row['case']} {row['precision']}", None)
    if error:
        section.rows.append({"error": "the process that compiles failed: " + error.strip().splitlines()[-1][:300]})
    if begun and ended_by_limit:
        section.left_out += list(begun)


RUN = {"roof": roof, "conv": conv, "ops": ops, "step": step, "compile": compile_section}


# ---- printing ------------------------------------------------------------------------------------------------------


def print_section(name, rows, left_out, roofs):
    print(f"\n{name}")
    if name == "conv":
        print_conv(rows, roofs)
    elif name == "ops":
        print_ops(rows)
    for row in rows:
        label = " ".join(str(row[k]) for k in ("what", "op", "case", "shape", "precision", "way") if k in row)
        if "error" in row:
            print(f"  {label:44} {row['error']}")
        elif name == "roof":
            rate = f"{row['gflops'] / 1e3:.1f} TFLOP/s" if "gflops" in row \
                else f"{row['gigabytes_per_second']:.1f} GB/s"
            print(f"  {label:24} {row['ms']:9.3f} ms ({row['ms_min']:.3f} to {row['ms_max']:.3f}) {rate}")
        elif name in ("step", "compile"):
            print(f"  {label:24} {row['ms']:9.3f} ms ({row['ms_min']:.3f} to {row['ms_max']:.3f}), "
                  f"first {row['first_seconds']:.1f} s, peak {row.get('peak_allocated_bytes', 0) / 2**30:.2f} GiB, "
                  + ("losses {:.4f} {:.4f}".format(*row["losses"]) if "warning" not in row else row["warning"]))
    if left_out:
        names = "; ".join(left_out[:4]) + (" ..." if len(left_out) > 4 else "")
        print(f"  left out at the limit: {len(left_out)}: {names}")


def print_ops(rows):
    """A line per op and shape: ms and GB/s, forward and backward, in each precision."""
    table = {}
    for row in rows:
        if "ms" in row:
            op = row["op"].removesuffix("_backward")
            table.setdefault((op, row["shape"]), {})[row["precision"], op != row["op"]] = row
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    print(f"  {'':42} " + " | ".join(f"{p}: forward ms GB/s, backward" for p in precisions))
    for (op, shape), found in table.items():
        cells = []
        for precision in precisions:
            for backward in (False, True):
                row = found.get((precision, backward))
                cells.append(f"{row['ms']:7.3f} {row['bytes'] / row['ms'] / 1e6:6.0f}" if row else " " * 14)
        print(f"  {op:15} {shape:26} {' '.join(cells)}")


def print_conv(rows, roofs):
    """A line per layer and precision: ms, TFLOP/s and % of min(matrix rate, copy rate x intensity) of each pass."""
    passes = ("conv", "conv_backward_data", "conv_backward_weight")
    table = {}
    for row in rows:
        if "ms" in row:
            table.setdefault((row["precision"], row["shape"]), {})[row["op"]] = row
    print(f"  {'':5} {'layer':32} forward: ms TFLOP/s % roof | data gradient | weight gradient")
    for (precision, shape), found in table.items():
        cells = []
        for op in passes:
            row = found.get(op)
            cells.append(" " * 22 if row is None else f"{row['ms']:8.3f} {row['flop'] / row['ms'] / 1e9:7.1f} "
                         + (f"{100 * roof_ms(row, roofs) / row['ms']:5.0f}" if roofs else "    -"))
        print(f"  {precision:5} {shape:32} {' | '.join(cells)}")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        timed = [r for r in rows if r["precision"] == precision and "ms" in r and "(1)" not in r["shape"]]
        if timed:
            total = sum(r["times"] * r["ms"] for r in timed)
            print(f"  {precision}: {sum(r['times'] for r in timed)} passes of the U-Net, {total:.3f} ms, "
                  f"{sum(r['times'] * r['flop'] for r in timed) / total / 1e9:.1f} TFLOP/s")


def roof_ms(row, roofs):
    rate = roofs.get(row["precision"])
    return max(row["flop"] / rate / 1e6, row["bytes"] / roofs["copy"] / 1e6) if rate else float("nan")


def roofs_of(rows):
    found = {row["precision"]: row["gflops"] for row in rows if "gflops" in row}
    found.update(copy=next((row["gigabytes_per_second"] for row in rows if row["what"] == "copy"), None))
    return found if found["copy"] else {}


# ---- the command ---------------------------------------------------------------------------------------------------


def facts(arguments):
    cuda = arguments.device.startswith("cuda")
    return {"date": datetime.date.today().isoformat(), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version() if cuda else None,
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
            "plane": list(arguments.plane),
            "cases": {name: list(case) for name, case in arguments.case.items()}, "tiny": arguments.tiny}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default=",".join(SECTIONS), help="a list with commas; by default all")
    parser.add_argument("--precisions", default="bf16,tf32,fp32")
    parser.add_argument("--cases", default="2d,3d", help="of the sections step and compile")
    parser.add_argument("--limit", action="append", default=[], metavar="SECTION=SECONDS",
                        help="by default " + " ".join(f"{k}={v}" for k, v in LIMITS.items()))
    parser.add_argument("--seconds", type=float, help="a limit for all sections together")
    parser.add_argument("--patch", type=int, default=384), parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to see that every section runs")
    parser.add_argument("--compile-cache", metavar="FILE",
                        help="what torch.compile built, read before and written after")
    parser.add_argument("--backend", default="inductor", help="of torch.compile; aot_eager compiles no kernels")
    parser.add_argument("--out", metavar="FILE", help="write the numbers as JSON; written after every section")
    parser.add_argument("--wait-for", metavar="FILE", help="of the steps: each, once warm, writes FILE.ready and waits "
                        "for FILE, so that other work may be timed meanwhile; removes both when it has been timed")
    parser.add_argument("--compile-child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.sections = [s for s in SECTIONS if s in arguments.sections.split(",")]
    arguments.precisions = arguments.precisions.split(",")
    arguments.limits = dict(LIMITS)
    for text in arguments.limit:
        name, _, seconds = text.partition("=")
        if name not in LIMITS or not seconds.replace(".", "", 1).isdigit():
            parser.error(f"--limit {text}: takes SECTION=SECONDS with a section of {', '.join(SECTIONS)}")
        arguments.limits[name] = float(seconds)
    if not set(arguments.precisions) <= set(PRECISIONS):
        parser.error(f"--precisions: takes {', '.join(PRECISIONS)}")
    cases = {"2d": (2, arguments.patch, arguments.batch), "3d": (3, 96, 4)}
    if arguments.tiny:
        cases = {"2d": (2, 32, 1), "3d": (3, 16, 1)}
    if not set(arguments.cases.split(",")) <= set(cases):
        parser.error("--cases: takes 2d, 3d")
    arguments.plane = cases["2d"]
    arguments.case = {name: cases[name] for name in cases if name in arguments.cases.split(",")}
    arguments.repeats = {"least": 2, "most": 2, "warm_up": 1} if arguments.tiny else {}
    arguments.budget = Budget(arguments.seconds) if arguments.seconds else None
    return arguments


def main():
    arguments = parse()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device; take --device cpu --tiny to try the script")
        return 77
    torch.backends.cudnn.benchmark = True
    if arguments.compile_child:
        compile_child(arguments)
        return 0
    result = facts(arguments)
    print(", ".join(f"{k} {v}" for k, v in result.items() if v is not None), flush=True)
    result["sections"] = {}
    for name in arguments.sections:
        section = Section(name, arguments)
        start = time.monotonic()
        RUN[name](section)
        result["sections"][name] = {"seconds": time.monotonic() - start, "rows": section.rows,
                                    "left_out": section.left_out}
        roofs = roofs_of(result["sections"].get("roof", {}).get("rows", []))
        print_section(name, section.rows, section.left_out, roofs)
        print(f"  ({time.monotonic() - start:.1f} s)", flush=True)
        if arguments.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if arguments.out:
            path = pathlib.Path(arguments.out)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n")
    failed = [row for s in result["sections"].values() for row in s["rows"] if "error" in row]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
