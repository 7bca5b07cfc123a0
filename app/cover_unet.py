"""COVER as one PyTorch module: the pretrained U-Net, and the vector pyramid that trained it.

Written by `cover export` beside the weights. It needs torch and nothing else; copy it into your project and change it.

    from cover_unet import load
    model = load("cover.safetensors")                    # strict: every tensor, each of its shape, and no other
    features = model.backbone(images)                    # five maps, coarse to fine; images (B, C, H, W) in [0, 1]
    flow, _, _ = model(moving, fixed)                    # displacement field (B, 2, H, W) in pixels

Sides must be multiples of 16. To fine-tune, put your own layers on `features[-1]` (full resolution). What the images
have to look like (size, range) stands in the weights file: `read_safetensors(path)[1]["preprocessing"]`.

The method is that of He and Li, "Vector Contrastive Learning For Pixel-Wise Pretraining In Medical Vision" (ICCV 2025):
one image is shown twice, once displaced by a known field, and the network learns that field from the features of the
two views. Shapes: (B, C, spatial) with spatial (H, W) or (D, H, W). A displacement has one component per spatial axis,
in that order, in pixels of the grid that it lives on: fixed(i) shows what moving(i + flow(i)) shows.
"""

import json
import math
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F

# The network of the weights that this file was written with; load() takes what the weights file says.
DIMS = 2  # spatial axes of an image
IN_CHANNELS = 1  # 1: gray, 3: colour
CHANNELS = (32, 64, 128, 256, 512, 256, 128, 64, 32)  # of the U-Net: four steps down to the bottom and up again
HEAD_DIM = 8  # channels of one attention head
HEADS = (4, 4, 4, 1, 1)  # per level of the pyramid, coarse to fine
RADIUS = 2  # of the attention window, in pixels of the level
LEVELS = 5  # of the pyramid, from the coarsest on
WARP = "exact"  # how a displacement is read: see warp()
# End of the network.

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def double_size(x, align_corners):
    """Twice the sides, (tri)linear. The U-Net aligns the outer edges of the pixels (align_corners False), the pyramid
    the centres of the corner pixels (True)."""
    return F.interpolate(x, scale_factor=2, mode=INTERPOLATION[x.dim() - 2], align_corners=align_corners)


