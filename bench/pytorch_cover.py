"""COVER in PyTorch: the model, the losses and one training step, in 2D and 3D.

Written from the mathematics that docs/ states (He and Li, ICCV 2025); the parameters bear the names of the authors'
released code, so that weights travel in both directions. It is what `cover` is compared with: in speed by
compare_pytorch.py, in numbers by tests/python. Nothing here is needed to build or to run `cover`.

Shapes: (B, C, spatial...) with spatial (H, W) or (D, H, W); a displacement field has one component per spatial axis,
in that order, in pixels of the grid that it lives on.
"""

import itertools
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def up(x, align_corners):
    """x2 multilinear: align_corners False inside the U-Net, True in the pyramid."""
    return F.interpolate(x, scale_factor=2, mode=LINEAR[x.dim() - 2], align_corners=align_corners)


def warp(source, field, convention):
    """source(i + field(i)), multilinear, zero outside; under "reference" it reads at p * S / (S - 1) - 1/2 instead of p."""
    sides = source.shape[2:]
    axes = []
    for axis, side in enumerate(sides):
        line = torch.arange(side, dtype=field.dtype, device=field.device)
        point = field[:, axis] + line.view([-1 if a == axis else 1 for a in range(len(sides))])
        # grid_sample with align_corners False reads at ((x + 1) * side - 1) / 2.
        axes.append((2 * point + 1) / side - 1 if convention == "exact" else 2 * point / (side - 1) - 1)
    return F.grid_sample(source, torch.stack(axes[::-1], -1), mode="bilinear", padding_mode="zeros", align_corners=False)


