#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus, for a reader of which more are wanted: make_seeds.py COVER [FOLDER].

COVER is the built program: its child process tells the facts of the HDF5 seeds. Needs numpy, h5py, safetensors and
Pillow. The same seeds come out each time, but for the HDF5 library's and Pillow's version.
"""
import gzip
import io
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy
from PIL import Image
from safetensors.numpy import save

cover = sys.argv[1]
corpus = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent / "corpus")
random = numpy.random.default_rng(0)


def write(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def image_seeds():
    gray = random.integers(0, 256, (9, 7), dtype=numpy.uint8)
    colour = random.integers(0, 256, (9, 7, 3), dtype=numpy.uint8)
    pictures = {
        "gray8": Image.fromarray(gray),
        "gray16": Image.fromarray(gray.astype(numpy.uint16) * 257),
        "rgb": Image.fromarray(colour),
        "rgba": Image.fromarray(colour).convert("RGBA"),
        "la": Image.fromarray(gray).convert("LA"),
        "palette": Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE, colors=16),
        "bits": Image.fromarray(gray > 128),
    }
    for name, picture in pictures.items():
        out = io.BytesIO()
        picture.save(out, "PNG")
        write("image", name + ".png", out.getvalue())
    for name, picture, options in [
        ("gray", pictures["gray8"], {}),
        ("rgb", pictures["rgb"], {}),
        ("progressive", pictures["rgb"], {"progressive": True}),
        ("cmyk", pictures["rgb"].convert("CMYK"), {}),
        ("full", pictures["rgb"], {"subsampling": 0, "quality": 95}),
    ]:
        out = io.BytesIO()
        picture.save(out, "JPEG", **options)
        write("image", name + ".jpg", out.getvalue())


def safetensors_seeds():
    one = {"w": numpy.arange(6, dtype=numpy.float32).reshape(2, 3)}
    write("safetensors", "one", save(one))
    write("safetensors", "types", save({
        "a": numpy.zeros(3, numpy.float64), "b": numpy.ones((2, 1), numpy.float16), "c": numpy.ones((), numpy.float32),
    }, {"format": "pt"}))
    network = {
        "dims": "2", "in_channels": "1", "channels": "8,8,8,8,8,8,8,8,8", "head_dim": "8", "heads": "1,1,1,1,1",
        "radius": "1", "levels": "5", "warp": "exact", "degree": "1.5", "rotation": "20", "scale": "0.5",
        "translation": "0.2", "shear": "5.625", "patch": "32,32",
    }
    write("safetensors", "metadata", save(one, network))
    write("safetensors", "metadata3d", save(one, {**network, "dims": "3", "patch": "16,32,48"}))
    write("safetensors", "empty", save({"e": numpy.zeros((0, 4), numpy.float32)}))
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                         "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}).encode()
    write("safetensors", "overlap", struct.pack("<Q", len(header)) + header + bytes(12))
    write("safetensors", "header_of_2_to_60", struct.pack("<Q", 1 << 60) + b"{}")


def facts_of(build):
    with tempfile.NamedTemporaryFile(suffix=".h5") as file:
        with h5py.File(file.name, "w") as h5:
            build(h5)
        data = Path(file.name).read_bytes()
        answer = subprocess.run([cover, "__look-at-hdf5", "facts", ""], stdin=open(file.name, "rb"),
                                capture_output=True, check=True).stdout
    return answer + b"\0" + data


def hdf5_seeds():
    images = random.integers(0, 256, (3, 1, 4, 5), dtype=numpy.uint8)

    def contiguous(h5):
        h5["images"] = images
        h5["images"].attrs["axes"] = "NCHW"
        h5["images"].attrs["spacing"] = [1.0, 2.0]

    def filtered(h5):
        h5.create_dataset("images", data=images.astype(">f4"), chunks=(1, 1, 4, 5), compression="gzip", shuffle=True,
                          fletcher32=True)

    def cut(h5):
        h5.create_dataset("images", data=images, chunks=(2, 1, 3, 3), compression="gzip")

    def strings(h5):
        h5["fixed"] = numpy.array([b"ab", b"c"], dtype="S4")
        h5.create_dataset("free", data=["x", "", "long"], dtype=h5py.string_dtype())
        h5.attrs["cover_schema"] = 1
        h5.attrs["preprocessing"] = "{}"

    def groups(h5):
        for i in range(2):
            h5[f"images/{i}"] = images[i, 0]
        h5["link"] = h5py.SoftLink("/images/0")
        h5["outside"] = h5py.ExternalLink("other.h5", "/x")
        h5.create_dataset("unwritten", (4, 4), dtype="i2")
        h5.create_dataset("odd", data=[1 + 2j])

    for build in (contiguous, filtered, cut, strings, groups):
        write("hdf5_facts", build.__name__, facts_of(build))
    write("hdf5_facts", "error", b'{"error":"it is not an HDF5 file"}\n\0x')


def config_seeds():
    write("config", "sizes.toml", 'data = ["a.h5", "b.h5"]\npatch = [64, 96]\nbatch = 4\nchannels = [8,8,8,8,8,8,8,8,8]\n')
    write("config", "numbers.toml", "lr = 1e-4\nweight_decay = 0.5\nseed = 7\nelastic = true\nsteps = 0x10\n")
    write("config", "words.toml", 'preset = "code"\noptimizer = "sgd"\nwarp = "reference"\nlimit_reach = "redraw"\n')
    write("config", "strings.toml", "init = '''a\nb'''\ndata = \"\\u00e9\\\"\\\\\"\nkernel = [\"conv:ref\"]\n")
    write("config", "seed.toml", 'seed = "18446744073709551615"\npatch = 32 # side\n')
    write("config", "wrong.toml", "bacth = 3\n[table]\nx = 1979-05-27\n")


def index_seeds():
    write("index", "plain.csv", "id,split,subject\na,train,s1\nb,test,s2\nc,train,s1\n")
    write("index", "quoted.csv", 'id,split,patient\r\n"a","train","P, 1"\r\n"b","train","say ""b"""\r\n')
    write("index", "missing.csv", "id,split\nnobody,train\n")
    write("index", "short.csv", "split\ntrain\n\n,,,\n")
    write("index", "open.csv", 'id,split\n"a,train\n')
    write("index", "twice.csv", "id,id,split\na,b,train\na,c,train\n")


