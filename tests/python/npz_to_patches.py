#!/usr/bin/env python3
"""tools/npz_to_patches.py: its patch files are what `cover` reads, and what it says of files that are none.

    python3 tests/python/npz_to_patches.py --cover build/cover

Exit 0, 1 when something differs, 77 when h5py or numpy is absent.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import h5py
    import numpy as np
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools/npz_to_patches.py"
failed = 0


def expect(what, good, shown=""):
    global failed
    if not good:
        failed += 1
        print(f"FAILED: {what}\n{shown}")


def call(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def convert(*arguments):
    return call(sys.executable, TOOL, *arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cover", required=True)
    cover = parser.parse_args().cover
    random = np.random.default_rng(0)
    sizes = {"train": 12, "val": 5, "test": 3}
    arrays = {}
    for split, n in sizes.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        npz, out = folder / "set.npz", folder / "out.h5"
        np.savez_compressed(npz, **arrays)

        done = convert(npz, out, "--split", "val,train")
        expect("the conversion", done.returncode == 0 and "17 images of 28 x 28" in done.stdout, done.stderr)
        with h5py.File(out) as file:
            expect("images in the order of the splits", np.array_equal(
                file["images"][...], np.concatenate([arrays["val_images"], arrays["train_images"]])[:, None]))
            expect("labels", np.array_equal(
                file["labels"][...], np.concatenate([arrays["val_labels"], arrays["train_labels"]])[:, 0]))
            expect("sources", file["source"][6] == b"set.npz:train:1" and len(set(file["subject"][...])) == 17)
        again = folder / "again.h5"
        convert(npz, again, "--split", "val,train")
        expect("the same bytes from the same input", again.read_bytes() == out.read_bytes())

        info = call(cover, "info", out, "--json")
        expect("cover info", info.returncode == 0, info.stderr)
        expect("cover info names the shape", "28" in info.stdout and json.loads(info.stdout), info.stdout)
        run = call(cover, "pretrain", "--data", out, "--out", folder / "run", "--steps", 2, "--patch", 16, "--batch", 2,
                   "--channels", "8,8,8,8,8,8,8,8,8", "--heads", "1,1,1,1,1", "--threads", 1)
        expect("two steps of cover pretrain", run.returncode == 0, run.stderr)

        colour, volume = folder / "colour.npz", folder / "volume.npz"
        np.savez(colour, train_images=random.integers(0, 256, (3, 28, 20, 3), dtype=np.uint8),
                 train_labels=np.zeros((3, 14), np.uint8))
        done = convert(colour, out)
        expect("colour, several labels", done.returncode == 0 and "will have no labels" in done.stderr, done.stderr)
        with h5py.File(out) as file:
            expect("channels first", file["images"].shape == (3, 3, 28, 20) and "labels" not in file)
        np.savez(volume, train_images=random.integers(0, 256, (2, 28, 24, 20), dtype=np.uint8))
        expect("volumes", convert(volume, out).returncode == 0)
        with h5py.File(out) as file:
            expect("a volume's axes", file["images"].shape == (2, 1, 28, 24, 20)
                   and file["images"].attrs["axes"] == b"NCDHW")
        expect("cover info of volumes", call(cover, "info", out).returncode == 0)

        before = out.read_bytes()
        floats, pickled, text = folder / "float.npz", folder / "pickled.npz", folder / "text.npz"
        np.savez(floats, train_images=np.zeros((2, 28, 28)))
        np.savez(pickled, train_images=np.array([{}, {}]))
        text.write_text("no archive")
        cut = folder / "cut.npz"
        cut.write_bytes(npz.read_bytes()[:-100])
        for what, arguments, word in (
                ("no such split", (volume, out, "--split", "val"), "its splits are: train"),
                ("a word that is no split", (npz, out, "--split", "trian"), "--split trian"),
                ("floats", (floats, out), "float64"), ("objects", (pickled, out), "plain arrays"),
                ("no archive", (text, out), "text.npz"), ("a damaged archive", (cut, out), "cut.npz"),
                ("a missing file", (folder / "none.npz", out), "none.npz"),
                ("a folder that is not there", (npz, folder / "no/out.h5"), "cannot be written")):
            refused = convert(*arguments)
            expect(what, refused.returncode == 1 and word in refused.stderr and "Traceback" not in refused.stderr,
                   refused.stderr)
        expect("a refusal leaves the old file", out.read_bytes() == before)
        expect("nothing half-written is left", not list(folder.glob("*.writing-*")))
        hidden = f"import runpy, sys; sys.modules['h5py'] = None; runpy.run_path({str(TOOL)!r}, run_name='__main__')"
        refused = call(sys.executable, "-c", hidden)
        expect("a sentence without h5py", refused.returncode == 1 and "h5py is needed" in refused.stderr,
               refused.stderr)
    print("all as it should be" if not failed else f"{failed} FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
