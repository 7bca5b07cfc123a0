#!/usr/bin/env python3
"""The file cover_unet.py that `cover export` writes: loads the weights strictly, and means the same as `cover`.

    python3 tests/python/unet_module.py --cover build/cover tests/golden/cover*.h5

For every golden file and warp convention: its weights become a weights file, `cover export` writes it again with
cover_unet.py beside it, and that module, imported from there, gives the golden flow and features, and those that
`cover verify golden --dump` computed in float32. Then damaged files. Exit 0, 1, or 77 when torch or h5py is absent.
"""

import argparse
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import h5py
    import numpy as np
    import torch
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

TOLERANCE = 1e-5  # relative 2-norm


def relative(got, expected):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def write_safetensors(path, tensors, metadata):
    header, at, data = {"__metadata__": metadata}, 0, b""
    for name, value in tensors.items():
        value = np.ascontiguousarray(value, "<f4")
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
        data += value.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def described(golden, warp, levels=5):
    a = golden.attrs
    return {"dims": "2" if a["dimensions"] == "2D" else "3", "in_channels": str(int(a["n_channels"])),
            "channels": ",".join(str(int(c)) for c in a["chan"]), "head_dim": str(int(a["head_dim"])),
            "heads": ",".join(str(int(h)) for h in a["num_heads"]), "radius": str(int(a["amp"])),
            "levels": str(levels), "warp": warp}


