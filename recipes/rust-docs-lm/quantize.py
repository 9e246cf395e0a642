#!/usr/bin/env python3
"""Affine 4-bit quantization (group 64, MLX layout) of a Llama checkpoint. Needs only NumPy.

    python quantize.py --checkpoint build/run/qat.safetensors --config build/run/config.json \
        --assets ../../assets/rust-docs-lm

Every two-dimensional weight becomes `X.weight` (U32 codes), `X.scales` and
`X.biases` (BF16); norms are stored as BF16.
"""

import argparse
import json
from pathlib import Path

import numpy as np

GROUP, BITS = 64, 4
QUANT = {"group_size": GROUP, "bits": BITS, "mode": "affine"}


def bf16_bits(x):
    """float32 -> bfloat16 bit patterns, round to nearest even."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_floats(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_safetensors(path):
    """name -> array; BF16 comes back as float32. Also the header's metadata."""
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    meta = header.pop("__metadata__", {})
    types = {"F32": np.float32, "U32": np.uint32, "BF16": np.uint16, "F16": np.float16}
    out = {}
    for name, info in header.items():
        begin, end = (8 + size + o for o in info["data_offsets"])
        value = np.frombuffer(raw[begin:end], dtype=types[info["dtype"]]).reshape(info["shape"])
        out[name] = bf16_floats(value) if info["dtype"] == "BF16" else value
    return out, meta


def write_safetensors(path, tensors, meta):
    """tensors: name -> (dtype, array). Data is laid out in name order, 8-byte aligned header."""
    header, offset = {"__metadata__": meta}, 0
    for name in sorted(tensors):
        dtype, value = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(value.shape),
                        "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    blob = json.dumps(header, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)
    with open(path, "wb") as f:
        f.write(len(blob).to_bytes(8, "little") + blob)
        for name in sorted(tensors):
            f.write(np.ascontiguousarray(tensors[name][1]).tobytes())


def quantize(w):
    """float32 [out, in] -> codes uint32 [out, in/8], scales and biases float32 [out, in/64].

    All arithmetic is float32; the codes belong to the scales before they are rounded to bfloat16.
    """
    rows, cols = w.shape
    assert cols % GROUP == 0
    f32, n = np.float32, np.float32(2**BITS - 1)
    g = np.ascontiguousarray(w, dtype=f32).reshape(rows, cols // GROUP, GROUP)
    mx, mn = g.max(-1), g.min(-1)
    neg = np.abs(mn) > np.abs(mx)
    s = np.maximum((mx - mn) / n, f32(1e-7))
    s = np.where(neg, s, -s)
    edge = np.where(neg, mn, mx)
    q0 = np.rint(edge / s)
    zero = q0 == 0
    s = np.where(zero, s, edge / np.where(zero, f32(1), q0))
    b = np.where(zero, f32(0), edge)
    q = np.clip(np.rint((g - b[..., None]) / s[..., None]), 0, n).astype(np.uint32)
    assert s.dtype == f32 and b.dtype == f32
    q = q.reshape(rows, cols // 8, 8)
    words = np.bitwise_or.reduce(q << (BITS * np.arange(8, dtype=np.uint32)), axis=-1)
    return words.astype(np.uint32), s, b


def dequantize(words, scales, biases):
    rows = words.shape[0]
    q = (words[..., None] >> (BITS * np.arange(8, dtype=np.uint32))) & 15
    q = q.reshape(rows, -1, GROUP).astype(np.float32)
    w = scales[..., None] * q + biases[..., None]
    return bf16_floats(bf16_bits(w)).reshape(rows, -1)


def quantize_checkpoint(weights):
    """name -> float32 array, to name -> (dtype, array) ready to be written."""
    out = {}
    for name, w in weights.items():
        if w.ndim == 2:
            stem = name.removesuffix(".weight")
            words, s, b = quantize(w)
            out[f"{stem}.weight"] = ("U32", words)
            out[f"{stem}.scales"] = ("BF16", bf16_bits(s))
            out[f"{stem}.biases"] = ("BF16", bf16_bits(b))
        else:
            out[name] = ("BF16", bf16_bits(w))
    return out


def load_dequantized(path):
    """Any checkpoint of this recipe as float32 weights."""
    raw, _ = read_safetensors(path)
    out = {}
    for name, value in raw.items():
        if name.endswith(".weight") and value.dtype == np.uint32:
            stem = name.removesuffix(".weight")
            out[name] = dequantize(value, raw[f"{stem}.scales"], raw[f"{stem}.biases"])
        elif not name.endswith((".scales", ".biases")):
            out[name] = value.astype(np.float32)
    return out


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--checkpoint", type=Path, required=True)
    args.add_argument("--config", type=Path, required=True)
    args.add_argument("--assets", type=Path, required=True)
    args = args.parse_args()
    weights, _ = read_safetensors(args.checkpoint)
    args.assets.mkdir(parents=True, exist_ok=True)
    write_safetensors(args.assets / "model.safetensors", quantize_checkpoint(weights), {"format": "mlx"})
    config = json.loads(args.config.read_text())
    config["quantization"] = config["quantization_config"] = QUANT
    (args.assets / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (args.assets / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": 0, "do_sample": False}, indent=2) + "\n")
    size = (args.assets / "model.safetensors").stat().st_size
    print(f"{sum(w.size for w in weights.values())} parameters, {size} bytes")


if __name__ == "__main__":
    main()
