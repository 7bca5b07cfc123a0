#!/usr/bin/env python3
"""Holds what the program's readers read to nibabel, Pillow and h5py, value by value.

    check_readers.py FOLDER

FOLDER/index.jsonl and its .f32 files are written by the test that runs this. Exit 77: a package is missing.
"""

import json
import pathlib
import sys
import warnings

try:
    import h5py
    import nibabel
    import numpy
    from PIL import Image
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed for this Python")
    sys.exit(77)

warnings.simplefilter("ignore")
numpy.seterr(all="ignore")


def volume(line, got):
    image = nibabel.load(line["path"])
    expected = numpy.asarray(image.dataobj).astype(numpy.float64) if image.get_data_dtype().kind != "c" else None
    while expected.ndim < 4:
        expected = expected[..., None]
    expected = expected.reshape(expected.shape[:3] + (-1,), order="F").transpose(3, 2, 1, 0)
    header = image.header
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        affine = image.affine
    else:  # nibabel flips the first axis and centres; the standard's method 1 does neither
        affine = numpy.diag([*[abs(x) or 1 for x in header["pixdim"][1:4]], 1.0])
    ours = numpy.array(line["affine"]).reshape(4, 4)
    if not numpy.allclose(ours, affine, rtol=1e-5, atol=1e-4):
        return f"affine {ours.tolist()} instead of {affine.tolist()}"
    # Ours: stored * slope + intercept in double, then float32. nibabel may scale in float32.
    return compare(got, expected.astype(numpy.float32), 1e-6)


def picture(line, got):
    image = Image.open(line["path"])
    deep = line["maximum"] == 65535
    if image.mode.startswith("I"):
        gray = numpy.asarray(image).astype(numpy.float64)
        gray[gray == image.info.get("transparency", -1)] = 0  # one gray level that is transparent, over black
        return compare(got, numpy.repeat(gray[..., None], 3, axis=2), 0)
    rgba = numpy.asarray(image.convert("RGBA")).astype(numpy.float64)
    expected = rgba[..., :3] * rgba[..., 3:] / 255
    if deep:  # Pillow keeps 8 bits of 16-bit colours
        return within(got / 257, expected, 1.01)
    # JPEG: decoders may round the conversion of colours differently.
    return within(got, expected, 2.01 if image.format == "JPEG" else 1e-3)


def hdf5(line, got):
    with h5py.File(line["path"], "r") as file:
        stored = file["images"]
        values = stored[()].astype(numpy.float64) * stored.attrs.get("scale", 1) + stored.attrs.get("offset", 0)
        if stored.attrs.get("axes", "").startswith("NC") and stored.shape[1] == 1 or stored.ndim == 4:
            values = numpy.moveaxis(values, 1, -1)
        if values.ndim == 4:
            values = values[:, None]
        return compare(got, values.astype(numpy.float32), 0)


def compare(got, expected, relative):
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    nan = numpy.isnan(expected)
    if not (numpy.isnan(got) == nan).all():
        return "NaN in other places"
    scale = numpy.abs(expected[numpy.isfinite(expected)]).max(initial=0)
    return within(numpy.where(nan, 0, got), numpy.where(nan, 0, expected), relative * scale)


def within(got, expected, tolerance):
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    same = (got == expected) | (numpy.abs(got.astype(numpy.float64) - expected) <= tolerance)
    if same.all():
        return ""
    return f"{(~same).sum()} of {same.size} values differ, by up to {numpy.nanmax(numpy.abs(got - expected))}"


def oracle_fails(line):
    """Whether the other program cannot read the file either."""
    try:
        if line["kind"] == "volume":
            numpy.asarray(nibabel.load(line["path"]).dataobj)
        elif line["kind"] == "picture":
            Image.open(line["path"]).load()
        else:
            h5py.File(line["path"], "r")["images"][()]
        return False
    except Exception:
        return True


def main():
    folder = pathlib.Path(sys.argv[1])
    counts = {"volume": 0, "picture": 0, "hdf5": 0}
    refused = wrong = 0
    for text in (folder / "index.jsonl").read_text().splitlines():
        line = json.loads(text)
        name = pathlib.Path(line["path"]).name
        if "refused" in line:
            refused += 1
            # PngSuite's x* are damaged on purpose, and Pillow reads a few of them.
            expected = name.startswith("x") or name.endswith(".hdr") or oracle_fails(line)
            if not expected:
                wrong += 1
                print(f"{line['path']}: refused, but the other program reads it: {line['refused']}")
            continue
        got = numpy.fromfile(folder / line["values"], numpy.float32).reshape(line["shape"])
        why = {"volume": volume, "picture": picture, "hdf5": hdf5}[line["kind"]](line, got)
        counts[line["kind"]] += 1
        if why or (name.startswith("x") and line["kind"] == "picture"):
            wrong += 1
            print(f"{line['path']}: {why or 'is damaged and was read'}")
    print(", ".join(f"{n} {kind}" for kind, n in counts.items()), f"files; {wrong} differ; {refused} refused by both")
    if wrong or min(counts.values()) == 0:
        sys.exit(1)


if __name__ == "__main__":
    main()