def imported(folder):
    spec = importlib.util.spec_from_file_location(f"cover_unet_{folder.name}", folder / "cover_unet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Checks:
    def __init__(self):
        self.failed = 0

    def hold(self, name, value, limit):
        good = value <= limit
        print(f"  {name}: {value:.2g}" + ("" if good else f"  FAILED: more than {limit:g}"))
        self.failed += not good

    def true(self, name, good):
        if not good:
            print(f"  FAILED: {name}")
            self.failed += 1

    def raises(self, name, kind, call):
        try:
            call()
        except kind:
            return
        self.true(f"{name}: no {kind.__name__} was raised", False)


def check(checks, cover, path, warp, folder):
    def call(*arguments):
        result = subprocess.run([cover, *map(str, arguments)], capture_output=True, text=True)
        checks.true(f"cover {' '.join(map(str, arguments))}: exit {result.returncode}\n{result.stderr[-2000:]}",
                    result.returncode == 0)

    with h5py.File(path) as golden:
        weights = {}
        golden["weights"].visititems(
            lambda name, item: weights.__setitem__(name, item[...]) if isinstance(item, h5py.Dataset) else None)
        write_safetensors(folder / "golden.safetensors", weights, described(golden, warp))
        moving, fixed = (torch.from_numpy(golden[f"input/{n}"][...]).float() for n in "MF")
        expected = {n: golden[f"{warp}/step0/{n}"][...] for n in ("flow", "f_M", "f_F")}
        chan = tuple(int(c) for c in golden.attrs["chan"])
        dims = int(described(golden, warp)["dims"])
    call("export", folder / "golden.safetensors", "--out", folder / "whole.safetensors")
    module = imported(folder)
    checks.true("the module's constants are this network's",
                (module.DIMS, module.CHANNELS, module.WARP) == (dims, chan, warp))
    model = module.load(folder / "whole.safetensors")
    with torch.no_grad():
        own = dict(zip(("flow", "f_M", "f_F"), model(moving, fixed)))
        for name, value in own.items():
            checks.hold(f"{name} and the golden one", relative(value, expected[name]), TOLERANCE)
        call("verify", "golden", path, "--warp", warp, "--precision", "fp32", "--dump", folder / "dump.h5")
        with h5py.File(folder / "dump.h5") as dump:
            for name, value in own.items():
                checks.hold(f"{name} and that of cover", relative(value, dump[name][...]), TOLERANCE)

        backbone = folder / "backbone.safetensors"
        call("export", folder / "golden.safetensors", "--out", backbone, "--part", "backbone")
        features = module.load_backbone(backbone)(moving)
        checks.true("the backbone alone gives the same features", torch.equal(features[-1], model.backbone(moving)[-1]))
        checks.true("five maps, each twice the one before",
                    [f.shape[-1] * 2 ** (4 - i) for i, f in enumerate(features)] == [moving.shape[-1]] * 5)
    checks.raises("a backbone for load()", ValueError, lambda: module.load(backbone))
    checks.raises("sides that are no multiples of 16", ValueError, lambda: model(moving[..., 1:], fixed[..., 1:]))
    return weights, module, model


def check_levels(checks, cover, path, folder):
    """A pyramid of fewer levels, of which there are no golden numbers: against `cover apply`, which also shows that
    numpy reads what that writes."""
    with h5py.File(path) as golden:
        weights = {}
        golden["weights"].visititems(
            lambda name, item: weights.__setitem__(name, item[...]) if isinstance(item, h5py.Dataset) else None)
        views = [golden[f"input/{n}"][...][:1].astype(np.float32) for n in "MF"]
        for levels in range(1, 6):
            write_safetensors(folder / f"{levels}.safetensors", weights, described(golden, "exact", levels))
    for name, view in zip("MF", views):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["images"] = view
    for levels in range(1, 6):
        file = folder / f"{levels}.safetensors"
        for what, inputs in (("displacement", "MF"), ("features", "F")):
            done = subprocess.run([cover, "apply", "--weights", file, "--what", what, "--out", folder / str(levels),
                                   *(folder / f"{i}.h5" for i in inputs)], capture_output=True, text=True)
            checks.true(f"cover apply: exit {done.returncode}\n{done.stderr[-2000:]}", done.returncode == 0)
        subprocess.run([cover, "export", file, "--out", folder / "out.safetensors"], check=True, capture_output=True)
        model = imported(folder).load(folder / "out.safetensors")
        with torch.no_grad():
            flow, _, features = model(*map(torch.from_numpy, views))
        for name, value in (("M_to_F.displacement", flow), ("F.features", features)):
            checks.hold(f"{name} with {levels} levels and that of cover apply",
                        relative(np.load(folder / str(levels) / f"{name}.npy"), value[0].movedim(0, -1)), TOLERANCE)


def check_strictness(checks, weights, module, model, folder):
    metadata = module.read_safetensors(folder / "whole.safetensors")[1]
    damaged = folder / "damaged.safetensors"
    name = "proj.0.norm.weight"
    for what, change in {"a missing tensor": {k: v for k, v in weights.items() if k != name},
                         "one more": {**weights, "proj.9.norm.weight": weights[name]},
                         "one of another shape": {**weights, name: weights[name][:-1]}}.items():
        write_safetensors(damaged, change, metadata)
        checks.raises(what, RuntimeError, lambda: module.load(damaged))
    whole = (folder / "whole.safetensors").read_bytes()
    damaged.write_bytes(whole[:-4])
    checks.raises("a file cut short", ValueError, lambda: module.load(damaged))
    damaged.write_bytes(b"\xff" * 64)
    checks.raises("no weights file", ValueError, lambda: module.load(damaged))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    checks.true("every weight but the grid can be trained", sorted(trained) == sorted(set(weights) - {"mov.grid"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cover", required=True)
    parser.add_argument("golden", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small networks; threads that spin would cost more on a busy machine
    checks = Checks()
    with tempfile.TemporaryDirectory() as root:
        for number, path in enumerate(arguments.golden):
            for warp in ("exact", "reference"):
                print(f"{pathlib.Path(path).name}, {warp} warp:")
                folder = pathlib.Path(root) / f"{warp}{number}"
                folder.mkdir()
                last = check(checks, arguments.cover, path, warp, folder), folder
        folder = pathlib.Path(root) / "levels"
        folder.mkdir()
        print("pyramids of 1 to 5 levels:")
        check_levels(checks, arguments.cover, next(p for p in arguments.golden if "2d" in p), folder)
        check_strictness(checks, *last[0], last[1])
    print("all as it should be" if checks.failed == 0 else f"{checks.failed} FAILED")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