def warp(source, field, convention=WARP):
    """source(i + field(i)), (tri)linear, zero outside. source (B, C, spatial), field (B, dims, spatial).

    "exact" reads at the point p = i + field(i). "reference" reads at p * S / (S - 1) - 1/2 on an axis of S pixels, as
    the code of the paper does; weights that were trained with it want it.
    """
    grid = []
    for axis, side in enumerate(source.shape[2:]):
        index = torch.arange(side, dtype=field.dtype, device=field.device)
        index = index.reshape([side if a == axis else 1 for a in range(source.dim() - 2)])
        point = field[:, axis] + index
        if convention == "reference":
            point = point * side / max(side - 1, 1) - 0.5
        # grid_sample counts from -1, the outer edge of the first pixel, to 1, that of the last.
        grid.append((2 * point + 1) / side - 1)
    # It also wants the last axis first.
    grid = torch.stack(grid[::-1], dim=-1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution, group norm over groups of eight channels, LeakyReLU."""

    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.double_conv = nn.Sequential(
            CONV[dims](c_in, c_out, kernel_size=3, padding=1),
            nn.GroupNorm(c_out // 8, c_out),
            nn.LeakyReLU(0.2),
            CONV[dims](c_out, c_out, kernel_size=3, padding=1),
            nn.GroupNorm(c_out // 8, c_out),
            nn.LeakyReLU(0.2),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    """Half the sides, then a DoubleConv."""

    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(MAX_POOL[dims](2), DoubleConv(dims, c_in, c_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    """The coarse map at twice its sides, joined to the map of that size on the way down, then a DoubleConv."""

    def __init__(self, dims, c_skip, c_coarse, c_out):
        super().__init__()
        self.conv = DoubleConv(dims, c_skip + c_coarse, c_out)

    def forward(self, skip, coarse):
        return self.conv(torch.cat([skip, double_size(coarse, align_corners=False)], dim=1))


class UNet(nn.Module):
    """The backbone. An image (B, C, spatial) becomes five maps [f5, f4, f3, f2, f1], from 1/16 of the sides to 1/1."""

    def __init__(self, dims=DIMS, in_channels=IN_CHANNELS, channels=CHANNELS):
        super().__init__()
        c = channels
        self.inc = DoubleConv(dims, in_channels, c[0])
        self.down1 = Down(dims, c[0], c[1])
        self.down2 = Down(dims, c[1], c[2])
        self.down3 = Down(dims, c[2], c[3])
        self.down4 = Down(dims, c[3], c[4])
        self.up1 = Up(dims, c[3], c[4], c[5])
        self.up2 = Up(dims, c[2], c[5], c[6])
        self.up3 = Up(dims, c[1], c[6], c[7])
        self.up4 = Up(dims, c[0], c[7], c[8])

    def forward(self, image):
        if any(side % 16 for side in image.shape[2:]):
            raise ValueError(f"every side must be a multiple of 16, not {tuple(image.shape[2:])}: pad the image")
        full = self.inc(image)
        half = self.down1(full)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        f5 = self.down4(eighth)
        f4 = self.up1(eighth, f5)
        f3 = self.up2(quarter, f4)
        f2 = self.up3(half, f3)
        f1 = self.up4(full, f2)
        return [f5, f4, f3, f2, f1]


class Projection(nn.Module):
    """A linear map of the channels, then a norm over all of them: what the attention compares."""

    def __init__(self, dims, c_in, c_out):
        super().__init__()
        self.proj = CONV[dims](c_in, c_out, kernel_size=1)
        self.norm = nn.GroupNorm(1, c_out)

    def forward(self, x):
        return self.norm(self.proj(x))


class MixtureOfVectors(nn.Module):
    """Attention of every pixel over the window around it. What is mixed are the offsets of the window themselves, so
    that the result is a displacement: where in the other view this pixel is found."""

    def __init__(self, dims=DIMS, radius=RADIUS):
        super().__init__()
        self.dims, self.radius = dims, radius
        axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
        # A constant, kept among the weights: every offset of the window, (N, ..., N, dims) with N = 2 radius + 1.
        self.register_buffer("grid", torch.stack(torch.meshgrid([axis] * dims, indexing="ij"), dim=-1))

    def forward(self, query, key, heads):
        """query, key (B, head_dim * heads, spatial) -> displacement (B, dims, spatial)."""
        spatial, r = query.shape[2:], self.radius
        # Channel c belongs to head c mod heads.
        query = query.unflatten(1, (-1, heads)) / math.sqrt(query.shape[1] // heads)
        margin = [r, r] * self.dims
        key = F.pad(key, margin).unflatten(1, (-1, heads))
        inside = F.pad(query.new_ones((1, 1, *spatial)), margin)
        offsets = self.grid.reshape(-1, self.dims)
        logits = []
        for offset in offsets.int().tolist():
            window = [slice(r + o, r + o + side) for o, side in zip(offset, spatial)]
            score = (query * key[(..., *window)]).sum(dim=1)  # (B, heads, spatial)
            # A place outside the image gets no weight.
            logits.append(score - 1000 * (1 - inside[(..., *window)]))
        weight = torch.softmax(torch.stack(logits, dim=-1), dim=-1)  # (B, heads, spatial, offsets)
        vectors = weight @ offsets  # (B, heads, spatial, dims)
        return vectors.mean(dim=1).movedim(-1, 1)


class Cover(nn.Module):
    """The backbone and, above it, the pyramid that predicts the displacement between two views."""

    def __init__(self, dims=DIMS, in_channels=IN_CHANNELS, channels=CHANNELS, head_dim=HEAD_DIM, heads=HEADS,
                 radius=RADIUS, levels=LEVELS, warp=WARP):
        super().__init__()
        self.heads, self.levels, self.warp_convention = tuple(heads), levels, warp
        self.backbone = UNet(dims, in_channels, channels)
        self.proj = nn.ModuleList(Projection(dims, c, head_dim * h) for c, h in zip(channels[4:], heads))
        self.mov = MixtureOfVectors(dims, radius)

    def match(self, level, moving, fixed):
        """The displacement that one level sees, between maps of the same size. One projection serves both."""
        return self.mov(self.proj[level](fixed), self.proj[level](moving), self.heads[level])

    def displacement(self, moving, fixed):
        """From the five maps of each view to the field at full resolution, coarse to fine: each level moves its map by
        what the levels before it found, and adds what is left. Vectors double with the sides of the grid."""
        def warped(source, field):
            return warp(source, field, self.warp_convention)

        field = double_size(2 * self.match(0, moving[0], fixed[0]), align_corners=True)
        for level in range(1, self.levels):
            step = self.match(level, warped(moving[level], field), fixed[level])
            if level < 4:  # to the grid of the next level; the last one is at full resolution already
                step = double_size(2 * step, align_corners=True)
                field = double_size(2 * field, align_corners=True)
            field = warped(field, step) + step
        for _ in range(self.levels, 4):  # a pyramid of fewer levels ends on a coarser grid
            field = double_size(2 * field, align_corners=True)
        return field

    def forward(self, moving, fixed):
        """The displacement field from fixed to moving, and the features of both at full resolution."""
        m, f = self.backbone(moving), self.backbone(fixed)
        return self.displacement(m, f), m[-1], f[-1]


def read_safetensors(path):
    """(tensors by name, metadata) of a file: eight bytes that say how long the header is, the header in JSON, then the
    numbers, little-endian. This reads float32, which is what `cover export` writes."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > 100_000_000:
            raise ValueError(f"{path} is not a safetensors file")
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is of type {entry['dtype']}; float32 is expected")
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data) or end - begin != 4 * math.prod(entry["shape"]):
            raise ValueError(f"{path}: {name} does not lie within the file; is it complete?")
        values = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
        tensors[name] = values.reshape(entry["shape"]).clone()
    return tensors, metadata


