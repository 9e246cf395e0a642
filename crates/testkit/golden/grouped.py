"""grouped.safetensors, grouped.json: picked, segmented and masked products, Hadamard transforms, e4m3.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python grouped.py

Values are float64 results of NumPy, rounded to float32; MLX, in float32, must agree with them. Codes of
e4m3 are compared bit by bit: all of them, every tie between two with its neighbours, and what lies
beyond. MLX encodes NaN as the largest number; it is left out here, since Lazul keeps it a NaN.
"""

from importlib.metadata import version

import ml_dtypes
import mlx.core as mx
import numpy as np

from golden import write_json, write_safetensors

f32 = np.float32
TENSORS, CASES, NAMES = {}, [], {}
r = np.random.default_rng(21)


def normal(*shape):
    return r.normal(size=shape).astype(f32)


def case(fn, inputs, want, theirs, exact=False, **attrs):
    """A case whose inputs are named arrays; `None` stands for an argument that is left out."""
    id = f"{fn}.{sum(c['fn'] == fn for c in CASES)}"
    theirs = np.array(theirs)
    # bounds what an order of summation may change
    scale = float(np.abs(want).max()) if want.size else 0.0
    atol = 0.0 if exact else float(f32(1e-5 * max(scale, 1e-30)))
    assert theirs.shape == want.shape, (id, theirs.shape, want.shape)
    assert np.allclose(theirs, want, rtol=0, atol=atol), (id, np.abs(theirs - want).max(), atol)
    c = {"id": id, "fn": fn} | attrs
    for name, a in inputs.items():
        if a is not None:
            key = (a.dtype, a.shape, a.tobytes())
            c[name] = NAMES.setdefault(key, f"{id}.{name}")
            TENSORS[c[name]] = a
    TENSORS[f"{id}.out"] = want if exact else want.astype(f32)
    CASES.append(c | {"out": f"{id}.out", "atol": atol})


def wide(a):
    return a.astype(np.float64)


def optional(a):
    return None if a is None else mx.array(a)


def gather(a, b, lhs, rhs):
    """The products that indices pick, in float64."""
    flat = lambda x: wide(x).reshape(-1, *x.shape[-2:])
    own = lambda x: np.arange(int(np.prod(x.shape[:-2]))).reshape(x.shape[:-2])
    return flat(a)[own(a) if lhs is None else lhs] @ flat(b)[own(b) if rhs is None else rhs]


def gathers():
    i = lambda *v: np.array(v, np.uint32)
    for a, b, lhs, rhs in (
        (normal(3, 2, 16), normal(3, 16, 5), None, None),
        (normal(2, 3, 1, 16), normal(3, 16, 5), None, None),
        (normal(6, 1, 16), normal(4, 16, 70), None, i(3, 0, 3, 3, 1, 0)),
        (normal(2, 3, 2, 16), normal(2, 2, 16, 7), i(5, 0, 0), i(3, 2, 2)),
        (normal(4, 1, 1, 32), normal(3, 32, 40), None, i(0, 2, 1, 0, 2, 2, 0, 1).reshape(4, 2)),
    ):
        theirs = mx.gather_mm(mx.array(a), mx.array(b), optional(lhs), optional(rhs))
        case("gather_mm", {"a": a, "b": b, "lhs": lhs, "rhs": rhs}, gather(a, b, lhs, rhs), theirs)

    forms = [("affine", 64, 4), ("affine", 32, 1), ("mxfp4", 32, 4), ("mxfp8", 32, 8), ("nvfp4", 16, 4)]
    for mode, group_size, bits in forms:
        for transpose in (True, False):
            form = {"mode": mode, "group_size": group_size, "bits": bits}
            w = mx.quantize(mx.array(normal(3, 32, 64)), **form)
            dense = np.array(mx.dequantize(*w, **form, dtype=mx.float32))
            x = normal(4, 1, 2, 64 if transpose else 32)
            rhs = i(0, 2, 1, 0, 2, 2, 0, 1).reshape(4, 2)
            theirs = mx.gather_qmm(mx.array(x), *w, rhs_indices=mx.array(rhs), transpose=transpose, **form)
            want = gather(x, np.swapaxes(dense, -1, -2) if transpose else dense, None, rhs)
            parts = dict(zip(("packed", "scales", "biases"), map(np.array, w)))
            case("gather_qmm", {"a": x, "rhs": rhs} | parts, want, theirs, transpose=transpose, **form)


