"""The least time that one COVER training step can take on a device, from its rates of copying and of matrix products.

Every convolution reads what its producers stored and writes once: pooled, up-sampled, concatenated, normalised and
activated values are made on the way in and never stored. A pass takes the longer of its products and its bytes:

    forward          in + out            in: the stored maps that it reads, 2^dims times its own pixels through a
    data gradient    2 out + 2 in        max-pool, 1/2^dims of them through an up-sampling; the backward of the
    weight gradient  2 out + in          normalisation rebuilds its gradient from two maps

To that come the warps of features and fields, the mixture of vectors and the projections. Losses, the optimiser and the
making of views are left out: they are small.
"""

import step_shapes as shapes

FIELD = 4  # bytes of one component: fields are float32 whatever the features are


def conv_ms(layers, dims, patch, images, element, matrix, copy):
    total = 0.0
    for index, (level, c_in, c_out, read) in enumerate(layers):
        sides = shapes.sides_of(dims, patch, level)
        pixels = images * shapes.pixels_of(sides)
        flop = 2 * 3**dims * c_in * c_out * pixels
        stored = c_in
        if read == "pool":
            stored = c_in * 2**dims
        elif read == "concat":
            skip = c_in - shapes.CHANNELS[7 - level]
            stored = skip + shapes.CHANNELS[7 - level] / 2**dims
        a, b = element * pixels * stored, element * pixels * c_out
        passes = [a + b, 2 * a + 2 * b, a + 2 * b]
        if index == 0:
            del passes[1]  # the images need no gradient
        total += sum(max(flop / matrix, moved / copy) for moved in passes)
    return total / 1e6


def floor(dims, patch, batch, element, matrix, fma, copy):
    """Milliseconds by part; matrix and fma in GFLOP/s, copy in GB/s."""
    pixels = [batch * shapes.pixels_of(shapes.sides_of(dims, patch, level)) for level in range(5)]
    channels = [shapes.CHANNELS[8 - level] for level in range(4)] + [shapes.CHANNELS[4]]
    vectors = FIELD * dims
    # Forward reads source and field, writes y; backward reads dy, source and field, writes the gradients of both.
    warped = sum(pixels[level] * (5 * element * channels[level] + 3 * vectors) for level in range(4))
    warped += pixels[0] * (5 * element * channels[0] + 2 * vectors)  # of the contrast, whose field is given
    fields = sum(pixels[level] * 8 * vectors for level in range(4))
    mixture = projections = 0.0
    for level, c_in, c_out in shapes.projections():
        flop = 2 * c_out * (2 * shapes.RADIUS + 1) ** dims * pixels[level]
        qk = element * pixels[level] * c_out
        mixture += max(flop / fma, (2 * qk + pixels[level] * vectors) / copy)
        mixture += max(3 * flop / fma, (4 * qk + pixels[level] * vectors) / copy)
        moved = 2 * element * pixels[level] * (c_in + c_out)  # both views
        projections += 3 * max(2 * 2 * c_in * c_out * pixels[level] / matrix, moved / copy)
    parts = {"convolutions": conv_ms(shapes.unet_layers(), dims, patch, 2 * batch, element, matrix, copy),
             "warps": (warped + fields) / copy / 1e6, "mixture of vectors": mixture / 1e6,
             "projections": projections / 1e6}
    return {**parts, "step": sum(parts.values())}
