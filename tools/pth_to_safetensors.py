#!/usr/bin/env python3
"""Turns a checkpoint of the authors' PyTorch code (.pth) into a weights file of `cover`: safetensors, float32, the same
tensor names.

    python3 tools/pth_to_safetensors.py checkpoint.pth weights.safetensors
    cover pretrain --init weights.safetensors ...

The architecture is read off the tensors; only how the projections' channels divide into heads cannot be, and is taken
from --heads. The authors' code warps by the reference convention, which is what the file says unless --warp exact.
"""

import argparse
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
try:
    import torch
    from safetensors.torch import save_file

    from pytorch_cover import Cover, metadata_of
except ImportError as error:
    sys.exit(f"{error.name} is needed: pip install torch safetensors")


def state_of(checkpoint):
    """The state_dict inside a checkpoint: nested under a usual key or not, with or without a usual prefix."""
    while isinstance(checkpoint, dict) and not any(isinstance(v, torch.Tensor) for v in checkpoint.values()):
        inner = [k for k in ("state_dict", "model", "model_state_dict", "net", "network") if k in checkpoint]
        if not inner:
            sys.exit(f"no tensors in the checkpoint; its keys are {', '.join(map(str, checkpoint)) or 'none'}")
        checkpoint = checkpoint[inner[0]]
    if isinstance(checkpoint, torch.nn.Module):
        checkpoint = checkpoint.state_dict()
    if not isinstance(checkpoint, dict):
        sys.exit(f"the checkpoint holds a {type(checkpoint).__name__}, not a state_dict")
    pattern = re.compile(r"(?:.*?\.)??(backbone\..*|proj\.\d\..*|mov\.grid)")
    state, others = {}, []
    for name, value in checkpoint.items():
        match = pattern.fullmatch(re.sub(r"^(module\.|model\.)+", "", name))
        if not match or not isinstance(value, torch.Tensor):
            others.append(name)
        elif match[1] in state:
            sys.exit(f"two tensors of the checkpoint would be called {match[1]}")
        else:
            state[match[1]] = value.detach().to("cpu", torch.float32).contiguous()
    return state, others


def read_architecture(state, heads):
    def shape(name):
        if name not in state:
            sys.exit(f"the checkpoint has no {name}; is it one of COVER?")
        return state[name].shape

    convolutions = ["inc.double_conv", *(f"down{i}.maxpool_conv.1.double_conv" for i in range(1, 5)),
                    *(f"up{i}.conv.double_conv" for i in range(1, 5))]
    channels = [shape(f"backbone.{c}.0.weight")[0] for c in convolutions]
    first = shape("backbone.inc.double_conv.0.weight")
    widths = [shape(f"proj.{level}.proj.weight")[0] for level in range(5)]
    head_dims = {w / h for w, h in zip(widths, heads)}
    if len(head_dims) != 1 or not head_dims.copy().pop().is_integer():
        sys.exit(f"projections of {widths} channels do not divide into {heads} heads of one width; set --heads")
    radius = (state["mov.grid"].shape[0] - 1) // 2 if "mov.grid" in state else None
    return {"dims": len(first) - 2, "in_channels": first[1], "channels": channels, "head_dim": int(head_dims.pop()),
            "heads": heads, "radius": radius}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--heads", default="4,4,4,1,1", help="per level, coarse to fine (4,4,4,1,1)")
    parser.add_argument("--radius", type=int, help="of the window, where the checkpoint lacks mov.grid")
    parser.add_argument("--warp", choices=("exact", "reference"), default="reference")
    parser.add_argument("--degree", help="strength of the displacements in training, when known")
    parser.add_argument("--patch", help="patch of the training, when known: S, HxW or DxHxW")
    parser.add_argument("--trust", action="store_true",
                        help="unpickle everything: runs code from the file, so only for files that you trust")
    arguments = parser.parse_args()
    try:
        checkpoint = torch.load(arguments.checkpoint, map_location="cpu", weights_only=not arguments.trust)
    except OSError as error:
        sys.exit(f"{arguments.checkpoint}: {error.strerror}")
    except Exception as error:  # the unpickler raises whatever a damaged or unusual file leads it to
        reason = str(error).splitlines()[0].split(". ")[0]
        sys.exit(f"{arguments.checkpoint} cannot be read: {reason}\n"
                 "If you trust where it comes from and it holds more than tensors, add --trust.")
    state, others = state_of(checkpoint)
    heads = [int(h) for h in arguments.heads.split(",")]
    if len(heads) != 5:
        sys.exit("--heads needs five numbers")
    described = read_architecture(state, heads)
    if described["radius"] is None:
        if arguments.radius is None:
            sys.exit("the checkpoint has no mov.grid: give the window's radius with --radius (2 in the authors' code)")
        described["radius"] = arguments.radius
    model = Cover(**described, warp_convention=arguments.warp)
    state.setdefault("mov.grid", model.mov.grid)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        sys.exit(f"{arguments.checkpoint}: {error}")
    broken = [n for n, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        sys.exit(f"{arguments.checkpoint}: values that are not finite in {', '.join(broken[:3])}")
    metadata = metadata_of(**described, warp_convention=arguments.warp)
    metadata |= {key: value for key in ("degree", "patch") if (value := getattr(arguments, key))}
    save_file(state, arguments.out, metadata)
    if others:
        print(f"left out: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''} ({len(others)} entries)")
    print(f"{arguments.out}: {len(state)} tensors, {sum(v.numel() for v in model.parameters()):,} parameters, "
          + ", ".join(f"{k} {v}" for k, v in metadata.items()))


if __name__ == "__main__":
    main()
