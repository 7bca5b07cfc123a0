#!/usr/bin/env python3
"""Features of an image from an exported network: python3 tools/load_weights_example.py cover.safetensors [image.png]

Takes cover_unet.py, which `cover export` wrote beside the weights.
"""

import pathlib
import sys

import torch

weights = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(weights.resolve().parent))
from cover_unet import DIMS, IN_CHANNELS, load

model = load(weights)
if len(sys.argv) > 2:
    import numpy as np
    from PIL import Image

    gray = np.asarray(Image.open(sys.argv[2]).convert("L"), np.float32) / 255
    image = torch.from_numpy(gray[: gray.shape[0] // 16 * 16, : gray.shape[1] // 16 * 16])[None, None]
else:
    image = torch.rand(1, IN_CHANNELS, *[64] * DIMS)
with torch.no_grad():
    features = model.backbone(image)
for name, feature in zip(("f5", "f4", "f3", "f2", "f1"), features):
    print(name, tuple(feature.shape), f"mean {feature.mean():.4f}, standard deviation {feature.std():.4f}")
