"""files/: small npy, npz, safetensors and GGUF files as different programs write them; files.json: what is in them.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors gguf
    python files.py

Every file that is said to be readable is read back here by NumPy or by the safetensors package (or
taken apart by hand, where the dtype is beyond them) and compared with the values written down. Files
with an `error` are wrong in the one way that is said and must be refused without reading past them.
"""

import io
import json
import os
import shutil
import struct
import zipfile
from importlib.metadata import version

import gguf
import ml_dtypes
import mlx.core as mx
import numpy as np
import safetensors.numpy
from numpy.lib import format as npy

from golden import DTYPES, HERE, np_dtype, numbers, write_json
from ops import to_mlx

OUT = os.path.join(HERE, "files")
CASES = []
bf16, f8 = np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e4m3fn)


def sample(dtype):
    """2 x 3 values that tell byte orders, signs and layouts apart."""
    t = np_dtype(dtype)
    if t == bool:
        v = [[True, False, False], [True, True, False]]
    elif t.kind == "u":
        v = [[0, 1, 2], [3, 77, np.iinfo(t).max]]
    elif t.kind == "i":
        v = [[0, -1, 2], [3, np.iinfo(t).min, np.iinfo(t).max]]
    elif t.kind == "c":
        v = [[0, 1 + 2j, -1.5j], [2.5, complex(np.inf, -0.0), -3 - 4j]]
    else:
        v = [[0.0, -1.5, 0.1], [np.inf, np.nan, -0.0]]
    return np.array(v, t)


def describe(name, a):
    a = np.asarray(a)
    a = a.astype(a.dtype.newbyteorder("="))
    dtype = str(a.dtype)
    return {"name": name, "dtype": dtype, "shape": list(a.shape), "values": numbers(a)}


def readable(file, format, writer, arrays, metadata=None, note=None):
    c = {"id": file, "file": f"files/{file}", "format": format, "writer": writer}
    c["arrays"] = [describe(k, v) for k, v in arrays.items()]
    if format == "safetensors":
        c["metadata"] = metadata
    if note:
        c["note"] = note
    CASES.append(c)


def refused(file, format, data, why):
    with open(path(file), "wb") as f:
        f.write(data)
    CASES.append({"id": file, "file": f"files/{file}", "format": format, "error": why})


def path(file):
    return os.path.join(OUT, file)


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and (a.tobytes() == b.tobytes())


# ------------------------------------------------------------------------------------------------


