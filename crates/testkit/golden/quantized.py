"""quantized.safetensors, quantized.json: affine quantization, bit for bit, and products with it.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python quantized.py

`quantize` below is the algorithm of MLX once more in NumPy, from probing it as a black box. The
script fails unless codes, scales and biases equal MLX's bit for bit: in float32 and, since nothing
accumulates here, for float16 and bfloat16 weights too. Dequantized values are scale * code + bias
in float32; the half dtypes round that once, whereas MLX rounds the product and the sum. Products
are summed in float64 over those values and rounded to float32 at the end.
"""

from importlib.metadata import version

import ml_dtypes
import mlx.core as mx
import numpy as np

from golden import np_dtype, write_json, write_safetensors

f32 = np.float32
TENSORS, CASES = {}, []
BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)


def pack(codes, bits):
    """Codes of a row as one little-endian stream of bits, cut into u32 words."""
    n = codes.shape[-1]
    stream = ((codes[..., None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(*codes.shape[:-1], n * bits)
    return np.packbits(stream, axis=-1, bitorder="little").view("<u4")


def quantize(w, group_size, bits):
    """(packed, scales, biases, codes); everything in f32, scale and bias rounded to w's dtype last."""
    g = w.astype(f32).reshape(*w.shape[:-1], -1, group_size)
    top, bottom, n = g.max(-1), g.min(-1), f32(2**bits - 1)
    falls = np.abs(bottom) > np.abs(top)
    scale = np.maximum((top - bottom) / n, f32(1e-7))
    scale = np.where(falls, scale, -scale)
    edge = np.where(falls, bottom, top)  # the end of larger magnitude is met exactly, and so is zero
    q0 = np.rint(edge / scale)
    bias = np.where(q0 != 0, edge, f32(0))
    scale = np.where(q0 != 0, edge / np.where(q0 != 0, q0, f32(1)), scale).astype(f32)
    codes = np.clip(np.rint((g - bias[..., None]) / scale[..., None]), 0, n)
    codes = codes.astype(np.uint32).reshape(w.shape)
    return pack(codes, bits), scale.astype(w.dtype), bias.astype(w.dtype), codes


def dequantize(codes, scales, biases, group_size):
    g = codes.astype(f32).reshape(*codes.shape[:-1], -1, group_size)
    w = scales.astype(f32)[..., None] * g + biases.astype(f32)[..., None]
    return w.reshape(codes.shape).astype(scales.dtype)


def to_mlx(a):
    if a.dtype == ml_dtypes.bfloat16:
        return mx.array(a.astype(f32)).astype(mx.bfloat16)
    return mx.array(a)


def to_numpy(a):
    return np.array(a.astype(mx.float32)).astype(ml_dtypes.bfloat16) if a.dtype == mx.bfloat16 else np.array(a)


def quantize_both(w, group_size, bits):
    packed, scales, biases, codes = quantize(w, group_size, bits)
    for name, ours, theirs in zip(("packed", "scales", "biases"), (packed, scales, biases), mx.quantize(to_mlx(w), group_size, bits)):
        theirs = to_numpy(theirs)
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes(), (
            name,
            w.dtype,
            bits,
            group_size,
        )
    dense = dequantize(codes, scales, biases, group_size)
    if w.dtype == f32:
        theirs = np.array(mx.dequantize(*(mx.array(t) for t in (packed, scales, biases)), group_size, bits))
        assert np.array_equal(dense, theirs), (bits, group_size)
    return packed, scales, biases, dense


def weights():
    """Eight rows of 128, each a kind of trouble."""
    r = np.random.default_rng(7)
    w = r.normal(size=(8, 128)).astype(f32)
    w[1] = np.repeat(f32([0.75, -2.5, 1.0, 1e-9]), 32)  # constant groups
    w[2] = np.repeat(f32([0.0, -0.0, 0.0, 1e-8]), 32)  # zeros, and almost
    w[3] *= np.repeat(f32([1e30, 1e-30, 1e4, 1e-4]), 32)  # big and small ranges
    w[4] = np.abs(w[4]) + 1  # all positive, away from zero
    w[5] = -np.abs(w[5])  # all negative
    w[6, ::17] *= 50  # outliers
    w[7] = (np.arange(128) % 31 - 15) * f32(0.25)  # a grid, full of ties
    return w


def main():
    base = weights()
    for dtype in ("float32", "float16", "bfloat16"):
        w = base.copy()
        if dtype == "float16":
            w[3] = np.clip(w[3], -60000, 60000)  # stay finite
        w = w.astype(np_dtype(dtype))
        TENSORS[f"w.{dtype}"] = w
        for bits in BITS:
            for group in GROUPS if dtype == "float32" else (64,):
                id = f"{dtype}.b{bits}.g{group}"
                t = dict(zip(("packed", "scales", "biases", "dequantized"), quantize_both(w, group, bits)))
                TENSORS.update({f"{id}.{k}": v for k, v in t.items()})
                c = {"id": f"quantize.{id}", "fn": "quantize", "dtype": dtype, "bits": bits, "group_size": group}
                CASES.append(c | {"w": f"w.{dtype}"} | {k: f"{id}.{k}" for k in t})

    r = np.random.default_rng(8)
    TENSORS["w3"] = w = r.normal(size=(2, 3, 64)).astype(f32)
    t = dict(zip(("packed", "scales", "biases", "dequantized"), quantize_both(w, 32, 4)))
    TENSORS.update({f"w3.{k}": v for k, v in t.items()})
    c = {"id": "quantize.w3", "fn": "quantize", "dtype": "float32", "bits": 4, "group_size": 32, "w": "w3"}
    CASES.append(c | {k: f"w3.{k}" for k in t})

    # x @ W^T with W [24, 256] grouped along K, and x @ W with W [48, 128] grouped along N
    TENSORS["x1"] = r.normal(size=(1, 256)).astype(f32)
    TENSORS["x5"] = r.normal(size=(5, 256)).astype(f32)
    TENSORS["x223"] = r.normal(size=(2, 2, 3, 256)).astype(f32)
    TENSORS["y1"] = r.normal(size=(1, 48)).astype(f32)
    TENSORS["y5"] = r.normal(size=(5, 48)).astype(f32)
    wt, wn = r.normal(size=(24, 256)).astype(f32), r.normal(size=(48, 128)).astype(f32)
    for transpose, w, xs in ((True, wt, ("x1", "x5", "x223")), (False, wn, ("y1", "y5"))):
        for bits in BITS:
            for group in GROUPS:
                if group == 128 and bits not in (2, 4, 8):
                    continue
                id = f"{'nt' if transpose else 'nn'}.b{bits}.g{group}"
                packed, scales, biases, dense = quantize_both(w, group, bits)
                TENSORS.update({f"{id}.packed": packed, f"{id}.scales": scales, f"{id}.biases": biases})
                for x in xs if group == 64 else xs[:2]:
                    wide = dense.astype(np.float64)
                    out = TENSORS[x].astype(np.float64) @ (wide.T if transpose else wide)
                    args = [mx.array(t) for t in (TENSORS[x], packed, scales, biases)]
                    theirs = np.array(mx.quantized_matmul(*args, transpose=transpose, group_size=group, bits=bits))
                    # bounds the rounding of a sum of K products, whatever its order
                    scale = np.abs(TENSORS[x]).astype(np.float64) @ np.abs(wide.T if transpose else wide)
                    atol = float(f32(2e-6 * scale.max()))
                    assert np.allclose(theirs, out, rtol=1e-5, atol=atol), (id, np.abs(theirs - out).max(), atol)
                    TENSORS[f"{id}.{x}.out"] = out.astype(f32)
                    c = {"id": f"quantized_matmul.{id}.{x}", "fn": "quantized_matmul", "transpose": transpose}
                    c |= {"bits": bits, "group_size": group, "x": x, "packed": f"{id}.packed", "scales": f"{id}.scales"}
                    CASES.append(c | {"biases": f"{id}.biases", "out": f"{id}.{x}.out", "rtol": 1e-5, "atol": atol})

    write_safetensors("quantized.safetensors", TENSORS)
    write_json("quantized.json", {"source": "mlx " + version("mlx"), "tensors": "quantized.safetensors"}, CASES)


if __name__ == "__main__":
    main()
