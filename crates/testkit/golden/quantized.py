"""quantized.safetensors, quantized.json: quantization, bit for bit, and products with it.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python quantized.py

`quantize` and `quantize_floats` below are the algorithms of MLX once more in NumPy, from probing it as
a black box. The script fails unless codes, scales and biases equal MLX's bit for bit: in float32 and,
for affine codes, since nothing accumulates here, for float16 and bfloat16 weights too. Dequantized values are scale * code + bias
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
BITS, GROUPS = (1, 2, 3, 4, 5, 6, 8), (32, 64, 128)
FLOATS = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}
E2M1 = f32([0, 0.5, 1, 1.5, 2, 3, 4, 6])


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
    if bits == 1:
        # of zeros of both signs the first one counts
        bottom = np.take_along_axis(g, g.argmin(-1)[..., None], -1)[..., 0]
        scale, bias = np.maximum(top - bottom, f32(1e-7)), bottom
    codes = np.clip(np.rint((g - bias[..., None]) / scale[..., None]), 0, n)
    codes = codes.astype(np.uint32).reshape(w.shape)
    return pack(codes, bits), scale.astype(w.dtype), bias.astype(w.dtype), codes


def dequantize(codes, scales, biases, group_size):
    g = codes.astype(f32).reshape(*codes.shape[:-1], -1, group_size)
    w = scales.astype(f32)[..., None] * g + biases.astype(f32)[..., None]
    return w.reshape(codes.shape).astype(scales.dtype)


def e4m3(x):
    return np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn)


def quantize_floats(w, mode, global_scale):
    """(packed, scales, dequantized) of float32 weights; a global scale is for nvfp4 alone."""
    group_size, bits = FLOATS[mode]
    g = w.reshape(*w.shape[:-1], -1, group_size)
    top = np.abs(g).max(-1, keepdims=True)
    enc, dec = (f32(1), f32(1)) if global_scale is None else (f32(2688) / global_scale, global_scale / f32(2688))
    if mode == "nvfp4":
        scales = e4m3(top / f32(6) * enc)
        step = scales.astype(f32)
        x = g / np.where(step == 0, f32(np.inf), step) * enc
        step, scales = step * dec, scales.view(np.uint8)
    else:
        ratio = top / f32(6 if bits == 4 else 448)
        m, e = np.frexp(ratio)  # m in [0.5, 1): the ratio is at most 2**e, and at most 2**(e - 1) if m is 0.5
        e = np.where(ratio == 0, 0, np.where(m == 0.5, e - 1, e))
        step, scales = np.ldexp(f32(1), e), (e + 127).astype(np.uint8)
        x = g / step
    if bits == 4:
        codes = (np.abs(x)[..., None] > (E2M1[1:] + E2M1[:-1]) / 2).sum(-1)  # ties go toward zero
        values, codes = np.copysign(E2M1[codes], np.where(codes > 0, x, 1)), np.where((x < 0) & (codes > 0), codes + 8, codes)
    else:
        values, codes = e4m3(x).astype(f32), e4m3(x).view(np.uint8)
    packed = pack(codes.astype(np.uint32).reshape(w.shape), bits)
    return packed, scales[..., 0], (values * step).astype(f32).reshape(w.shape)


def quantize_floats_both(w, mode, global_scale=None):
    ours = quantize_floats(w, mode, global_scale)
    extra = {} if global_scale is None else {"global_scale": mx.array(global_scale)}
    packed, scales = mx.quantize(mx.array(w), mode=mode, **extra)
    dense = mx.dequantize(packed, scales, mode=mode, dtype=mx.float32, **extra)
    for name, a, b in zip(("packed", "scales", "dequantized"), ours, (packed, scales, dense)):
        b = np.array(b)
        assert a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes(), (name, mode, global_scale)
    return ours


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


def float_weights(mode, global_scale):
    """Eight rows of 128 with what small floats find difficult; groups of 32 are two of nvfp4's."""
    r = np.random.default_rng(11)
    w = r.normal(size=(8, 128)).astype(f32)
    w[1] = np.repeat(f32([0.0, -0.0, 6.0, -448.0]), 32)
    # Far beyond its range nvfp4 saturates; MLX gives up on that from about 1e9 on, and stores zeros.
    w[2] *= np.repeat(f32([1e5 if mode == "nvfp4" else 1e30, 1e-30, 1e4, 1e-4]), 32)
    # The largest of a group at, just below and just above what a scale reaches.
    top = f32(448 if mode == "mxfp8" else 6)
    ends = [top, np.nextafter(top, f32(0)), np.nextafter(top, f32(1e9)), top * f32(0.25)]
    w[3] = np.clip(w[3], -0.2, 0.2)
    w[3, ::32] = ends
    w[4] = np.clip(w[4], -1, 1) * f32(2.0**-100)
    w[4, ::32] = f32(ends) * f32(2.0**-100)
    # Ties between codes, from both sides, with a scale of 1.
    if mode == "mxfp8":
        values = np.arange(1, 126, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(f32)
        ties = (values[1:] + values[:-1])[:120] / 2
        w[5] = np.concatenate([[448, -448, 0, 0], ties, [448, 448, 448, 448]])
        w[5, ::32] = 448
    else:
        ties = (E2M1[1:] + E2M1[:-1]) / 2
        ties = np.concatenate([[6], ties, -ties, [0]]).astype(f32)
        w[5] = np.tile(ties, 8)
    w[6] = np.nextafter(w[5], f32(1e9))
    w[7] = np.nextafter(w[5], f32(-1e9))
    # Scales of nvfp4 near their ties, with elements near theirs.
    if global_scale is not None:
        s = np.arange(0x40, 0x48, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(f32)
        w[0] = (w[5].reshape(8, 16) * (s + f32(0.125)).reshape(8, 1) * (global_scale / f32(2688))).reshape(-1)
        w[1] = np.nextafter(w[0], f32(1))
    return w


def floats():
    for mode, (group_size, bits) in FLOATS.items():
        for global_scale in [None] + ([f32(3), f32(0.37), f32(1000)] if mode == "nvfp4" else []):
            id = mode if global_scale is None else f"{mode}.{global_scale}"
            TENSORS[f"w.{id}"] = w = float_weights(mode, global_scale)
            t = dict(zip(("packed", "scales", "dequantized"), quantize_floats_both(w, mode, global_scale)))
            TENSORS.update({f"{id}.{k}": v for k, v in t.items()})
            c = {"id": f"quantize.{id}", "fn": "quantize", "mode": mode, "bits": bits, "group_size": group_size}
            if global_scale is not None:
                TENSORS[f"{id}.global_scale"] = np.array([global_scale])
                t["global_scale"] = None
            CASES.append(c | {"w": f"w.{id}"} | {k: f"{id}.{k}" for k in t})


def products(id, parts, dense, xs, transpose, form):
    TENSORS.update({f"{id}.{k}": v for k, v in parts.items()})
    for x in xs:
        wide = dense.astype(np.float64)
        out = TENSORS[x].astype(np.float64) @ (wide.T if transpose else wide)
        args = [mx.array(t) for t in (TENSORS[x], *parts.values())]
        theirs = np.array(mx.quantized_matmul(*args, transpose=transpose, **form))
        # bounds the rounding of a sum of K products, whatever its order
        scale = np.abs(TENSORS[x]).astype(np.float64) @ np.abs(wide.T if transpose else wide)
        atol = float(f32(2e-6 * scale.max()))
        assert np.allclose(theirs, out, rtol=1e-5, atol=atol), (id, np.abs(theirs - out).max(), atol)
        TENSORS[f"{id}.{x}.out"] = out.astype(f32)
        c = {"id": f"quantized_matmul.{id}.{x}", "fn": "quantized_matmul", "transpose": transpose} | form
        c |= {"x": x} | {k: f"{id}.{k}" for k in parts}
        CASES.append(c | {"out": f"{id}.{x}.out", "rtol": 1e-5, "atol": atol})


def main():
    base = weights()
    for dtype in ("float32", "float16", "bfloat16"):
        w = base.copy()
        if dtype == "float16":
            w[3] = np.clip(w[3], -30000, 30000)  # scales stay finite
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
                *t, dense = quantize_both(w, group, bits)
                t = dict(zip(("packed", "scales", "biases"), t))
                products(id, t, dense, xs if group == 64 else xs[:2], transpose, {"bits": bits, "group_size": group})
        for mode, (group, bits) in FLOATS.items():
            *t, dense = quantize_floats_both(w, mode)
            t, form = dict(zip(("packed", "scales"), t)), {"mode": mode, "bits": bits, "group_size": group}
            products(f"{'nt' if transpose else 'nn'}.{mode}", t, dense, xs, transpose, form)
    floats()

    write_safetensors("quantized.safetensors", TENSORS)
    write_json("quantized.json", {"source": "mlx " + version("mlx"), "tensors": "quantized.safetensors"}, CASES)


if __name__ == "__main__":
    main()
