#!/usr/bin/env python3
"""Turns an .npz in the layout of PneumoniaMNIST and the other MedMNIST sets into a patch file of `cover`.

    python3 tools/npz_to_patches.py pneumoniamnist.npz train.h5 --split train
    cover info train.h5
    cover pretrain --data train.h5 --out run --patch 16

The .npz holds train_images, train_labels, val_images, ... : images (N, H, W), (N, H, W, 3) or (N, D, H, W) of uint8 or
uint16, labels (N) or (N, 1). The patch file gets /images (N, C, spatial), /labels (N), /subject and /source; each image
is its own subject. Labels that are no single class of 0 to 255 are left out, and that is said.
"""

import argparse
import json
import os
import pathlib
import sys
import zipfile

try:
    import h5py
    import numpy as np
except ImportError as error:
    sys.exit(f"{error.name} is needed to read .npz and write HDF5: pip install h5py numpy (Debian: python3-h5py)")

SPLITS = ("train", "val", "test")


def channels_first(images, name):
    """(N, C, spatial) and the number of spatial axes."""
    if images.dtype not in (np.uint8, np.uint16):
        sys.exit(f"{name}: images of type {images.dtype}; uint8 or uint16 is expected")
    if min(images.shape, default=0) < 1 or images.ndim not in (3, 4, 5):
        sys.exit(f"{name}: a shape of {images.shape}; (N, H, W), (N, H, W, 3) or (N, D, H, W) is expected")
    colour = images.ndim > 3 and images.shape[-1] in (1, 3)
    if images.ndim == 5 and not colour:
        sys.exit(f"{name}: a shape of {images.shape}; a fifth axis holds 1 or 3 channels")
    images = np.moveaxis(images, -1, 1) if colour else images[:, None]
    return np.ascontiguousarray(images), images.ndim - 2


def classes(labels, count, name):
    """(N) uint8, or None with a word of why."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    why = None
    if labels.ndim != 1:
        why = f"a shape of {labels.shape}, which is no one class per image"
    elif len(labels) != count:
        sys.exit(f"{name}: {len(labels)} labels for {count} images")
    elif labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        why = "values that are no whole numbers from 0 to 255"
    if why:
        print(f"{name}: {why}; the patch file will have no labels", file=sys.stderr)
        return None
    return labels.astype(np.uint8)


def read(path, splits):
    """Images (N, C, spatial), labels or None, and where each sample comes from."""
    images, labels, sources = [], [], []
    with np.load(path, allow_pickle=False) as file:
        for split in splits:
            key = f"{split}_images"
            if key not in file:
                there = ", ".join(n[:-7] for n in file.files if n.endswith("_images")) or "none"
                sys.exit(f"{path}: holds no {key}; its splits are: {there}")
            name = f"{path}: {key}"
            part, spatial = channels_first(file[key], name)
            if images and part.shape[1:] != images[0].shape[1:]:
                sys.exit(f"{name}: {part.shape[1:]} where the first split has {images[0].shape[1:]}")
            images.append(part)
            sources += [f"{pathlib.Path(path).name}:{split}:{i}" for i in range(len(part))]
            key = f"{split}_labels"
            labels.append(classes(file[key], len(part), f"{path}: {key}") if key in file else None)
    complete = all(part is not None for part in labels)
    return np.concatenate(images), np.concatenate(labels) if complete else None, sources, spatial


def write(path, images, labels, sources, spatial):
    """Beside its place, then renamed: the file is whole or not there."""
    aside = f"{path}.writing-{os.getpid()}"
    names = np.array([s.encode() for s in sources])  # fixed length
    preprocessing = {"channels": images.shape[1], "keep_aspect": False, "normalize": "range",
                     "size": list(images.shape[2:]), "store": str(images.dtype)}
    if spatial == 3:
        del preprocessing["keep_aspect"]
    try:
        with h5py.File(aside, "w") as out:
            out.attrs["cover_schema"] = np.int64(1)
            out.attrs["preprocessing"] = np.bytes_(json.dumps(preprocessing, sort_keys=True))
            stored = out.create_dataset("images", data=images)
            stored.attrs["axes"] = np.bytes_("NCHW" if spatial == 2 else "NCDHW")
            stored.attrs["spacing"] = np.ones(spatial)
            if labels is not None:
                out["labels"] = labels
            out["subject"] = names
            out["source"] = names
        os.replace(aside, path)
    except OSError as error:
        sys.exit(f"{path}: cannot be written: {error.strerror or error}")
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npz")
    parser.add_argument("out", help="patch file to write, .h5")
    parser.add_argument("--split", default="train", help="train, val, test, several as in train,val, or all (train)")
    parser.add_argument("--no-labels", action="store_true", help="leave the labels out")
    arguments = parser.parse_args()
    splits = SPLITS if arguments.split == "all" else arguments.split.split(",")
    unknown = [s for s in splits if s not in SPLITS]
    if unknown or len(set(splits)) != len(splits):
        sys.exit(f"--split {arguments.split}: any of {', '.join(SPLITS)}, each once, or all is expected")
    try:
        images, labels, sources, spatial = read(arguments.npz, splits)
    except OSError as error:
        sys.exit(f"{arguments.npz}: cannot be read: {error.strerror or error}")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        sys.exit(f"{arguments.npz}: is no .npz of plain arrays: {error}")
    if arguments.no_labels:
        labels = None
    write(arguments.out, images, labels, sources, spatial)
    counts = "" if labels is None else ", classes " + ", ".join(
        f"{c}: {n}" for c, n in zip(*np.unique(labels, return_counts=True)))
    print(f"{arguments.out}: {len(images)} images of {' x '.join(map(str, images.shape[2:]))}, "
          f"{images.shape[1]} channel{'s' if images.shape[1] > 1 else ''}, {images.dtype}{counts}")


if __name__ == "__main__":
    main()