def nifti(version, order, dims, code, voxels, **fields):
    """A .nii file; fields by the names of the standard."""
    dim = [len(dims), *dims] + [1] * (7 - len(dims))
    pixdim = [1, *fields.get("pixdim", [1, 2, 3]), 1, 1, 1, 1]
    slope, inter = fields.get("slope", 0), fields.get("inter", 0)
    qform, sform = fields.get("qform", 0), fields.get("sform", 0)
    quaternion = fields.get("quaternion", [0, 0, 0, 5, 6, 7])
    srow = fields.get("srow", [-1, 0, 0, 9, 0, 2, 0, 8, 0, 0, 3, 7])
    bits = numpy.asarray(voxels).dtype.itemsize * 8
    if version == 1:
        header = struct.pack(order + "i35xB8h14xhhh8ffffhBB4f2i80s24shh6f12f16s4s", 348, 0, *dim, code, bits, 0, *pixdim,
                             352, slope, inter, 0, 0, 2, 0, 0, 0, 0, 0, 0, b"seed", b"", qform, sform, *quaternion,
                             *srow, b"", b"n+1\0")
        assert len(header) == 348, len(header)
    else:
        header = struct.pack(order + "i8shh8q3d8dqdd4d2q80s24sii6d12diii16sB15x", 540, b"n+2\0\r\n\x1a\n", code, bits, *dim,
                             0, 0, 0, *pixdim, 544, slope, inter, 0, 0, 0, 0, 0, 0, b"seed", b"", qform, sform,
                             *quaternion, *srow, 0, 2, 0, b"", 0)
        assert len(header) == 540, len(header)
    swap = numpy.dtype(order + numpy.asarray(voxels).dtype.str[1:])
    return header + bytes(4) + numpy.asarray(voxels).astype(swap).tobytes()


def nifti_seeds():
    small = random.integers(0, 100, 24)
    write("nifti", "plain.nii", nifti(1, "<", [2, 3, 4], 4, small.astype("i2")))
    write("nifti", "big_endian.nii", nifti(1, ">", [2, 3, 4], 16, small.astype("f4"), slope=2, inter=-1, sform=1))
    write("nifti", "qform.nii", nifti(1, "<", [2, 3, 2, 2], 2, small.astype("u1"), qform=1, quaternion=[0, 1, 0, 0, 0, 0]))
    write("nifti", "version2.nii", nifti(2, "<", [2, 3, 4], 64, small.astype("f8"), qform=1, sform=2))
    write("nifti", "version2.nii.gz", gzip.compress(nifti(2, ">", [4, 6], 768, small.astype("u4")), mtime=0))
    write("nifti", "zipped.nii.gz", gzip.compress(nifti(1, "<", [2, 3, 4], 512, small.astype("u2")), mtime=0))
    write("nifti", "negative.nii", nifti(1, "<", [2, -3, 4], 4, small.astype("i2")))
    write("nifti", "huge.nii", nifti(2, "<", [1 << 40, 1 << 40, 4], 4, small.astype("i2")))


for make in (image_seeds, safetensors_seeds, hdf5_seeds, config_seeds, index_seeds, nifti_seeds):
    make()
