#!/usr/bin/env python3
"""Writes a golden file for any architecture and shape, computed in float64 by bench/pytorch_cover.py:

    python3 tests/python/make_golden.py out.h5 --dims 3 --shape 16x48x32 --channels 8,24,16,8,40,16,8,8,16 --radius 1
    cover verify golden out.h5 --warp exact --precision fp64

The weights are drawn from --seed. Exit 77 when torch or h5py is absent.
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


def draw_inputs(generator, dims, batch, in_channels, shape):
    """Two views (uniform noise over a smooth pattern), a smooth field of a few pixels, and its mask; float32."""
    def uniform(*size):
        return torch.rand(size, generator=generator)

    coarse = [max(s // 8, 1) for s in shape]
    views = [torch.nn.functional.interpolate(uniform(batch, in_channels, *coarse), size=shape) * 0.7
             + 0.3 * uniform(batch, in_channels, *shape) for _ in range(2)]
    mode = "bilinear" if dims == 2 else "trilinear"
    field = torch.nn.functional.interpolate(uniform(batch, dims, *[2] * dims) * 12 - 6, size=shape, mode=mode,
                                            align_corners=True)
    field += 0.4 * uniform(*field.shape)  # off the grid, and off the ties at coordinate 0
    return *views, field, overlap_mask(field)


def move_off_first_values(model):
    """Norms and biases start at 1 and 0, where a mix-up cannot be seen and a relative error means nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def record(out, model, inputs, lr, weight_decay, clip):
    """Every number of the two conventions; the weights are put back in between."""
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in start.items():
        out[f"weights/{name}"] = value.numpy().astype(np.float32)
    for name, value in zip(("M", "F", "flow_gt", "mask"), inputs):
        out[f"input/{name}"] = value.numpy().astype(np.float32)
    for convention in ("reference", "exact"):
        model.load_state_dict(start)
        model.zero_grad()
        model.warp_convention = convention
        optimizer = make_optimizer(model, lr, weight_decay)
        flow, f_m, f_f = model(*inputs[:2])
        sum(model.losses(flow, f_m, f_f, *inputs[2:])).backward()
        first = out.create_group(f"{convention}/step0")
        for name, value in (("flow", flow), ("f_M", f_m), ("f_F", f_f)):
            first[name] = value.detach().numpy()
        for name, parameter in model.named_parameters():
            first[f"grad/{name}"] = parameter.grad.numpy().astype(np.float32)
        for step in range(3):
            group = out.require_group(f"{convention}/step{step}")
            for name, value in zip(("loss_vec", "loss_con", "grad_norm"),
                                   train_step(model, optimizer, *inputs, clip=clip)):
                group.attrs[name] = float(value)
        for name, parameter in model.named_parameters():
            out[f"{convention}/step2/weights_after/{name}"] = parameter.detach().numpy().astype(np.float32)


def write(path, model, architecture, batch, shape, seed=0, lr=1e-3, weight_decay=1e-4, clip=1.0):
    """`architecture`: the arguments of the model, a Cover in float32 or float64."""
    model = model.double()
    generator = torch.Generator().manual_seed(seed)
    inputs = draw_inputs(generator, architecture["dims"], batch, architecture["in_channels"], shape)
    with h5py.File(path, "w") as out:
        out.attrs.update({
            "dimensions": f"{architecture['dims']}D", "chan": np.array(architecture["channels"]),
            "head_dim": architecture["head_dim"], "num_heads": np.array(architecture["heads"]),
            "amp": architecture["radius"], "n_channels": architecture["in_channels"], "batch": batch,
            "shape": np.array(shape), "lr": lr, "weight_decay": weight_decay, "clip_norm": clip})
        record(out, model, [v.double() for v in inputs], lr, weight_decay, clip)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--dims", type=int, choices=(2, 3), default=2)
    parser.add_argument("--shape", default="48x32", help="sides, each a multiple of 16")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--in-channels", type=int, default=1)
    parser.add_argument("--channels", default="8,16,24,32,40,32,24,16,8")
    parser.add_argument("--head-dim", type=int, default=8)
    parser.add_argument("--heads", default="4,4,4,1,1")
    parser.add_argument("--radius", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shape = [int(s) for s in arguments.shape.split("x")]
    if len(shape) != arguments.dims or any(s % 16 or s < 16 for s in shape):
        parser.error(f"--shape needs {arguments.dims} multiples of 16")
    architecture = {"dims": arguments.dims, "in_channels": arguments.in_channels,
                    "channels": [int(c) for c in arguments.channels.split(",")], "head_dim": arguments.head_dim,
                    "heads": [int(h) for h in arguments.heads.split(",")], "radius": arguments.radius}
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # small networks; threads that spin would cost more on a busy machine
    model = move_off_first_values(Cover(**architecture))
    write(arguments.out, model, architecture, arguments.batch, shape, arguments.seed)
    print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