class DoubleConv(nn.Module):
    def __init__(self, dims, c_in, c_out):
        super().__init__()
        layers = []
        for c in (c_in, c_out):
            layers += [CONV[dims](c, c_out, 3, padding=1), nn.GroupNorm(c_out // 8, c_out), nn.LeakyReLU(0.2, inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(MAX_POOL[dims](2), DoubleConv(dims, c_in, c_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.conv = DoubleConv(dims, c_in, c_out)

    def forward(self, coarse, skip):
        return self.conv(torch.cat([skip, up(coarse, False)], 1))


class UNet(nn.Module):
    """Features (f5, f4, f3, f2, f1), coarse to fine."""

    def __init__(self, dims, c_in, c):
        super().__init__()
        self.inc = DoubleConv(dims, c_in, c[0])
        self.down1 = Down(dims, c[0], c[1])
        self.down2 = Down(dims, c[1], c[2])
        self.down3 = Down(dims, c[2], c[3])
        self.down4 = Down(dims, c[3], c[4])
        self.up1 = Up(dims, c[4] + c[3], c[5])
        self.up2 = Up(dims, c[5] + c[2], c[6])
        self.up3 = Up(dims, c[6] + c[1], c[7])
        self.up4 = Up(dims, c[7] + c[0], c[8])

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        f5 = self.down4(x4)
        f4 = self.up1(f5, x4)
        f3 = self.up2(f4, x3)
        f2 = self.up3(f3, x2)
        return f5, f4, f3, f2, self.up4(f2, x1)


class Projection(nn.Module):
    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.proj = CONV[dims](c_in, c_out, 1)
        self.norm = nn.GroupNorm(1, c_out)

    def forward(self, x):
        return self.norm(self.proj(x))


class MoV(nn.Module):
    """Mixture of vectors: a softmax over the window's offsets weighs the offsets themselves."""

    def __init__(self, dims, radius):
        super().__init__()
        self.dims, self.radius = dims, radius
        line = torch.arange(-radius, radius + 1, dtype=torch.float32)
        self.register_buffer("grid", torch.stack(torch.meshgrid(*[line] * dims, indexing="ij"), -1))

    def forward(self, q, k, heads):
        sides, r = q.shape[2:], self.radius
        head_dim = q.shape[1] // heads
        q = q / math.sqrt(head_dim)
        padded = F.pad(k, (r, r) * self.dims)
        inside = F.pad(q.new_ones((1, 1) + sides), (r, r) * self.dims)
        outside = -1000 * (1 - inside)
        logits = []
        for offset in itertools.product(range(-r, r + 1), repeat=self.dims):  # the order of self.grid
            window = (slice(None), slice(None)) + tuple(slice(r + o, r + o + s) for o, s in zip(offset, sides))
            # Channel c belongs to head c mod heads: (B, head_dim, heads, spatial), summed over head_dim.
            score = (q * padded[window]).unflatten(1, (head_dim, heads)).sum(1)
            logits.append(score + outside[window])
        weight = torch.softmax(torch.stack(logits, -1), -1)  # (B, heads, spatial, offsets)
        # Under autocast a product of matrices would round the weights to bfloat16, and a displacement must stay float32.
        with torch.autocast(q.device.type, enabled=False):
            vectors = weight.mean(1).to(self.grid.dtype) @ self.grid.view(-1, self.dims)  # (B, spatial, dims)
        return vectors.movedim(-1, 1)


class Cover(nn.Module):
    def __init__(self, dims=2, in_channels=1, channels=(32, 64, 128, 256, 512, 256, 128, 64, 32), head_dim=8,
                 heads=(4, 4, 4, 1, 1), radius=2, warp_convention="exact"):
        super().__init__()
        self.dims, self.heads, self.warp_convention = dims, tuple(heads), warp_convention
        self.backbone = UNet(dims, in_channels, channels)
        self.proj = nn.ModuleList(Projection(dims, c, head_dim * h) for c, h in zip(channels[4:], heads))
        self.mov = MoV(dims, radius)
        for module in self.backbone.modules():
            if isinstance(module, CONV[dims]):
                nn.init.kaiming_normal_(module.weight)

    def warp(self, source, field):
        return warp(source, field, self.warp_convention)

    def vectors(self, level, moving, fixed):
        """MoV of one level; the one projection serves both views, stacked in one batch."""
        k, q = self.proj[level](torch.cat([moving, fixed])).chunk(2)
        return self.mov(q, k, self.heads[level])

    def pyramid(self, moving, fixed):
        """psi' from the two lists of features, coarse to fine."""
        u = w = up(2 * self.vectors(0, moving[0], fixed[0]), True)
        for level in (1, 2, 3):
            w = up(2 * self.vectors(level, self.warp(moving[level], u), fixed[level]), True)
            u = self.warp(up(2 * u, True), w) + w
        w = self.vectors(4, self.warp(moving[4], u), fixed[4])
        return self.warp(u, w) + w

    def forward(self, moving, fixed):
        """(psi', f1 of the moving view, f1 of the fixed view); both views go through the backbone in one batch."""
        pairs = [f.chunk(2) for f in self.backbone(torch.cat([moving, fixed]))]
        flow = self.pyramid([m for m, _ in pairs], [f for _, f in pairs])
        return flow, pairs[4][0], pairs[4][1]

    def losses(self, flow, f_m, f_f, psi, mask):
        """L_vec and L_con, each one ratio over the valid pixels (mask 1) of the whole batch."""
        valid = mask.sum()
        vec = (mask * (psi - flow).abs()).sum() / valid
        warped = self.warp(f_m, psi)
        norms = warped.norm(dim=1).clamp_min(1e-12) * f_f.norm(dim=1).clamp_min(1e-12)
        con = 1 - (mask[:, 0] * (warped * f_f).sum(1) / norms).sum() / valid
        return vec, con


def overlap_mask(psi):
    """(B, 1, spatial): 1 where the point i + psi(i) lies inside, 0 < (i + psi)/(S - 1) <= 1 on every axis."""
    sides = psi.shape[2:]
    inside = torch.ones_like(psi[:, :1], dtype=torch.bool)
    for axis, side in enumerate(sides):
        line = torch.arange(side, dtype=psi.dtype, device=psi.device)
        point = (psi[:, axis : axis + 1] + line.view([-1 if a == axis else 1 for a in range(len(sides))])) / (side - 1)
        inside &= (point > 0) & (point <= 1)
    return inside.to(psi.dtype)


def make_optimizer(model, lr=1e-4, weight_decay=1e-4):
    """Adam with the L2 term in the gradient, after clipping."""
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def train_step(model, optimizer, moving, fixed, psi, mask, clip=1.0):
    """One step; returns (L_vec, L_con, gradient norm before clipping)."""
    optimizer.zero_grad(set_to_none=True)
    vec, con = model.losses(*model(moving, fixed), psi, mask)
    (vec + con).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return vec.detach(), con.detach(), norm


def architecture(metadata):
    """The arguments of Cover from the metadata strings of a weights file."""
    def integers(key):
        return [int(v) for v in metadata[key].split(",")]

    return {"dims": int(metadata["dims"]), "in_channels": int(metadata["in_channels"]), "channels": integers("channels"),
            "head_dim": int(metadata["head_dim"]), "heads": integers("heads"), "radius": int(metadata["radius"]),
            "warp_convention": metadata["warp"]}


def metadata_of(dims, in_channels, channels, head_dim, heads, radius, warp_convention):
    """The other way round."""
    return {"dims": str(dims), "in_channels": str(in_channels), "channels": ",".join(map(str, channels)),
            "head_dim": str(head_dim), "heads": ",".join(map(str, heads)), "radius": str(radius), "levels": "5",
            "warp": warp_convention}


def load_weights(path):
    """A Cover with the weights of a safetensors file; every tensor must be there, and no other."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        model = Cover(**architecture(file.metadata()))
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=True)
    return model