def segments():
    a, b = normal(5, 48), normal(48, 9)
    for pairs in ([[0, 16], [16, 48]], [[[0, 48], [3, 3]], [[7, 8], [0, 1]]]):
        pairs = np.array(pairs, np.uint32)
        want = np.stack([wide(a)[:, s:e] @ wide(b)[s:e] for s, e in pairs.reshape(-1, 2)])
        want = want.reshape(*pairs.shape[:-1], 5, 9)
        theirs = mx.segmented_mm(mx.array(a), mx.array(b), mx.array(pairs))
        case("segmented_mm", {"a": a, "b": b, "segments": pairs}, want, theirs)


def masks():
    a, b = normal(66, 68), normal(68, 36)
    for block in (32, 64):
        blocks = lambda *dims: tuple(-(-d // block) for d in dims)
        draw = lambda *dims: r.random(blocks(*dims)) < 0.6
        spread = lambda m, x: wide(np.repeat(np.repeat(m, block, -1), block, -2)[..., : x.shape[-2], : x.shape[-1]])
        for kind in (bool, f32):
            out, lhs, rhs = (draw(*d) for d in ((66, 36), (66, 68), (68, 36)))
            if kind is f32:
                out, lhs, rhs = (m * normal(*m.shape) for m in (out, lhs, rhs))
            for which in ((out, lhs, rhs), (out, None, None), (None, lhs, rhs)):
                used = [None if m is None else mx.array(m) for m in which]
                theirs = mx.block_masked_mm(mx.array(a), mx.array(b), block, *used)
                scaled = lambda x, m: wide(x) if m is None else wide(x) * spread(m, x)
                want = scaled(scaled(a, which[1]) @ scaled(b, which[2]), which[0])
                inputs = {"a": a, "b": b} | dict(zip(("mask_out", "mask_lhs", "mask_rhs"), which))
                case("block_masked_mm", inputs, want, theirs, block_size=block)


def sums():
    a, b = normal(2, 3, 8), normal(8, 4)
    for c, alpha, beta in ((normal(4), 1.0, 1.0), (normal(2, 3, 4), -0.5, 2.0), (normal(1, 3, 1), 3.0, 0.25)):
        want = alpha * (wide(a) @ wide(b)) + beta * wide(c)
        theirs = mx.addmm(mx.array(c), mx.array(a), mx.array(b), alpha, beta)
        case("addmm", {"a": a, "b": b, "c": c}, want, theirs, alpha=alpha, beta=beta)


def hadamard():
    twos = lambda n: np.ones((1, 1)) if n == 1 else np.block([[twos(n // 2)] * 2, [twos(n // 2), -twos(n // 2)]])
    for m in (1, 12, 20, 28):
        own = np.array(mx.hadamard_transform(mx.eye(m), scale=1.0)).T if m > 1 else np.ones((1, 1))
        assert np.array_equal(own @ own.T, m * np.eye(m))
        for n in (1, 2, 8, 128):
            x = normal(2, 2, m * n) if n < 128 else normal(m * n)
            for scale in (None, 0.5) if n == 8 else (None,):
                h = np.kron(own, twos(n)) * ((m * n) ** -0.5 if scale is None else scale)
                theirs = mx.hadamard_transform(mx.array(x), scale=scale)
                attrs = {} if scale is None else {"scale": scale}
                case("hadamard_transform", {"a": x}, wide(x) @ h.T, theirs, **attrs)


def e4m3():
    codes = np.arange(256, dtype=np.uint8)
    values = codes.view(ml_dtypes.float8_e4m3fn).astype(f32)
    theirs = np.array(mx.from_fp8(mx.array(codes), dtype=mx.float32))
    assert np.array_equal(values, theirs, equal_nan=True)
    good = ~np.isnan(values)
    case("from_fp8", {"a": codes[good]}, values[good], theirs[good], exact=True)
    ends = np.unique(np.abs(values[good]))
    ties = (ends[1:] + ends[:-1]) / 2
    x = np.concatenate([ends, ties, np.nextafter(ties, f32(0)), np.nextafter(ties, f32(1e9))]).astype(f32)
    beyond = f32([448, 463.9, 464, 464.1, 480, 512, 1e4, 3e38, np.inf, 1e-30, 1e-45])
    x = np.concatenate([x, beyond])
    x = np.concatenate([x, -x])
    want = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    case("to_fp8", {"a": x}, want, mx.to_fp8(mx.array(x)), exact=True)


def main():
    gathers()
    segments()
    masks()
    sums()
    hadamard()
    e4m3()
    write_safetensors("grouped.safetensors", TENSORS)
    write_json("grouped.json", {"source": "mlx " + version("mlx"), "tensors": "grouped.safetensors"}, CASES)


if __name__ == "__main__":
    main()
