#!/usr/bin/env python3
"""Features of an image from a weights file: python3 tools/load_weights_example.py model.safetensors [image.png]"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import torch

from pytorch_cover import load_weights

model = load_weights(sys.argv[1]).eval()
if len(sys.argv) > 2:
    import numpy as np
    from PIL import Image

    gray = np.asarray(Image.open(sys.argv[2]).convert("L"), np.float32) / 255
    image = torch.from_numpy(gray[: gray.shape[0] // 16 * 16, : gray.shape[1] // 16 * 16])[None, None]
else:
    image = torch.rand(1, model.backbone.inc.double_conv[0].in_channels, *[64] * model.dims)
with torch.no_grad():
    features = model.backbone(image)
for name, feature in zip(("f5", "f4", "f3", "f2", "f1"), features):
    print(name, tuple(feature.shape), f"mean {feature.mean():.4f}, standard deviation {feature.std():.4f}")
