#!/usr/bin/env python3
"""Weights travel between `cover` and PyTorch, and mean the same in both.

    python3 tests/python/weights_load.py run --cover build/cover
    python3 tests/python/weights_load.py check model.safetensors [--features features.safetensors]
    python3 tests/python/weights_load.py write init.safetensors [--channels ...]

`run` does all of it: a checkpoint like the authors' -> tools/pth_to_safetensors.py -> `cover pretrain --init` -> trained weights -> strictly into PyTorch, where they
give the same features as in `cover` (relative 2-norm 1e-5). `check` loads a file strictly; with a file of the tensors
`x` (N, C, spatial) and any of `f5` ... `f1`, it compares features. `write` makes a file for `--init` out of a freshly
initialised module. Exit 0, 1 when something differs, 77 when torch, h5py or safetensors is absent.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
try:
    import h5py
    import numpy as np
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    import make_golden
    from pytorch_cover import Cover, architecture, load_weights, metadata_of
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

TOLERANCE = 1e-5
SMALL = {"dims": 2, "in_channels": 1, "channels": [8, 16, 24, 32, 40, 32, 24, 16, 8], "head_dim": 4,
         "heads": [4, 2, 2, 1, 1], "radius": 2}


def relative(got, expected):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def hold(name, value, limit):
    good = value <= limit
    print(f"  {name}: {value:.2g}" + ("" if good else f", FAILED: more than {limit:g}"))
    return good


def write(path, described, seed=0):
    torch.manual_seed(seed)
    model = make_golden.move_off_first_values(Cover(**described))
    save_file(model.state_dict(), path, metadata_of(**described, warp_convention="exact"))
    return model


def check(weights, features):
    model = load_weights(weights).eval()
    print(f"{weights}: loads strictly, {sum(p.numel() for p in model.parameters()):,} parameters")
    if features is None:
        return True
    given = load_file(features)
    with torch.no_grad():
        own = dict(zip(("f5", "f4", "f3", "f2", "f1"), model.backbone(given["x"].float())))
    names = [n for n in own if n in given]
    if not names:
        print(f"  FAILED: {features} holds none of {', '.join(own)}")
    return bool(names) and all([hold(n, relative(given[n], own[n]), TOLERANCE) for n in names])


def run(cover):
    def call(*arguments):
        result = subprocess.run([cover, *map(str, arguments)], capture_output=True, text=True)
        if result.returncode != 0:
            print(f"  FAILED: cover {' '.join(map(str, arguments))} ended with {result.returncode}:\n"
                  f"{result.stdout[-1000:]}{result.stderr[-2000:]}")
        return result.returncode == 0

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with h5py.File(folder / "data.h5", "w") as data:
            data["images"] = np.random.default_rng(0).integers(0, 256, (4, 1, 48, 48), dtype=np.uint8)
        options = [
            "--channels", ",".join(map(str, SMALL["channels"])), "--head-dim", SMALL["head_dim"],
            "--heads", ",".join(map(str, SMALL["heads"])), "--radius", SMALL["radius"], "--patch", 32, "--batch", 2]
        first, init = folder / "first.safetensors", folder / "init.safetensors"
        before = write(first, SMALL).state_dict()
        nested = {"epoch": 1, "state_dict": {f"module.{n}": v.double() for n, v in before.items()}, "optimizer": {}}
        torch.save(nested, folder / "checkpoint.pth")
        subprocess.run([sys.executable, ROOT / "tools/pth_to_safetensors.py", folder / "checkpoint.pth", init,
                        "--heads", ",".join(map(str, SMALL["heads"])), "--warp", "exact"], check=True)

        print("PyTorch -> cover: a step at a rate of 1e-30 leaves --init as it was")
        still = folder / "still"
        good = call("pretrain", "--data", folder / "data.h5", "--out", still, "--init", init, "--steps", 1, "--lr",
                    1e-30, *options)
        if not good:
            return False
        after = load_weights(still / "model.safetensors").state_dict()
        good = hold("largest difference of a weight", max(float((after[n] - before[n]).abs().max()) for n in before), 0)

        print("cover -> PyTorch: a trained network")
        trained = folder / "trained"
        if not call("pretrain", "--data", folder / "data.h5", "--out", trained, "--init", init, "--steps", 3, "--lr",
                    1e-3, *options):
            return False
        exported = folder / "exported.safetensors"
        if not call("export", trained, "--out", exported):
            return False
        model = load_weights(exported)
        moved = relative(torch.cat([p.flatten() for p in model.state_dict().values()]),
                         torch.cat([before[n].flatten() for n in model.state_dict()]))
        if not moved > 1e-4:
            print(f"  FAILED: three steps changed the weights by {moved:.2g} only")
            good = False
        with safe_open(exported, framework="pt") as file:
            described = architecture(file.metadata())
        described.pop("warp_convention")
        if described != SMALL:
            print(f"  FAILED: the metadata describe {described}")
            good = False

        # The features of cover: of the same weights, through a golden file and its dump.
        golden, dump = folder / "golden.h5", folder / "dump.h5"
        make_golden.write(golden, model, described, batch=2, shape=(48, 32), seed=3)
        if not call("verify", "golden", golden, "--warp", "exact", "--precision", "fp32", "--dump", dump):
            return False
        model = load_weights(exported).eval()
        with h5py.File(golden) as inputs, h5py.File(dump) as computed, torch.no_grad():
            own = model(*(torch.from_numpy(inputs[f"input/{n}"][...]) for n in "MF"))
            for name, value in zip(("flow", "f_M", "f_F"), own):
                good &= hold(name, relative(computed[name][...], value), TOLERANCE)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("--cover", default=str(ROOT / "build/cover"))
    command = commands.add_parser("check")
    command.add_argument("weights")
    command.add_argument("--features")
    command = commands.add_parser("write")
    command.add_argument("out")
    command.add_argument("--dims", type=int, choices=(2, 3), default=2)
    command.add_argument("--in-channels", type=int, default=1)
    command.add_argument("--channels", default="32,64,128,256,512,256,128,64,32")
    command.add_argument("--head-dim", type=int, default=8)
    command.add_argument("--heads", default="4,4,4,1,1")
    command.add_argument("--radius", type=int, default=2)
    command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small networks; threads that spin would cost more on a busy machine
    if arguments.command == "run":
        return 0 if run(arguments.cover) else 1
    if arguments.command == "check":
        return 0 if check(arguments.weights, arguments.features) else 1
    described = {"dims": arguments.dims, "in_channels": arguments.in_channels,
                 "channels": [int(c) for c in arguments.channels.split(",")], "head_dim": arguments.head_dim,
                 "heads": [int(h) for h in arguments.heads.split(",")], "radius": arguments.radius}
    write(arguments.out, described, arguments.seed)
    print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