def architecture(metadata):
    """The arguments of Cover, from the words in a weights file."""
    def numbers(key):
        return [int(word) for word in metadata[key].split(",")]

    one = {key: int(metadata[key]) for key in ("dims", "in_channels", "head_dim", "radius", "levels")}
    return {**one, "channels": numbers("channels"), "heads": numbers("heads"), "warp": metadata["warp"]}


def load(path):
    """The whole network of a weights file, ready for use. Raises when a tensor is missing, unknown or mis-shaped."""
    tensors, metadata = read_safetensors(path)
    if not any(name.startswith("proj.") for name in tensors):
        raise ValueError(f"{path} holds the backbone alone; load_backbone() reads it")
    model = Cover(**architecture(metadata))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def load_backbone(path):
    """The U-Net alone, of a file that holds the whole network or the backbone (`cover export --part backbone`)."""
    tensors, metadata = read_safetensors(path)
    described = architecture(metadata)
    model = UNet(described["dims"], described["in_channels"], described["channels"])
    prefix = "backbone."
    own = {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}
    model.load_state_dict(own, strict=True)
    return model.eval()


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} WEIGHTS.safetensors")
    network = load_backbone(sys.argv[1])
    noise = torch.rand(1, network.inc.double_conv[0].in_channels, *[32] * DIMS)
    with torch.no_grad():
        for number, feature in zip((5, 4, 3, 2, 1), network(noise)):
            print(f"f{number} {tuple(feature.shape)} mean {feature.mean():.4f} deviation {feature.std():.4f}")
