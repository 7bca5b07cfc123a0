#!/usr/bin/env python3
"""Holds bench/pytorch_cover.py to golden files: python3 tests/python/check_golden.py FILE.h5... [--precision fp64|fp32]

Both warp conventions of every file: flow, features, losses, gradients, and the weights after three steps. Exit 0 when
all is within tolerance, 1 when not, 77 when torch or h5py is absent.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
try:
    import h5py
    import numpy as np
    import torch

    from pytorch_cover import Cover, make_optimizer, overlap_mask, train_step
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

# The relative 2-norm for flow, features, whole gradient, each tensor of it, weights after; for the losses the
# difference over max(1, value), wider for the steps after the first. A golden file stores gradients and weights in
# float32. In single precision a tie in a max-pool or a LeakyReLU may flip between steps and move what follows.
TOLERANCE = {
    torch.float64: {"flow": 1e-9, "loss": 1e-9, "later": 1e-9, "gradient": 6e-8, "tensor": 6e-8, "weights": 6e-8},
    torch.float32: {"flow": 2e-6, "loss": 1e-5, "later": 1e-2, "gradient": 1e-5, "tensor": 1e-3, "weights": 1e-3},
}


def relative(got, expected):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return float("inf")
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(got - expected) / norm) if norm > 0 else float(np.linalg.norm(got))


def build(golden, convention, dtype):
    a = golden.attrs
    model = Cover(2 if a["dimensions"] == "2D" else 3, int(a["n_channels"]), [int(c) for c in a["chan"]],
                  int(a["head_dim"]), [int(h) for h in a["num_heads"]], int(a["amp"]), convention)
    state = {name: torch.from_numpy(value[...]) for name, value in golden["weights"].items()}
    model.load_state_dict(state, strict=True)
    return model.to(dtype)


def check(path, convention, dtype):
    limits, errors = TOLERANCE[dtype], []

    def hold(name, value, limit):
        if not value <= limit:
            errors.append(f"{name} is off by {value:.3g}, more than {limit:g}")
        return value

    with h5py.File(path) as golden:
        model = build(golden, convention, dtype)
        inputs = [torch.from_numpy(golden[f"input/{n}"][...]).to(dtype) for n in ("M", "F", "flow_gt", "mask")]
        group = golden[convention]
        hold("mask", relative(overlap_mask(inputs[2]), inputs[3]), 0)
        flow, f_m, f_f = model(*inputs[:2])
        (sum(model.losses(flow, f_m, f_f, *inputs[2:]))).backward()
        first = group["step0"]
        worst = {n: hold(n, relative(v.detach(), first[n][...]), limits["flow"])
                 for n, v in (("flow", flow), ("f_M", f_m), ("f_F", f_f))}
        trained = dict(model.named_parameters())
        got = {n: p.grad.detach().numpy() for n, p in trained.items()}
        expected = {n: first[f"grad/{n}"][...] for n in got}
        if set(got) != set(first["grad"]):
            errors.append("the gradients have other names than in the golden file")
        whole = np.linalg.norm([np.linalg.norm(expected[n].astype(np.float64)) for n in got])
        difference = np.linalg.norm([np.linalg.norm(got[n] - expected[n].astype(np.float64)) for n in got])
        worst["gradient"] = hold("the whole gradient", difference / whole, limits["gradient"])
        # A convolution bias in front of a norm over one channel group can have a gradient of rounding size only.
        worst["tensor"] = max(hold(f"gradient of {n}", relative(got[n], expected[n]), limits["tensor"]) for n in got
                              if np.linalg.norm(expected[n]) > 1e-6 * whole)
        optimizer = make_optimizer(model, float(golden.attrs["lr"]), float(golden.attrs["weight_decay"]))
        worst["loss"] = 0.0
        for step in range(3):
            values = train_step(model, optimizer, *inputs, clip=float(golden.attrs["clip_norm"]))
            for name, value in zip(("loss_vec", "loss_con", "grad_norm"), values):
                true = float(group[f"step{step}"].attrs[name])
                error = hold(f"{name} of step {step}", abs(float(value) - true) / max(1, abs(true)),
                             limits["later" if step else "loss"])
                worst["loss"] = max(worst["loss"], error)
        after = group["step2/weights_after"]
        worst["weights"] = max(hold(f"{n} after three steps", relative(p.detach(), after[n][...]), limits["weights"])
                               for n, p in trained.items())
    print(f"{pathlib.Path(path).name} {convention}: " + ", ".join(f"{n} {v:.2g}" for n, v in worst.items()))
    for error in errors[:5]:
        print(f"  FAILED: {error}")
    if len(errors) > 5:
        print(f"  ... {len(errors)} in all")
    return not errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", nargs="+")
    parser.add_argument("--precision", choices=("fp64", "fp32"), default="fp64")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small networks; threads that spin would cost more on a busy machine
    dtype = torch.float64 if arguments.precision == "fp64" else torch.float32
    good = [check(path, convention, dtype) for path in arguments.golden for convention in ("reference", "exact")]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