def npy_files():
    def write(file, a, version=None, note=None, writer="numpy"):
        with open(path(file), "wb") as f:
            npy.write_array(f, a, version=version)
        assert same(np.load(path(file)), a)
        readable(file, "npy", writer, {"": a}, note=note)

    for d in DTYPES:
        if d != "bfloat16":
            write(f"{d}.npy", sample(d), (1, 0))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    write("v2.npy", x, (2, 0))
    write("v3.npy", x, (3, 0))
    write("fortran.npy", np.asfortranarray(x), note="fortran_order: True; values here are in row-major order, as always")
    write("fortran3d.npy", np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)))
    write("scalar.npy", np.array(2.5))
    write("empty.npy", np.zeros((0, 3), np.float32))
    write("long.npy", np.arange(300, dtype=np.uint16))
    for d in (">f4", ">f8", ">i2", ">i8", ">u4", ">f2", ">c8"):
        write(f"big-endian-{d[1:]}.npy", sample(np.dtype(d[1:]).name).astype(d), note="stored big-endian")
    # MLX: its own header, not padded to 64; fortran_order True for one axis; bf16 as V2
    for tag, a in (
        ("mlx", sample("float32")),
        ("mlx-vector", np.array([1, 2, 3], np.int32)),
        ("mlx-bfloat16", np.array([1.5, -2.5, 3.0], bf16)),
    ):
        mx.save(path(f"{tag}.npy"), to_mlx(a))
        if a.dtype != bf16:
            assert same(np.load(path(f"{tag}.npy")), a)
        readable(f"{tag}.npy", "npy", "mlx", {"": a}, note="descr '<V2'" if a.dtype == bf16 else None)

    def raw(header, data=b"", major=1):
        h = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY" + bytes([major, 0]) + struct.pack("<H", len(h)) + h + data

    good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    refused("bad-magic.npy", "npy", b"\x93NUMPX" + raw(good, b"\0" * 8)[6:], "wrong magic")
    refused("bad-short.npy", "npy", raw(good, b"\0" * 7), "seven bytes of data for two floats")
    refused("bad-header-end.npy", "npy", raw(good)[:40], "ends within the header")
    refused("bad-version.npy", "npy", raw(good, b"\0" * 8, major=9), "version 9.0")
    refused(
        "bad-object.npy",
        "npy",
        raw("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
        "pickled objects",
    )
    refused(
        "bad-record.npy",
        "npy",
        raw("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 4),
        "structured dtype",
    )
    refused(
        "bad-text.npy",
        "npy",
        raw("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"a\0\0\0"),
        "a dtype without an equivalent",
    )
    refused(
        "bad-shape.npy",
        "npy",
        raw("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", b"\0" * 8),
        "a shape whose product overflows",
    )
    refused(
        "bad-negative.npy",
        "npy",
        raw("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", b"\0" * 8),
        "a negative axis",
    )


def npz_files():
    arrays = {
        "x": sample("float32"),
        "scalar": np.array(7, np.int64),
        "layers.0.weight": sample("float16"),
        "flags": sample("bool"),
    }
    np.savez(path("stored.npz"), **arrays)
    np.savez_compressed(path("deflated.npz"), **arrays)
    for file in ("stored.npz", "deflated.npz"):
        with np.load(path(file)) as z:
            assert all(same(z[k], v) for k, v in arrays.items())
        readable(file, "npz", "numpy", arrays)
    mx.savez(path("mlx-stored.npz"), **{k: to_mlx(v) for k, v in arrays.items()})
    mx.savez_compressed(path("mlx-deflated.npz"), **{k: to_mlx(v) for k, v in arrays.items()})
    for file in ("mlx-stored.npz", "mlx-deflated.npz"):
        with np.load(path(file)) as z:
            assert all(same(z[k], v) for k, v in arrays.items())
        readable(file, "npz", "mlx", arrays)
    np.savez(path("empty.npz"))
    readable("empty.npz", "npz", "numpy", {})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z, open(path("float32.npy"), "rb") as f:
        # a ZipInfo of our own, whose date stands still
        z.writestr(zipfile.ZipInfo("x.npy"), f.read(), zipfile.ZIP_DEFLATED)
    data = bytearray(out.getvalue())
    refused("bad-cut.npz", "npz", bytes(data[: len(data) - 30]), "the central directory is cut off")
    at = data.index(b"x.npy") + 8
    data[at + 20] ^= 0xFF
    refused("bad-crc.npz", "npz", bytes(data), "damaged data: deflate or the CRC must notice")


def safetensors_files():
    everything = {d: sample(d) for d in DTYPES}
    everything |= {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "größe": np.array([1], np.int32),
    }
    safetensors.numpy.save_file(everything, path("all.safetensors"), {"note": 'a "quoted" text'})
    back = safetensors.numpy.load_file(path("all.safetensors"))
    assert all(same(back[k], v) for k, v in everything.items())
    readable("all.safetensors", "safetensors", "safetensors", everything, {"note": 'a "quoted" text'})

    mine = {d: sample(d) for d in DTYPES if d != "float64"}
    mine |= {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "a.b.0": np.array([1, 2, 3], np.uint8),
    }
    for file, metadata in (("mlx.safetensors", {"format": "mlx"}), ("mlx-null-metadata.safetensors", None)):
        some = mine if metadata else {"a": np.array([1, 2], np.int32)}
        mx.save_safetensors(path(file), {k: to_mlx(v) for k, v in some.items()}, *([metadata] if metadata else []))
        with open(path(file), "rb") as f:
            data = f.read()
        n = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + n])
        assert header.pop("__metadata__") == metadata
        for k, v in some.items():
            begin, end = header[k]["data_offsets"]
            assert data[8 + n + begin : 8 + n + end] == v.tobytes() and header[k]["shape"] == list(v.shape)
        assert (8 + n) % 4 != 0, "the data should start unaligned"
        note = f"data starts at byte {8 + n}, not aligned" + ("" if metadata else '; "__metadata__": null')
        readable(file, "safetensors", "mlx", some, metadata, note)

    def raw(header, data):
        h = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
        return struct.pack("<Q", len(h)) + h + data

    f8_values = np.array([0, 1, -448, 0.015625], np.float32).astype(f8)
    e8 = np.array([127, 128, 120], np.uint8)
    header = {
        "w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
        "s": {"dtype": "F8_E8M0", "shape": [3], "data_offsets": [4, 7]},
    }
    with open(path("float8.safetensors"), "wb") as f:
        f.write(raw(header, f8_values.tobytes() + e8.tobytes()))
    readable(
        "float8.safetensors",
        "safetensors",
        "by hand",
        {"w": f8_values.view(np.uint8), "s": e8},
        None,
        "F8_E4M3 and F8_E8M0, shown as their bytes: MLX loads both as uint8",
    )
    with open(path("padded.safetensors"), "wb") as f:
        h = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        f.write(raw(h + b" " * (-len(h) % 8), np.array([1, 2], np.float32).tobytes()))
    readable(
        "padded.safetensors",
        "safetensors",
        "by hand",
        {"a": np.array([1, 2], np.float32)},
        None,
        "spaces after the header",
    )
    with open(path("no-tensors.safetensors"), "wb") as f:
        f.write(raw({}, b""))
    readable("no-tensors.safetensors", "safetensors", "by hand", {})

    one = lambda begin, end, shape=(2,), dtype="F32": {
        "dtype": dtype,
        "shape": list(shape),
        "data_offsets": [begin, end],
    }
    for tag, header, data, why in (
        ("short", {"a": one(0, 8)}, b"\0" * 7, "data ends early"),
        ("size", {"a": one(0, 12)}, b"\0" * 12, "twelve bytes for two floats"),
        ("overlap", {"a": one(0, 8), "b": one(4, 12)}, b"\0" * 12, "tensors overlap"),
        ("hole", {"a": one(0, 8), "b": one(12, 20)}, b"\0" * 20, "bytes that belong to no tensor"),
        ("tail", {"a": one(0, 8)}, b"\0" * 12, "bytes after the last tensor"),
        ("backwards", {"a": one(8, 0)}, b"\0" * 8, "end before begin"),
        ("dtype", {"a": one(0, 8, dtype="F99")}, b"\0" * 8, "unknown dtype"),
        ("overflow", {"a": one(0, 8, shape=(2**32, 2**32))}, b"\0" * 8, "a shape whose product overflows"),
        ("negative", {"a": one(0, 8, shape=(-2,))}, b"\0" * 8, "a negative axis"),
        ("json", b'{"a":', b"", "header is not JSON"),
        ("utf8", b'{"\xff":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', b"\0" * 4, "header is not UTF-8"),
    ):
        data = raw(header, data)
        refused(f"bad-{tag}.safetensors", "safetensors", data, why)
        if tag != "utf8":
            try:
                safetensors.numpy.load(data)
            except Exception:
                continue
            raise SystemExit(f"bad-{tag}.safetensors is readable")
    refused("bad-length.safetensors", "safetensors", struct.pack("<Q", 2**62) + b"{}", "header length beyond the file")
    refused("bad-tiny.safetensors", "safetensors", b"\x02\0\0", "three bytes")


def gguf_files():
    mine = {d: sample(d) for d in ("float32", "float16", "int8", "int16", "int32")}
    mine["last"] = np.array([1, 2, 3], np.int8)
    metadata = {"text": "a\nb", "count": mx.array(5, mx.uint32), "texts": ["a", "", "bc"], "numbers": mx.array([1.5, 2.5])}
    mx.save_gguf(path("mlx.gguf"), {k: to_mlx(v) for k, v in mine.items()}, metadata)
    back, _ = mx.load(path("mlx.gguf"), return_metadata=True)
    assert all(same(back[k], v) for k, v in mine.items())
    readable("mlx.gguf", "gguf", "mlx", mine, note="the last tensor is not padded")

    w = gguf.GGUFWriter(path("gguf.gguf"), "test")
    w.add_custom_alignment(64)
    w.add_float64("f64", 1e300)
    w.add_array("nested", [[1, 2], [3]])
    more = {d: sample(d) for d in ("float64", "int64", "float32")}
    for k, v in more.items():
        w.add_tensor(k, v)
    values = (np.arange(64, dtype=np.float32) - 32).reshape(2, 32)
    w.add_tensor("q8_0", gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    blocks = next(t for t in gguf.GGUFReader(path("gguf.gguf")).tensors if t.name == "q8_0").data
    numbers_ = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    more["q8_0"] = numbers_.astype(np.float16)
    readable("gguf.gguf", "gguf", "gguf", more, note="aligned to 64 bytes; q8_0 are blocks, read as float16")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    npy_files()
    npz_files()
    safetensors_files()
    gguf_files()
    versions = {p: version(p) for p in ("numpy", "mlx", "safetensors", "gguf")}
    write_json("files.json", {"versions": versions}, CASES)
    for name in os.listdir(OUT):
        os.chmod(path(name), 0o644)


if __name__ == "__main__":
    main()
