"""The U-Net's layers and the other shapes of a training step, named as `cover bench ops` names them."""

CHANNELS = (32, 64, 128, 256, 512, 256, 128, 64, 32)
HEADS = (4, 4, 4, 1, 1)
HEAD_DIM = 8
RADIUS = 2
ELEMENT = {"bf16": 2, "tf32": 4, "fp32": 4}  # bytes of an activation


def sides_of(dims, patch, level):
    return tuple(max(patch >> level, 1) for _ in range(dims))


def shape_text(n, sides, channels):
    return f"{n} x {'x'.join(map(str, sides))} x {channels}"


def unet_layers(in_channels=1, channels=CHANNELS):
    """[(level, c_in, c_out, how the input is read)]: five stages down, four up, in the order of `cover bench ops`.

    The input is read as it is ("plain"), through a max-pool ("pool": 2^dims values for one), or as a concatenation of a
    skip and an up-sampled half ("concat").
    """
    layers = []
    for level in range(5):
        layers.append((level, in_channels if level == 0 else channels[level - 1], channels[level],
                       "plain" if level == 0 else "pool"))
        layers.append((level, channels[level], channels[level], "plain"))
    for level in (3, 2, 1, 0):
        layers.append((level, channels[level] + channels[7 - level], channels[8 - level], "concat"))
        layers.append((level, channels[8 - level], channels[8 - level], "plain"))
    return layers


def projections(head_dim=HEAD_DIM, heads=HEADS, channels=CHANNELS):
    """[(level, c_in, c_out)] of the 1^nd convolutions, coarse to fine."""
    return [(level, channels[8 - level], heads[4 - level] * head_dim) for level in (4, 3, 2, 1, 0)]


def pixels_of(sides):
    count = 1
    for side in sides:
        count *= side
    return count


def conv_cost(n, sides, c_in, c_out, kernel, element):
    """FLOP and bytes of any of the three passes: two maps and the weights, each once."""
    taps = kernel ** len(sides)
    pixels = n * pixels_of(sides)
    return 2 * taps * c_in * c_out * pixels, element * (pixels * (c_in + c_out) + taps * c_in * c_out)
