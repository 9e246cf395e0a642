"""ops.safetensors, ops.json: operations on small inputs. dtypes.json: which dtype comes out.

    pip install "mlx[cpu]" numpy scipy ml_dtypes safetensors torch
    python ops.py

Every case is computed twice: by MLX, and independently in float64 by NumPy, SciPy, PyTorch or a few
lines below. The script stops when the two differ beyond the tolerance of the case, so a wrong
reference does not slip in. `source` names where the written values come from:

* "numpy" / "torch": the independent result, rounded once to the dtype of the output. All half
  precision is of this kind (MLX on Linux accumulates half sums in half, which is wrong).
* "mlx": MLX itself, for rules of its own where the others answer differently or not at all; `note`
  says what. Such a case is a choice of MLX, not a truth of arithmetic.

Values are compared with NaN equal to NaN; `exact` adds that zeros agree in sign.
"""

import itertools
import math
from importlib.metadata import version

import ml_dtypes
import mlx.core as mx
import numpy as np
import scipy.special
import torch

from golden import DTYPES, np_dtype, number, write_json, write_safetensors

np.seterr(all="ignore")
torch.set_num_threads(1)
rng = np.random.default_rng(2024)
f16, bf16, f32, f64 = np.float16, ml_dtypes.bfloat16, np.float32, np.float64
NAN, INF = math.nan, math.inf

TENSORS, NAMES, CASES, IDS, FAILURES = {}, {}, [], set(), []

# ------------------------------------------------------------------------------------------------
# The machinery


def mlx_dtype(name):
    return getattr(mx, "bool_" if name == "bool" else name)


def to_mlx(a):
    if not isinstance(a, np.ndarray):
        return a
    if a.dtype == bf16:
        return mx.array(a.astype(f32)).astype(mx.bfloat16)
    if a.dtype == f64:
        return mx.array(a, mx.float64)  # a plain mx.array(float64) would narrow
    return mx.array(a)


def to_numpy(a):
    if not isinstance(a, mx.array):
        return np.asarray(a)
    return np.array(a.astype(mx.float32)).astype(bf16) if a.dtype == mx.bfloat16 else np.array(a)


def store(label, a):
    """The tensor's name; equal content is kept once."""
    content = (str(a.dtype), a.shape, a.tobytes())
    if content not in NAMES:
        name, n = label, 2
        while name in TENSORS:
            name, n = f"{label}#{n}", n + 1
        TENSORS[name], NAMES[content] = a, name
    return NAMES[content]


def plain(x):
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return number(x) if isinstance(x, (float, np.generic)) else x


def close(a, b, rtol, atol):
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == bool or np.issubdtype(a.dtype, np.integer):
        return np.array_equal(a, b)
    wide = np.complex128 if a.dtype == np.complex64 else f64
    return np.allclose(a.astype(wide), b.astype(wide), rtol=rtol, atol=atol, equal_nan=True)


# One rounding of the dtype on either side, and a little for the function itself.
TOLERANCE = {"float32": (1e-6, 1e-7), "float64": (1e-14, 1e-15), "float16": (1e-3, 1e-6), "bfloat16": (8e-3, 1e-6), "complex64": (2e-6, 1e-6)}  # fmt: skip


def describe(ours, theirs, rtol, atol):
    """The first few elements that differ."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype}{list(ours.shape)}, MLX has {theirs.dtype}{list(theirs.shape)}"
    kind = np.complex128 if ours.dtype == np.complex64 else f64
    bad = ~np.isclose(ours.astype(kind), theirs.astype(kind), rtol, atol, equal_nan=True)
    at = np.argwhere(bad)[:4].tolist()
    return f"{bad.sum()} of {bad.size} differ, at {at}: {ours[bad][:4]}, MLX has {theirs[bad][:4]}"


def case(
    op,
    tag,
    inputs,
    attrs=None,
    ref=None,
    f=None,
    rtol=None,
    atol=None,
    exact=False,
    source="numpy",
    compare=None,
    note=None,
    mlx_runs=True,
    mlx_off=None,
    dtype=None,
):
    """Writes a case. `ref` holds the independent results (float64 or exact), `f` what MLX is to do.

    Without `ref` the values are MLX's. Without `f` the op is called as mx.<op>(*inputs, **attrs).
    `mlx_runs=False` leaves MLX out (it would fail, or be wrong by much) and takes `dtype` instead.
    `mlx_off` says in words how MLX's own answer is known to miss the tolerance (it must).
    """
    attrs = attrs or {}
    id = f"{op}.{tag}"
    assert id not in IDS, id
    IDS.add(id)
    inputs = [np.asarray(a) for a in inputs]
    theirs = None
    if mlx_runs:
        call = f or (lambda *a: getattr(mx, op)(*a, **attrs))
        with mx.stream(mx.cpu):
            theirs = call(*(to_mlx(a) for a in inputs))
        theirs = [to_numpy(t) for t in (theirs if isinstance(theirs, (list, tuple)) else [theirs])]
    if ref is None:
        out, source = theirs, "mlx"
    else:
        ref = [np.asarray(r) for r in (ref if isinstance(ref, (list, tuple)) else [ref])]
        out = [r.astype(t.dtype) for r, t in zip(ref, theirs)] if mlx_runs else [r.astype(dtype or r.dtype) for r in ref]
    kind = str(out[0].dtype)
    if exact:
        rtol = atol = 0.0
    else:
        d = TOLERANCE.get(kind, (0.0, 0.0))
        rtol, atol = d[0] if rtol is None else rtol, d[1] if atol is None else atol
    half = {str(np.asarray(a).dtype) for a in inputs + out} & {"float16", "bfloat16"}
    assert ref is not None or not half or exact, f"{id}: MLX is no reference for half precision"
    if mlx_runs and ref is not None:
        # MLX's own half results may be off by a rounding more
        slack = 2.0 if half else 1.0
        for o, t in zip(out, theirs):
            agrees = close(o, t, slack * rtol, slack * atol)
            if mlx_off and agrees:
                raise SystemExit(f"{id}: MLX is right after all")
            if not agrees and not mlx_off:
                FAILURES.append(id)
                print(f"{id}: {describe(o, t, slack * rtol, slack * atol)}")
    names = [store(f"{id}.in{i}", a) for i, a in enumerate(inputs)]
    c = {"id": id, "op": op, "inputs": names, "attrs": plain(attrs)}
    c["outputs"] = [store(f"{id}.out{i}", o) for i, o in enumerate(out)]
    c |= {"rtol": number(rtol), "atol": number(atol), "source": source}
    if exact:
        c["exact"] = True
    if compare:
        c["compare"] = compare
    if mlx_off:
        note = f"MLX is off: {mlx_off}" + (f"; {note}" if note else "")
    if note:
        c["note"] = note
    CASES.append(c)


def normals(*shape, dtype=f32):
    return rng.normal(size=shape).astype(dtype)


def wide(a):
    """Into float64 (or complex128), where references are computed."""
    return a.astype(np.complex128 if a.dtype == np.complex64 else f64)


# ------------------------------------------------------------------------------------------------
# Element-wise, one input

ANY = np.concatenate([normals(20), normals(12) * 5, f32([0.5, -0.5, 1, -1, 2, -2, 1.5, -1.5, 2.5, -2.5, 3.14159274, 1e-3])])
UNIT = np.concatenate([rng.uniform(-1, 1, 28).astype(f32), f32([0.99999994, -0.99999994, 0.999, -0.999, 1e-3, -1e-3, 0.5, -0.5])])
POSITIVE = np.concatenate(
    [rng.uniform(0, 4, 20).astype(f32), np.exp(normals(12) * 8), f32([1, 2, 0.5, 1e-3, 0.99999994, 1.0000001])]
).astype(f32)
SPECIAL = f32([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1.17549435e-38, -1.17549435e-38, 3.4028235e38, -3.4028235e38, 88.0, -88.0, 104.0, -104.0, 1e10, -1e10, 8388609.0, 2147483648.0])  # fmt: skip
DENORMAL = f32([1e-45, -1e-45, 1e-40, -1e-40, 1.1754942e-38])
COMPLEX = (normals(16) + 1j * normals(16)).astype(np.complex64)

S = scipy.special
FLOAT_UNARY = {
    # name: (domain, reference in float64, complex too?)
    "sqrt": (POSITIVE, np.sqrt, True),
    "rsqrt": (POSITIVE, lambda x: 1 / np.sqrt(x), True),
    "reciprocal": (ANY, lambda x: 1 / x, True),
    "exp": (ANY, np.exp, True),
    "expm1": (ANY, np.expm1, False),
    "log": (POSITIVE, np.log, True),
    "log2": (POSITIVE, np.log2, True),
    "log10": (POSITIVE, np.log10, True),
    "log1p": (POSITIVE, np.log1p, False),
    "sin": (ANY, np.sin, True),
    "cos": (ANY, np.cos, True),
    "tan": (ANY, np.tan, True),
    "arcsin": (UNIT, np.arcsin, True),
    "arccos": (UNIT, np.arccos, True),
    "arctan": (ANY, np.arctan, True),
    "sinh": (ANY, np.sinh, True),
    "cosh": (ANY, np.cosh, True),
    "tanh": (ANY, np.tanh, True),
    "arcsinh": (ANY, np.arcsinh, True),
    "arccosh": (POSITIVE + f32(1), np.arccosh, True),
    "arctanh": (UNIT, np.arctanh, True),
    "erf": (ANY, S.erf, False),
    "erfinv": (UNIT, S.erfinv, False),
    "sigmoid": (ANY, S.expit, False),
    "degrees": (ANY, np.degrees, False),
    "radians": (ANY, np.radians, False),
}
EXACT_UNARY = {"abs": np.abs, "negative": np.negative, "square": np.square, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint}  # fmt: skip


SINGLE = "float64 goes through a single-precision function"


def unary():
    for op, (x, ref, complex_too) in FLOAT_UNARY.items():
        # MLX's f32 polynomial for erfinv and its reciprocal square root are 2 to 3 ulp
        rtol = 3e-6 if op in ("erfinv",) else None
        case(op, "f32", [x], ref=ref(wide(x)), rtol=rtol)
        near = {"erfinv": np.clip(x, -0.9, 0.9)}.get(op, x)
        case(op, "f16", [np.clip(near, -200, 200).astype(f16)], ref=ref(wide(np.clip(near, -200, 200).astype(f16))))
        case(op, "bf16", [near.astype(bf16)], ref=ref(wide(near.astype(bf16))))
        if op not in ("erf", "erfinv"):
            y = wide(x) + rng.uniform(0, 1e-9, x.shape) * (op not in ("arcsin", "arccos", "arctanh"))
            case(op, "f64", [y], ref=ref(y), rtol=1e-13, mlx_off=SINGLE if op in ("exp", "sin", "cos", "sigmoid") else None)
        special = SPECIAL
        huge = np.abs(SPECIAL) > 1e9
        if op in ("sin", "cos", "tan"):
            case(op, "f32.huge", [SPECIAL[huge]], ref=ref(wide(SPECIAL[huge])))
            special = SPECIAL[~huge]
        smallest = f32(1.2e-38)  # a result below the smallest normal number may become zero
        off = {"exp": "88 is 2e-6 out", "erf": "the smallest numbers become zero"}.get(op)
        case(op, "f32.special", [special], ref=ref(wide(special)), atol=smallest, rtol=rtol or 1e-6, mlx_off=off)
        case(
            op, "f32.denormal", [DENORMAL], ref=ref(wide(DENORMAL)), atol=smallest, rtol=rtol or 1e-6, mlx_off=off if op == "erf" else None
        )
        if op not in ("degrees", "radians"):
            i = (
                np.arange(0, 7, dtype=np.int32)
                if op in ("sqrt", "rsqrt", "log", "log2", "log10", "log1p", "arccosh")
                else np.arange(-3, 4, dtype=np.int32)
            )
            case(op, "i32", [i], ref=ref(wide(i)), rtol=rtol)
            case(op, "bool", [np.array([False, True])], ref=ref(f64([0, 1])))
        if complex_too:
            case(op, "c64", [COMPLEX], ref=ref(wide(COMPLEX)), rtol=1e-5, atol=2e-6)

    for op, ref in EXACT_UNARY.items():
        for tag, x in (("f32", ANY), ("f32.special", SPECIAL), ("f32.denormal", DENORMAL), ("f16", ANY.astype(f16)), ("bf16", ANY.astype(bf16)), ("f64", wide(ANY) * 1.1)):  # fmt: skip
            y = ref(wide(x)) if op == "square" and x.dtype != f64 else ref(x)
            case(op, tag, [x], ref=y, exact=True)
        for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint64"):
            info = np.iinfo(dtype)
            x = np.array([0, 1, 2, 3, 100, info.max, info.min] + ([-1, -2, -100] if info.min else []), dtype)
            case(op, dtype, [x], ref=x if op in ("floor", "ceil", "trunc", "round") else ref(x), exact=True)
    half = f32([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, -0.2, 4503599627370497.5, 8388607.5, 1e20])
    for op in ("floor", "ceil", "trunc", "round"):
        case(op, "ties", [half], ref=EXACT_UNARY[op](half), exact=True)
        case(op, "bool", [np.array([False, True])], exact=True)
    case("abs", "c64", [COMPLEX], ref=np.abs(wide(COMPLEX)))
    case("abs", "bool", [np.array([False, True])], exact=True)
    for op, ref in (("square", np.square), ("negative", np.negative), ("conj", np.conj), ("real", np.real), ("imag", np.imag)):  # fmt: skip
        case(op, "c64", [COMPLEX], ref=ref(wide(COMPLEX)))
    case("square", "bool", [np.array([False, True])], exact=True)
    for x in (f32([1.234, 5.678, -2.345, 0.05, 1250, 99.995]),):
        for d in (-2, -1, 1, 2):
            y = np.rint(x * f32(10.0**d)) / f32(10.0**d) if d > 0 else np.rint(x / f32(10.0**-d)) * f32(10.0**-d)
            case("round", f"decimals{d}", [x], {"decimals": d}, ref=y)
    case("round", "int.decimals-1", [np.int32([15, 25, -15, 4, 96])], {"decimals": -1}, exact=True)

    sign = f32([3.5, -2.0, 0.0, INF, -INF, 1e-45, -1e-45])
    case("sign", "f32", [sign], ref=np.sign(sign))
    case("sign", "f32.nan", [f32([NAN])], note="NumPy and IEEE practice: NaN")
    case("sign", "i32", [np.int32([5, 0, -7, -(2**31)])], ref=np.int32([1, 0, -1, -1]))
    case("sign", "u8", [np.uint8([5, 0, 255])], ref=np.uint8([1, 0, 1]))
    case("sign", "bool", [np.array([True, False])])
    case("sign", "c64", [COMPLEX], ref=wide(COMPLEX) / np.abs(wide(COMPLEX)))
    for op, ref in (("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite), ("isposinf", np.isposinf), ("isneginf", np.isneginf)):  # fmt: skip
        for tag, t in (("f32", f32), ("f16", f16), ("bf16", bf16), ("f64", f64)):
            x = SPECIAL[:9].astype(t)
            case(op, tag, [x], ref=ref(x.astype(f32)))
        case(op, "i32", [np.int32([0, 1])], ref=np.int32([0, 1]) == 7 if op != "isfinite" else np.array([True, True]))
    for op in ("isnan", "isinf", "isfinite"):
        x = np.array([complex(NAN, 0), complex(0, INF), complex(1, 2), complex(INF, NAN)], np.complex64)
        case(op, "c64", [x], ref=getattr(np, op)(x))
    for dtype in ("float32", "int32", "uint8", "bool"):
        x = np.array([0, 1, 2, 0], dtype)
        case("logical_not", dtype, [x], ref=np.logical_not(x))
    case("logical_not", "f32.special", [SPECIAL[:6]], ref=np.logical_not(SPECIAL[:6]))
    for dtype in ("int8", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        info = np.iinfo(dtype)
        x = np.array([0, 1, 5, info.max, info.min], dtype)
        case("bitwise_invert", dtype, [x], ref=np.invert(x))
    case("bitwise_invert", "bool", [np.array([True, False])], ref=np.array([False, True]))

    # Fill-ins and conversions
    x = SPECIAL[:6]
    case("nan_to_num", "f32", [x], ref=np.nan_to_num(x))
    case("nan_to_num", "values", [x], {"nan": 1.5, "posinf": 2.5, "neginf": -3.5}, ref=np.nan_to_num(x, nan=1.5, posinf=2.5, neginf=-3.5))
    case("nan_to_num", "nan_only", [x], {"nan": 9.0}, ref=np.nan_to_num(x, nan=9.0))
    case("nan_to_num", "f16", [x.astype(f16)], ref=np.nan_to_num(x.astype(f16)), exact=True)
    case("nan_to_num", "i32", [np.int32([1, 2])], ref=np.int32([1, 2]))
    casts = f32([0.0, 1.0, -1.0, 1.5, 2.5, -1.5, 100.7, 0.1, 65504, 65519.996, 65520, 3.4e38, 1e-8, 6e-8, 1.00390625, 1.01171875])
    for t in (f16, bf16, f64):
        case(
            "astype",
            f"f32.{np.dtype(t)}",
            [casts],
            {"dtype": str(np.dtype(t))},
            ref=casts.astype(t),
            f=lambda a: a.astype(mlx_dtype(str(np.dtype(t)))),
            exact=True,
        )
    inside = f32([0.0, 1.0, -1.0, 1.5, 2.5, -1.5, 100.7, -100.7])
    for t in ("int8", "int16", "int32", "int64", "bool", "complex64"):
        case("astype", f"f32.{t}", [inside], {"dtype": t}, ref=inside.astype(t), f=lambda a: a.astype(mlx_dtype(t)), exact=True)
    ints = np.int32([0, 1, -1, 127, 128, 255, 256, -129, 65536, 2**31 - 1, -(2**31), 16777217])
    for t in DTYPES:
        if t not in ("int32", "complex64", "float16", "bfloat16"):
            case("astype", f"i32.{t}", [ints], {"dtype": t}, ref=ints.astype(t), f=lambda a: a.astype(mlx_dtype(t)), exact=True)
    flags = np.array([True, False])
    for t in DTYPES:
        case("astype", f"bool.{t}", [flags], {"dtype": t}, ref=flags.astype(np_dtype(t)), f=lambda a: a.astype(mlx_dtype(t)), exact=True)
    big = np.uint64([0, 1, 2**63, 2**64 - 1, 2**24 + 1, 2**53 + 1])
    for t in ("float32", "float64", "int64", "uint32", "uint8"):
        case("astype", f"u64.{t}", [big], {"dtype": t}, ref=big.astype(t), f=lambda a: a.astype(mlx_dtype(t)), exact=True)
    x = f32([[1.0, -2.5], [3e-39, INF]])
    for t in ("uint32", "uint16", "uint8", "int32", "complex64"):
        case("view", f"f32.{t}", [x], {"dtype": t}, ref=x.view(t), f=lambda a: a.view(mlx_dtype(t)), exact=True)
    x = np.arange(16, dtype=np.uint8).reshape(2, 8)
    case("view", "u8.u32", [x], {"dtype": "uint32"}, ref=x.view(np.uint32), f=lambda a: a.view(mx.uint32), exact=True)
    fp8 = f32([0, 1, 1.1, -3, 500, -500, 448, 464, 0.001, 0.00195, 0.0009765625, 0.000976, 17, 18, 19, 1e-9, 240, 0.0146484375])
    case("to_fp8", "f32", [fp8], ref=np.clip(fp8, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    codes = np.array([c for c in range(256) if c & 127 != 127], np.uint8)
    case(
        "from_fp8",
        "f32",
        [codes],
        {"dtype": "float32"},
        ref=codes.view(ml_dtypes.float8_e4m3fn).astype(f32),
        f=lambda a: mx.from_fp8(a, mx.float32),
    )


# ------------------------------------------------------------------------------------------------
# Element-wise, two inputs


def int_floor_divide(a, b):
    return np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b))).astype(a.dtype)


def int_remainder(a, b):
    return np.where(b == 0, a, np.remainder(a, np.where(b == 0, 1, b))).astype(a.dtype)


def int_power(a, b):
    if a.dtype == bool:
        return a | ~b
    return np.where(b < 0, 0, np.power(a, np.where(b < 0, 0, b))).astype(a.dtype)


def binary():
    a, b = normals(3, 1, 5) * 3, normals(4, 5) * 3
    p, q = rng.uniform(0.1, 3, (3, 1, 5)).astype(f32), normals(4, 5) * 2
    floats = {
        "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "maximum": np.maximum,
        "minimum": np.minimum, "arctan2": np.arctan2, "logaddexp": np.logaddexp, "power": np.power,
        "floor_divide": lambda x, y: np.floor(x / y), "remainder": np.remainder,
    }  # fmt: skip
    s = f32([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 3.0, 1e30, -1e-30])
    for op, ref in floats.items():
        x, y = (p, q) if op == "power" else (a, b)
        loose = 3e-6 if op in ("power", "remainder", "logaddexp") else None
        case(op, "f32.broadcast", [x, y], ref=ref(wide(x), wide(y)), rtol=loose, atol=2e-6 if op == "remainder" else None)
        case(op, "f32.scalar", [x, f32(1.75)], ref=ref(wide(x), 1.75), rtol=loose, atol=2e-6 if op == "remainder" else None)
        case(op, "f64", [wide(x), wide(y)], ref=ref(wide(x), wide(y)), rtol=1e-12, mlx_off=SINGLE if op == "logaddexp" else None)
        if op not in ("floor_divide", "remainder"):
            for tag, t in (("f16", f16), ("bf16", bf16)):
                case(
                    op,
                    tag,
                    [x.astype(t), y.astype(t)],
                    ref=ref(wide(x.astype(t)), wide(y.astype(t))),
                    rtol=3 * TOLERANCE[str(np.dtype(t))][0] if op in ("power", "logaddexp") else None,
                    mlx_off="exp and log1p each round to half" if op == "logaddexp" else None,
                )
        left, right = s[:, None], s[None, :]
        if op == "floor_divide":
            case(
                op,
                "f32.special",
                [left, right],
                ref=np.floor(left / right),
                note="floor(a / b); NumPy's answer has NaN where a is infinite",
            )
        elif op == "remainder":
            case(op, "f32.special", [left, right], ref=np.remainder(left, right), note="fmod, plus b where the signs differ")
        else:
            case(op, "f32.special", [left, right], ref=ref(wide(left), wide(right)), rtol=3e-6, atol=f32(1.2e-38))
    x, y = COMPLEX[:8], COMPLEX[8:]
    for op in ("add", "subtract", "multiply", "divide", "power"):
        case(op, "c64", [x, y], ref=floats[op](wide(x), wide(y)), rtol=1e-5, atol=1e-5)
    for op in ("maximum", "minimum"):
        v, w = np.complex64([1 + 2j, 1 - 1j, 2 + 0j]), np.complex64([1 + 1j, 1 + 1j, 1 + 5j])
        case(op, "c64", [v, w], ref=getattr(np, op)(v, w), note="ordered by the real part, then the imaginary")

    wrap = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum, "floor_divide": int_floor_divide, "remainder": int_remainder}  # fmt: skip
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        info = np.iinfo(dtype)
        v = [0, 1, 2, 3, 7, 100, info.max]
        v += [-1, -2, -3, -7, -100] if info.min else [info.max - 1, 50]
        x, y = np.array(v, dtype)[:, None], np.array(v, dtype)[None, :]
        x = np.concatenate([x, np.array([[info.min]], dtype)])
        for op, ref in wrap.items():
            yy = y
            if op in ("floor_divide", "remainder"):
                yy = y[y != np.array(-1, np.int64).astype(dtype)] if info.min else y[0]
            case(op, dtype, [x, yy], ref=ref(x, yy))
        exponents = np.array([0, 1, 2, 3, 5, 9] + ([-1, -2] if info.min else []), dtype)
        case("power", dtype, [x, exponents], ref=int_power(x, exponents))
        y = np.array([v for v in v if v], dtype)
        case("divide", dtype, [x, y], ref=x.astype(f32) / y.astype(f32), rtol=1e-7)
        case("divide", f"{dtype}.zero", [np.array([0, 1], dtype), np.array([0, 0], dtype)], ref=f32([NAN, INF]))
        n = info.bits
        shifts = np.array([0, 1, 2, n - 2, n - 1], dtype)
        case("left_shift", dtype, [x, shifts], ref=np.left_shift(x, shifts))
        case("right_shift", dtype, [x, shifts], ref=np.right_shift(x, shifts))
        for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
            case(op, dtype, [x, x[:, 0]], ref=getattr(np, op)(x, x[:, 0]))
    least = np.int32([-(2**31), -(2**31), 5])
    for op, out in (("floor_divide", [-(2**31), -(2**31), -5]), ("remainder", [0, 0, 0])):
        case(
            op,
            "int32.least",
            [least, np.int32([-1, -1, -1])],
            ref=np.int32(out),
            mlx_runs=False,
            note="the one quotient that overflows; it wraps (MLX dies of SIGFPE)",
        )
    t = np.array([[True], [False]])
    for op in ("add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "remainder", "power", "divide"):
        if op not in ("floor_divide", "remainder", "subtract", "divide"):
            ref = {"add": t | t.T, "multiply": t & t.T, "maximum": t | t.T, "minimum": t & t.T, "power": int_power(t, t.T)}[op]
            case(op, "bool", [t, t.T], ref=ref)
        elif op == "divide":
            case(op, "bool", [t, t.T], ref=wide(t) / wide(t.T))
        else:
            case(op, "bool", [t, t.T] if op == "subtract" else [t, np.array([True])], note="NumPy refuses")
    for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        case(op, "bool", [t, t.T], ref=getattr(np, op)(t, t.T))
    for op in ("logical_and", "logical_or", "logical_xor"):
        case(op, "bool", [t, t.T], ref=getattr(np, op)(t, t.T))
        case(op, "f32", [s[:, None], s], ref=getattr(np, op)(s[:, None], s))
        case(op, "i32.u8", [np.int32([[0], [2]]), np.uint8([0, 3])], ref=getattr(np, op)(np.int32([[0], [2]]), np.uint8([0, 3])))
    for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        g = getattr(np, op)
        case(op, "f32", [s[:, None], s], ref=g(s[:, None], s))
        for k, tt in (("f16", f16), ("bf16", bf16), ("f64", f64)):
            case(op, k, [s.astype(tt)[:, None], s.astype(tt)], ref=g(s.astype(tt)[:, None], s.astype(tt)))
        i = np.int32([-(2**31), -1, 0, 1, 2**31 - 1])
        case(op, "i32", [i[:, None], i], ref=g(i[:, None], i))
        u = np.uint64([0, 1, 2**63, 2**64 - 1])
        case(op, "u64", [u[:, None], u], ref=g(u[:, None], u))
        j = np.int64([-(2**62) - 1, -(2**62), 0, 2**53, 2**53 + 1])
        case(op, "i64", [j[:, None], j], ref=g(j[:, None], j))
        case(op, "bool", [t, t.T], ref=g(t, t.T))
        z = np.complex64([1 + 2j, 1 - 2j, 2 + 0j])
        if op in ("equal", "not_equal"):
            case(op, "c64", [z[:, None], z], ref=g(z[:, None], z))
    x, y = np.int32([7, -7, 7, -7, 0]), np.int32([2, 2, -2, -2, 5])
    case("divmod", "i32", [x, y], ref=[x // y, x % y])
    x, y = f32([7.5, -7.5, 7.5, -7.5]), f32([2, 2, -2, -2])
    case("divmod", "f32", [x, y], ref=[x // y, x % y])

    # Three inputs
    c = np.array([[True], [False]])
    x, y = normals(2, 3), normals(3)
    case("where", "f32", [c, x, y], ref=np.where(c, x, y), exact=True)
    case("where", "nan", [np.array([True, False]), f32([1, NAN]), f32([NAN, 2])], ref=f32([1, 2]), exact=True)
    case("where", "i32.f32", [c, np.int32([1, 2, 3]), y], ref=np.where(c, f32([1, 2, 3]), y), exact=True)
    case("where", "int_condition", [np.int32([2, 0, -1]), f32([1, 2, 3]), f32([4, 5, 6])], ref=f32([1, 5, 3]))
    case("where", "f16", [c, x.astype(f16), y.astype(f16)], ref=np.where(c, x.astype(f16), y.astype(f16)), exact=True)
    x = f32([[NAN, -5, 0.5], [2, 3, INF]])
    for tag, lo, hi in (("both", -1.0, 2.5), ("low", 0.0, None), ("high", None, 1.0), ("crossed", 3.0, 2.0)):
        case("clip", tag, [x], {"a_min": lo, "a_max": hi}, ref=np.clip(x, lo, hi))
    lo, hi = f32([-1, 0, 1]), f32([[1], [2]])
    case("clip", "arrays", [x, lo, hi], ref=np.clip(x, lo, hi))
    case("clip", "i32", [np.int32([-5, 0, 5, 50])], {"a_min": -1, "a_max": 7}, ref=np.int32([-1, 0, 5, 7]))
    case("clip", "i32.float_bound", [np.int32([1, 5, 9])], {"a_min": 2.5, "a_max": None}, ref=f32([2.5, 5, 9]))
    x = f32([1, 1, 1, NAN, INF, INF, -INF, 0, 100])
    y = f32([1, 1.00001, 1.001, NAN, INF, -INF, -INF, 1e-9, 100.0001])
    case("isclose", "default", [x, y], ref=np.isclose(x, y))
    case("isclose", "equal_nan", [x, y], {"equal_nan": True}, ref=np.isclose(x, y, equal_nan=True))
    case("isclose", "wide", [x, y], {"rtol": 1e-2, "atol": 1e-3}, ref=np.isclose(x, y, 1e-2, 1e-3))
    case("allclose", "no", [x, y], ref=np.array(False))
    case("allclose", "yes", [f32([1, 2]), f32([1.000001, 2])], ref=np.array(True))
    case("allclose", "equal_nan", [f32([1, NAN]), f32([1, NAN])], {"equal_nan": True}, ref=np.array(True))
    case("array_equal", "shape", [f32([1, 2]), f32([[1, 2]])], ref=np.array(False))
    case("array_equal", "dtype", [f32([1, 2]), np.int32([1, 2])], ref=np.array(True))
    case("array_equal", "nan", [f32([1, NAN]), f32([1, NAN])], ref=np.array(False))
    case("array_equal", "equal_nan", [f32([1, NAN]), f32([1, NAN])], {"equal_nan": True}, ref=np.array(True))


# ------------------------------------------------------------------------------------------------
# Reductions and scans

AXES = (None, 0, 1, -1, (0, 2), (-1, -3), (0, 1, 2))


def short(axis):
    return "all" if axis is None else "_".join(map(str, axis)) if isinstance(axis, tuple) else str(axis)


def reductions():
    x = normals(3, 4, 5)
    i = rng.integers(-9, 9, (3, 4, 5)).astype(np.int32)
    lse = lambda v, axis, keepdims: S.logsumexp(v, axis=axis, keepdims=keepdims)
    refs = {
        "sum": np.sum, "prod": np.prod, "mean": np.mean, "var": np.var, "std": np.std, "min": np.min, "max": np.max,
        "logsumexp": lse, "median": np.median,
    }  # fmt: skip
    for op, ref in refs.items():
        for n, axis in enumerate(AXES):
            keep = n % 2 == 1
            a = {"axis": axis, "keepdims": keep}
            tight = op in ("min", "max")
            case(
                op,
                f"f32.{short(axis)}",
                [x],
                a,
                ref=ref(wide(x), axis=axis, keepdims=keep),
                rtol=None if tight else 3e-6,
                atol=None if tight else 2e-6,
            )
        case(op, "f32.scalar", [f32(2.5)], {"axis": None, "keepdims": False}, ref=ref(np.float64(2.5), axis=None, keepdims=False))
        case(
            op,
            "f64",
            [wide(x)],
            {"axis": 1, "keepdims": False},
            ref=ref(wide(x), axis=1, keepdims=False),
            rtol=1e-13,
            atol=1e-14,
            mlx_off=SINGLE if op == "logsumexp" else None,
        )
        for t in (f16, bf16):
            h, tag = x.astype(t), {f16: "f16", bf16: "bf16"}[t]
            r = ref(wide(h), axis=-1, keepdims=False)
            case(op, tag, [h], {"axis": -1, "keepdims": False}, ref=r, rtol=4 * TOLERANCE[str(np.dtype(t))][0], atol=2e-3)
    long = normals(1, 700) + f32(0.5)
    for t in (f16, bf16):
        h = long.astype(t)
        for op in ("sum", "mean", "logsumexp"):
            case(
                op,
                f"{np.dtype(t)}.long",
                [h],
                {"axis": -1, "keepdims": False},
                ref=refs[op](wide(h), axis=-1, keepdims=False),
                rtol=2 * TOLERANCE[str(np.dtype(t))][0],
                mlx_runs=True,
            )
    for op in ("var", "std"):
        case(op, "f32.ddof1", [x], {"axis": -1, "ddof": 1}, ref=refs[op](wide(x), axis=-1, ddof=1), rtol=3e-6)
        case(
            op,
            "f32.offset",
            [x + f32(1000)],
            {"axis": -1},
            ref=refs[op](wide(x + f32(1000)), axis=-1),
            rtol=2e-3,
            note="the mean is far from zero; two passes, or Welford",
        )
        case(op, "f32.one.ddof1", [f32([3.0])], {"ddof": 1}, ref=f32(NAN))
    for op in ("sum", "prod", "max", "min"):
        for dtype in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
            v = (rng.integers(0, 2, (3, 5)) if dtype == "bool" else rng.integers(1, 100, (3, 5))).astype(dtype)
            if op == "prod" and dtype != "bool":
                v = (v % 7 + 1).astype(dtype)
            acc = np.int64 if op in ("sum", "prod") else v.dtype
            case(op, dtype, [v], {"axis": 0, "keepdims": False}, ref=getattr(np, op)(v.astype(acc), axis=0))
    case("sum", "int8.wide", [np.full((2, 300), 120, np.int8)], {"axis": 1}, ref=np.int32([36000, 36000]))
    case("sum", "uint8.wide", [np.full((2, 300), 200, np.uint8)], {"axis": 1}, ref=np.uint32([60000, 60000]))
    case("sum", "int32.wraps", [np.int32([2**31 - 1, 1])], {}, ref=np.int32(-(2**31)))
    for op in ("mean", "var", "std", "logsumexp", "median"):
        case(op, "i32", [i], {"axis": 1, "keepdims": True}, ref=refs[op](wide(i), axis=1, keepdims=True), rtol=2e-6)
        case(
            op,
            "bool",
            [np.array([[True, False, True]])],
            {"axis": -1, "keepdims": False},
            ref=refs[op](f64([[1, 0, 1]]), axis=-1, keepdims=False),
            rtol=2e-6,
        )
    odd = f32([[1, NAN, 3], [INF, 2, 1], [-INF, INF, 0], [-INF, -INF, -INF]])
    for op in ("sum", "prod", "mean", "min", "max", "logsumexp", "median"):
        case(op, "f32.special", [odd], {"axis": 1, "keepdims": False}, ref=refs[op](wide(odd), axis=1, keepdims=False))
    for op in ("all", "any"):
        t = rng.integers(0, 4, (3, 4, 5)) > 0
        for n, axis in enumerate(AXES):
            a = {"axis": axis, "keepdims": n % 2 == 1}
            case(op, f"bool.{short(axis)}", [t], a, ref=getattr(np, op)(t, **a))
        case(op, "f32.special", [odd], {"axis": 1}, ref=getattr(np, op)(odd, axis=1))
        case(op, "i32", [np.int32([[0, 0], [0, 3], [1, 2]])], {"axis": 1}, ref=getattr(np, op)(np.int32([[0, 0], [0, 3], [1, 2]]), axis=1))
    for op in ("argmax", "argmin"):
        for axis in (None, 0, 1, -1):
            a = {"axis": axis, "keepdims": axis == 1}
            case(op, f"f32.{short(axis)}", [x], a, ref=getattr(np, op)(x, **a))
            case(op, f"i32.{short(axis)}", [i], a, ref=getattr(np, op)(i, **a), note="ties go to the first")
        case(op, "f32.special", [odd], {"axis": 1}, ref=getattr(np, op)(odd, axis=1), note="the first NaN wins")
        case(op, "u8", [np.uint8([[200, 3, 200]])], {"axis": 1}, ref=getattr(np, op)(np.uint8([[200, 3, 200]]), axis=1))
        case(op, "bool", [np.array([[False, True, True]])], {"axis": 1}, ref=getattr(np, op)(np.array([[False, True, True]]), axis=1))
    z = np.round(x)
    for axis in (None, 0, (0, 2)):
        case("count_nonzero", f"f32.{short(axis)}", [z], {"axis": axis}, ref=np.count_nonzero(z, axis=axis))
        case("minmax", f"f32.{short(axis)}", [x], {"axis": axis}, ref=[x.min(axis), x.max(axis)])
    case("count_nonzero", "bool", [t], {"axis": 1, "keepdims": True}, ref=np.count_nonzero(t, axis=1, keepdims=True))
    case("minmax", "i32", [i], {"axis": 1, "keepdims": True}, ref=[i.min(1, keepdims=True), i.max(1, keepdims=True)])
    case("minmax", "f32.special", [odd], {"axis": 1}, ref=[odd.min(1), odd.max(1)])
    # MLX is left out: it may spin for ever on these, or answer 0 for the product of nothing
    none = np.zeros((0, 3), f32)
    for op, v in (("sum", 0.0), ("prod", 1.0), ("mean", NAN), ("all", True), ("any", False)):
        dtype = bool if op in ("all", "any") else f32
        for axis, ref in ((None, np.array(v)), (0, np.full(3, v)), (1, np.zeros(0))):
            case(op, f"empty.{short(axis)}", [none], {"axis": axis}, ref=ref, mlx_runs=False, dtype=dtype)
    for op in ("max", "min", "median"):
        note = "no rows; along axis 0 there would be nothing to choose from, which is an error"
        case(op, "empty.1", [none], {"axis": 1}, ref=np.zeros(0), mlx_runs=False, dtype=f32, note=note)


def scans():
    x = normals(3, 4, 5)

    def scan(op, v, axis, reverse, inclusive):
        if axis is None:
            v, axis = v.reshape(-1), 0
        v = np.moveaxis(v, axis, -1)
        v = v[..., ::-1] if reverse else v
        lowest = -INF if v.dtype.kind == "f" else (np.iinfo(v.dtype).min if v.dtype != bool else False)
        highest = INF if v.dtype.kind == "f" else (np.iinfo(v.dtype).max if v.dtype != bool else True)
        f, start = {
            "cumsum": (np.cumsum, 0), "cumprod": (np.cumprod, 1), "cummax": (np.maximum.accumulate, lowest),
            "cummin": (np.minimum.accumulate, highest), "logcumsumexp": (np.logaddexp.accumulate, -INF),
        }[op]  # fmt: skip
        r = f(v, axis=-1)
        if not inclusive:
            r = np.concatenate([np.full_like(r[..., :1], start), r[..., :-1]], -1)
        return np.moveaxis(r[..., ::-1] if reverse else r, -1, axis)

    for op in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"):
        for n, axis in enumerate((None, 0, 1, -1)):
            for reverse, inclusive in itertools.product((False, True), (True, False)):
                if axis in (None, 0) and reverse and not inclusive and n == 0:
                    continue
                a = {"axis": axis, "reverse": reverse, "inclusive": inclusive}
                tag = f"f32.{short(axis)}{'.reverse' if reverse else ''}{'' if inclusive else '.exclusive'}"
                case(op, tag, [x], a, ref=scan(op, wide(x), **a), rtol=3e-6, atol=2e-6)
        special = f32([[1, NAN, 3, 2], [INF, 2, -INF, 1], [-INF, -INF, 0, 1]])
        if op == "logcumsumexp":
            special = special[1:, :2]
        case(op, "f32.special", [special], {"axis": 1}, ref=scan(op, wide(special), 1, False, True))
        case(
            op,
            "f64",
            [wide(x)],
            {"axis": 1},
            ref=scan(op, wide(x), 1, False, True),
            rtol=1e-13,
            mlx_off=SINGLE if op == "logcumsumexp" else None,
        )
        if op == "logcumsumexp":
            continue
        i = rng.integers(-5, 6, (3, 5)).astype(np.int32)
        for inclusive in (True, False):
            a = {"axis": 1, "reverse": False, "inclusive": inclusive}
            case(op, f"i32{'' if inclusive else '.exclusive'}", [i], a, ref=scan(op, i, **a).astype(np.int32))
    u = np.uint8([100, 100, 100, 5])
    case("cumsum", "u8", [u], {"axis": 0}, ref=np.cumsum(u, dtype=np.uint8), note="stays u8 and wraps")
    case("cumprod", "u8", [u], {"axis": 0}, ref=np.cumprod(u, dtype=np.uint8))
    case("cumsum", "bool", [np.array([True, True, False, True])], {"axis": 0}, ref=np.int32([1, 2, 2, 3]))
    case("cumprod", "bool", [np.array([True, True, False, True])], {"axis": 0})
    case(
        "cumsum",
        "u8.dtype",
        [u],
        {"axis": 0, "dtype": "uint32"},
        ref=np.cumsum(u, dtype=np.uint32),
        f=lambda a: mx.cumsum(a, 0, dtype=mx.uint32),
    )
    h = np.ones(600, bf16)
    case("cumsum", "bf16.long", [h], {"axis": 0}, ref=np.cumsum(wide(h)), mlx_runs=False, dtype=bf16, note="accumulate in f32")

    for tag, v, axis in (
        ("last", x, -1), ("first", x, 0), ("two", x, (0, 2)), ("all", x, None), ("large", x * f32(200), -1),
        ("masked", np.where(x > 0.3, -f32(INF), x), -1), ("one", x[..., :1], -1),
    ):  # fmt: skip
        w = wide(v)
        ref = S.softmax(w, axis=axis)
        case("softmax", f"f32.{tag}", [v], {"axis": axis}, ref=ref, rtol=4e-6)
    case("softmax", "f64", [wide(x)], {"axis": -1}, ref=S.softmax(wide(x), axis=-1), rtol=1e-13, mlx_off=SINGLE)
    case("softmax", "all_masked", [f32([[-INF, -INF], [1, INF]])], {"axis": -1}, ref=f32([[NAN, NAN], [NAN, NAN]]))
    case("softmax", "i32", [np.int32([[1, 2, 3]])], {"axis": -1}, ref=S.softmax(f64([[1, 2, 3]]), axis=-1))
    for t in (f16, bf16):
        h = normals(2, 600).astype(t)
        case(
            "softmax",
            f"{np.dtype(t)}.long",
            [h],
            {"axis": -1},
            ref=S.softmax(wide(h), axis=-1),
            mlx_runs=False,
            dtype=t,
            note="sum in f32, whatever `precise` says",
        )
    x = normals(2, 3, 6)
    for n in (1, 2):
        for axis in (-1, 0, 1):
            if n < x.shape[axis]:
                case("diff", f"n{n}.{axis}", [x], {"n": n, "axis": axis}, ref=np.diff(wide(x), n, axis), atol=1e-6)
    m = normals(4, 5)
    for k in (-1, 0, 2):
        case("trace", f"{k}", [m], {"offset": k, "axis1": 0, "axis2": 1}, ref=np.trace(wide(m), k))
    case("trace", "axes", [x], {"offset": 0, "axis1": 2, "axis2": 0}, ref=np.trace(wide(x), 0, 2, 0))


# ------------------------------------------------------------------------------------------------
# Order


def ordering():
    x = normals(3, 4, 5)
    special = f32([[3, NAN, -0.0, 0.0, 1, INF], [NAN, NAN, -INF, 2, -1, 0]])
    i = rng.integers(-4, 5, (3, 7)).astype(np.int32)
    for axis in (None, 0, 1, -1):
        case("sort", f"f32.{short(axis)}", [x], {"axis": axis}, ref=np.sort(x, axis=axis), exact=True)
        case("argsort", f"f32.{short(axis)}", [x], {"axis": axis}, ref=np.argsort(x, axis=axis, kind="stable"))
    case(
        "sort",
        "f32.special",
        [special],
        {"axis": -1},
        ref=np.sort(special, axis=-1, kind="stable"),
        note="NaN last; equal values keep their order",
    )
    case("argsort", "f32.special", [special], {"axis": -1}, ref=np.argsort(special, axis=-1, kind="stable"))
    for dtype in ("int32", "int64", "uint8", "int16", "uint64", "bool"):
        v = (i > 0) if dtype == "bool" else np.abs(i).astype(dtype) if dtype.startswith("u") else i.astype(dtype)
        case("sort", dtype, [v], {"axis": -1}, ref=np.sort(v, axis=-1))
        case("argsort", dtype, [v], {"axis": -1}, ref=np.argsort(v, axis=-1, kind="stable"))
    for t in (f16, bf16, f64):
        v = normals(2, 9).astype(t)
        case("sort", str(np.dtype(t)), [v], {"axis": -1}, ref=np.sort(wide(v), axis=-1), exact=True)
    long = rng.integers(0, 50, (2, 300)).astype(f32)
    case("argsort", "f32.long", [long], {"axis": -1}, ref=np.argsort(long, axis=-1, kind="stable"), note="many ties")
    for k, axis in ((1, -1), (3, -1), (2, 0), (4, 1), (60, None)):
        flat = x.reshape(-1) if axis is None else x
        top = np.sort(flat, axis=0 if axis is None else axis)
        ref = np.take(top, np.arange(top.shape[0 if axis is None else axis])[-k:], 0 if axis is None else axis)
        case(
            "topk",
            f"f32.{k}.{short(axis)}",
            [x],
            {"k": k, "axis": axis},
            ref=ref,
            f=lambda a: mx.sort(mx.topk(a, k, axis), axis=0 if axis is None else axis),
            compare="sorted",
            exact=True,
        )
    case("topk", "i32", [i], {"k": 2, "axis": -1}, ref=np.sort(i, -1)[:, -2:], f=lambda a: mx.sort(mx.topk(a, 2, -1), -1), compare="sorted")
    for kth, axis in ((0, -1), (2, -1), (-1, -1), (1, 0), (3, 1)):
        ref = np.sort(x, axis)
        case(
            "partition",
            f"f32.{kth}.{axis}",
            [x],
            {"kth": kth, "axis": axis},
            ref=ref,
            f=lambda a: mx.sort(mx.partition(a, kth, axis), axis),
            compare="partition",
            exact=True,
        )
        case(
            "argpartition",
            f"f32.{kth}.{axis}",
            [x],
            {"kth": kth, "axis": axis},
            ref=np.argsort(x, axis),
            f=lambda a: mx.argsort(a, axis),
            compare="argpartition",
        )
    s = f32([-2, -1, -1, 0, 3, INF])
    v = f32([[-3, -2, -1.5, -1], [0, 2, INF, NAN]])
    for side in ("left", "right"):
        case("searchsorted", side, [s, v], {"side": side}, ref=np.searchsorted(s, v, side))
        case(
            "searchsorted",
            f"i32.{side}",
            [np.int32([1, 2, 2, 5]), np.int32([0, 2, 9])],
            {"side": side},
            ref=np.searchsorted([1, 2, 2, 5], [0, 2, 9], side),
        )


# ------------------------------------------------------------------------------------------------
# Indexing and shape


def indexing():
    x = normals(4, 5, 3)
    for tag, idx, axis in (
        ("flat", np.int32([0, 7, 59]), None), ("0", np.int32([3, 0, 0]), 0), ("1", np.int32([[1, 4], [0, 2]]), 1),
        ("-1", np.uint32([2]), -1), ("negative", np.int32([-1, -4]), 0), ("scalar", np.int32(2), 1), ("i64", np.int64([1, -2]), 1),
        ("none", np.zeros(0, np.int32), 0),
    ):  # fmt: skip
        case("take", tag, [x, idx], {"axis": axis}, ref=np.take(x, idx, axis), exact=True)
    for axis in (0, 1, -1):
        n = x.shape[axis]
        idx = np.argsort(normals(*x.shape), axis=axis).astype(np.int32)
        case("take_along_axis", f"{axis}", [x, idx], {"axis": axis}, ref=np.take_along_axis(x, idx.astype(np.int64), axis), exact=True)
        part = np.take(idx, [0, 1], axis) - np.int32(n)
        case(
            "take_along_axis",
            f"{axis}.negative",
            [x, part],
            {"axis": axis},
            ref=np.take_along_axis(x, part.astype(np.int64), axis),
            exact=True,
        )
        put = np.take(idx, [0, 1], axis)
        v = normals(*put.shape)
        ref = x.copy()
        np.put_along_axis(ref, put.astype(np.int64), v, axis)
        case("put_along_axis", f"{axis}", [x, put, v], {"axis": axis}, ref=ref, exact=True)
    case("take_along_axis", "flat", [x, np.int32([5, 0, -1])], {"axis": None}, ref=x.reshape(-1)[[5, 0, -1]], exact=True)
    case(
        "take_along_axis",
        "broadcast",
        [x, np.int32([[[1], [0], [2]]])],
        {"axis": 1},
        f=lambda a, b: mx.take_along_axis(a, b, 1),
        ref=np.take_along_axis(x, np.broadcast_to(np.int64([[[1], [0], [2]]]), (4, 3, 3)), 1),
        exact=True,
    )
    ref = x.copy()
    ref[:, [2], :] = 7
    case("put_along_axis", "broadcast", [x, np.full((4, 1, 3), 2, np.int32), f32([7])], {"axis": 1}, ref=ref, exact=True)

    # x[slices]: a list of [start, stop, step] with null for what is left out, one for each leading axis
    for tag, spec in (
        ("plain", [(1, 3, None), (None, 2, None)]), ("step", [(None, None, 2), (1, None, 3)]), ("reverse", [(None, None, -1)]),
        ("reverse.step", [(None, None, None), (None, None, -2)]), ("negative.ends", [(-3, -1, None), (-1, -4, -1)]),
        ("past.ends", [(-10, 10, None), (10, None, -1), (2, -10, -1)]), ("empty", [(3, 1, None)]), ("empty.reverse", [(1, 3, -1)]),
        ("last", [(None, None, None), (None, None, None), (-1, None, -3)]),
    ):  # fmt: skip
        at = tuple(slice(*s) for s in spec)
        case("slice", tag, [x], {"slices": spec}, ref=x[at], f=lambda a: a[at], exact=True)
        v = normals(*x[at].shape)
        ref = x.copy()
        ref[at] = v

        def assign(a, b):
            a[at] = b
            return a

        case("slice_update", tag, [x, v], {"slices": spec}, ref=ref, f=assign, exact=True)
    # x[i, j]: index arrays broadcast together over leading axes
    i, j = np.int32([[0], [3]]), np.int32([4, -1, 0])
    case("gather", "two", [x, i, j], {"axes": [0, 1]}, ref=x[i, j], f=lambda a, b, c: a[b, c], exact=True)
    case(
        "gather",
        "outer",
        [x, i, j[:2] % 3],
        {"axes": [0, 2]},
        ref=x[i, :, j[:2] % 3],
        f=lambda a, b, c: a[b, :, c],
        exact=True,
        note="x[i, :, j]: index axes come first",
    )
    # x.at[i].add(v): repeated indices all count
    y, idx = normals(5, 3), np.int32([0, 2, 0, -1, 0])
    v = normals(5, 3)
    for kind, u in (
        ("add", np.add),
        ("subtract", np.subtract),
        ("multiply", np.multiply),
        ("divide", np.divide),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
    ):
        ref = wide(y)
        u.at(ref, idx, wide(v))
        case(f"at_{kind}", "rows", [y, idx, v], ref=ref, f=lambda a, b, c: getattr(a.at[b], kind)(c), rtol=3e-6, atol=1e-6)

    for axis in (0, 1, -1):
        parts = [normals(*[n + 1 if a == axis % 3 else s for a, s in enumerate((2, 3, 2))]) for n in range(3)]
        case(
            "concatenate",
            f"{axis}",
            parts,
            {"axis": axis},
            ref=np.concatenate(parts, axis),
            f=lambda *a: mx.concatenate(list(a), axis),
            exact=True,
        )
    case(
        "concatenate",
        "mixed",
        [np.int32([1, 2]), f32([0.5])],
        {"axis": 0},
        ref=f32([1, 2, 0.5]),
        f=lambda *a: mx.concatenate(list(a), 0),
        exact=True,
    )
    case(
        "concatenate",
        "empty",
        [np.zeros((0, 2), f32), f32([[1, 2]])],
        {"axis": 0},
        ref=f32([[1, 2]]),
        f=lambda *a: mx.concatenate(list(a), 0),
        exact=True,
    )
    parts = [normals(2, 3) for _ in range(3)]
    for axis in (0, 1, -1):
        case("stack", f"{axis}", parts, {"axis": axis}, ref=np.stack(parts, axis), f=lambda *a: mx.stack(list(a), axis), exact=True)
    z = normals(6, 4)
    for tag, at, axis in (("3", 3, 0), ("indices", [1, 4], 0), ("2.1", 2, 1), ("uneven", [3], -1), ("past", [2, 9], 0)):
        case("split", tag, [z], {"indices_or_sections": at, "axis": axis}, ref=np.split(z, at, axis), exact=True)
    w = normals(3, 4)
    for mode in ("constant", "edge", "reflect", "symmetric"):
        for tag, width in (("both", [(1, 2), (0, 3)]), ("one", [(0, 0), (2, 0)])):
            case("pad", f"{mode}.{tag}", [w], {"pad_width": width, "mode": mode}, ref=np.pad(w, width, mode), exact=True)
    case(
        "pad",
        "value",
        [w],
        {"pad_width": 1, "mode": "constant", "constant_values": 2.5},
        ref=np.pad(w, 1, constant_values=2.5),
        f=lambda a: mx.pad(a, 1, constant_values=2.5),
        exact=True,
    )
    case(
        "pad",
        "reflect.far",
        [np.int32([1, 2, 3])],
        {"pad_width": [(7, 4)], "mode": "reflect"},
        ref=np.pad([1, 2, 3], (7, 4), "reflect"),
        exact=True,
    )
    case(
        "pad",
        "symmetric.far",
        [np.int32([1, 2, 3])],
        {"pad_width": [(7, 4)], "mode": "symmetric"},
        ref=np.pad([1, 2, 3], (7, 4), "symmetric"),
        exact=True,
    )
    for tag, shift, axis in (("flat", 3, None), ("0", 1, 0), ("1", -2, 1), ("two", (1, -1), (0, 1)), ("far", 11, 1), ("all", 2, (0, 1))):
        case("roll", tag, [w], {"shift": shift, "axis": axis}, ref=np.roll(w, shift, axis), f=lambda a: mx.roll(a, shift, axis), exact=True)
    for axis in (None, 0, -1, (0, 1)):
        case("flip", short(axis), [w], {"axis": axis}, ref=np.flip(w, axis), exact=True)
    for n, axis in ((2, None), (3, 0), (2, -1), (0, 1)):
        case(
            "repeat",
            f"{n}.{short(axis)}",
            [w],
            {"repeats": n, "axis": axis},
            ref=np.repeat(w, n, axis),
            f=lambda a: mx.repeat(a, n, axis),
            exact=True,
        )
    for reps in (2, (2, 3), (2, 1, 2), (1,)):
        case(
            "tile",
            short(reps if isinstance(reps, tuple) else (reps,)),
            [w],
            {"reps": reps},
            ref=np.tile(w, reps),
            f=lambda a: mx.tile(a, reps),
            exact=True,
        )
    for k in (-2, 0, 1):
        case("tril", f"{k}", [w], {"k": k}, ref=np.tril(w, k), exact=True)
        case("triu", f"{k}", [w], {"k": k}, ref=np.triu(w, k), exact=True)
        case("diag", f"vector.{k}", [w[0]], {"k": k}, ref=np.diag(w[0], k), exact=True)
        case("diag", f"matrix.{k}", [w], {"k": k}, ref=np.diag(w, k), exact=True)
        case("eye", f"{k}", [], {"n": 3, "m": 4, "k": k}, ref=np.eye(3, 4, k), exact=True)
        case("tri", f"{k}", [], {"n": 3, "m": 4, "k": k}, ref=np.tri(3, 4, k), exact=True)
    case("diagonal", "axes", [x], {"offset": 1, "axis1": 2, "axis2": 0}, ref=np.diagonal(x, 1, 2, 0), exact=True)
    for tag, a in (("indexing_xy", "xy"), ("indexing_ij", "ij")):
        g = [f32([1, 2, 3]), f32([4, 5])]
        case("meshgrid", tag, g, {"indexing": a, "sparse": False}, ref=np.meshgrid(*g, indexing=a), exact=True)
    for n, (start, stop, step, dtype) in enumerate(((0, 5, 1, "int32"), (2, 11, 3, "int32"), (5, 0, -2, "int32"), (0.0, 1.0, 0.1, "float32"), (-1.5, 2.0, 0.75, "float32"), (3, 3, 1, "int32"), (5, 0, 1, "int32"))):  # fmt: skip
        a = {"start": start, "stop": stop, "step": step}
        case(
            "arange",
            f"{n}",
            [],
            a | {"dtype": dtype},
            ref=np.arange(start, stop, step, dtype),
            f=lambda: mx.arange(start, stop, step),
            rtol=1e-6,
        )
    for n, (a, b, m, end) in enumerate(
        ((0, 1, 5, True), (-2.5, 3.5, 7, True), (3, -3, 4, True), (1, 2, 1, True), (0, 1, 5, False), (1, 2, 0, True))
    ):
        at = {"start": a, "stop": b, "num": m, "endpoint": end}
        case("linspace", f"{n}", [], at, ref=np.linspace(a, b, m, end), f=lambda: mx.linspace(a, b, m, endpoint=end))
    for op in ("bartlett", "hanning", "hamming", "blackman"):
        for m in (1, 6, 7):
            case(op, f"{m}", [], {"M": m}, ref=getattr(np, op)(m), f=lambda: getattr(mx, op)(m), atol=2e-7)


# ------------------------------------------------------------------------------------------------
# Products


def products():
    for t, name in ((f32, "f32"), (f64, "f64")):
        for a, b in (
            ((5,), (5,)), ((4, 5), (5,)), ((5,), (5, 3)), ((4, 5), (5, 3)), ((1, 7), (7, 1)), ((2, 4, 5), (5, 3)),
            ((2, 4, 5), (2, 5, 3)), ((2, 1, 4, 5), (3, 5, 2)), ((4, 5), (2, 5, 3)), ((5,), (2, 5, 3)), ((2, 4, 5), (5,)),
            ((3, 0), (0, 2)), ((0, 3), (3, 2)), ((1, 1), (1, 1)), ((17, 33), (33, 19)),
        ):  # fmt: skip
            if t is f64 and max(len(a), len(b)) > 3:
                continue
            x, y = normals(*a, dtype=t), normals(*b, dtype=t)
            tag = f"{name}.{'x'.join(map(str, a))}.{'x'.join(map(str, b))}"
            case("matmul", tag, [x, y], ref=wide(x) @ wide(y), rtol=1e-5 if t is f32 else 1e-13, atol=1e-5 if t is f32 else 1e-13)
    x, y = normals(6, 4), normals(6, 5)
    case("matmul", "f32.transposed", [x.T, y], ref=wide(x).T @ wide(y), rtol=1e-5, atol=1e-5)
    z, w = COMPLEX[:12].reshape(3, 4), COMPLEX[4:].reshape(4, 3)
    case("matmul", "c64", [z, w], ref=wide(z) @ wide(w), rtol=1e-5, atol=1e-5)
    for t in (f16, bf16):
        x, y = normals(3, 40).astype(t), normals(40, 4).astype(t)
        case("matmul", str(np.dtype(t)), [x, y], ref=wide(x) @ wide(y), rtol=TOLERANCE[str(np.dtype(t))][0], atol=2e-2)
    c, a, b = normals(3), normals(4, 5), normals(5, 3)
    for alpha, beta in ((1.0, 1.0), (0.5, 2.0), (2.0, 0.0)):
        case(
            "addmm",
            f"{alpha}.{beta}",
            [c, a, b],
            {"alpha": alpha, "beta": beta},
            ref=beta * wide(c) + alpha * (wide(a) @ wide(b)),
            f=lambda c, a, b: mx.addmm(c, a, b, alpha, beta),
            rtol=1e-5,
            atol=1e-5,
        )
    x, y = normals(2, 3, 4), normals(4, 3, 5)
    for tag, ax in (("1", 1), ("0", 0), ("pairs", [[2, 1], [0, 1]]), ("one", [[1], [1]])):
        case(
            "tensordot",
            tag,
            [x, y],
            {"axes": ax},
            ref=np.tensordot(wide(x), wide(y), ax),
            f=lambda a, b: mx.tensordot(a, b, ax),
            rtol=1e-5,
            atol=1e-5,
        )
    x, y = normals(4), normals(3)
    case("outer", "f32", [x, y], ref=np.outer(wide(x), wide(y)))
    case("outer", "flattens", [normals(2, 2), y], ref=None)
    case("inner", "vectors", [x, x[::-1].copy()], ref=np.inner(wide(x), wide(x)[::-1]), rtol=1e-5)
    x, y = normals(2, 3), normals(4, 3)
    case("inner", "matrices", [x, y], ref=np.inner(wide(x), wide(y)), rtol=1e-5, atol=1e-6)
    case("inner", "scalar", [x, f32(2)], ref=wide(x) * 2)
    case("kron", "2d", [x, y], ref=np.kron(wide(x), wide(y)))
    case("kron", "1d.2d", [x[0], y], ref=np.kron(wide(x[0]), wide(y)))
    a, b = normals(2, 3, 4), normals(2, 3, 4)
    case("vecdot", "last", [a, b], {"axis": -1}, ref=np.sum(wide(a) * wide(b), -1), rtol=1e-5, atol=1e-6)
    for n, (eq, shapes) in enumerate((
        ("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("ij->ji", [(2, 3)]), ("ii->", [(3, 3)]), ("ii->i", [(3, 3)]),
        ("ij->", [(2, 3)]), ("i,j->ij", [(2,), (3,)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]), ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]), ("ij,ij->i", [(3, 4), (3, 4)]), ("ba,ca", [(2, 3), (4, 3)]),
    )):  # fmt: skip
        args = [normals(*s) for s in shapes]
        case(
            "einsum",
            f"{n}",
            args,
            {"subscripts": eq},
            ref=np.einsum(eq, *(wide(v) for v in args)),
            f=lambda *v: mx.einsum(eq, *v),
            rtol=1e-5,
            atol=2e-6,
        )


def convolutions():
    """Channels last everywhere: (N, spatial.., C) with weights (O, spatial.., C / groups)."""
    tt = lambda a: torch.from_numpy(np.moveaxis(wide(a), -1, 1).copy())
    back = lambda r: np.moveaxis(r.numpy(), 1, -1)
    for tag, n, shape, out, kernel, kw in (
        ("plain", 1, (2, 9, 4), 3, (3,), {}), ("options", 1, (1, 12, 4), 6, (3,), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
        ("depthwise", 1, (1, 7, 4), 4, (4,), {"padding": 3, "groups": 4}),
        ("plain", 2, (2, 6, 5, 3), 4, (3, 2), {}), ("options", 2, (1, 8, 9, 4), 4, (3, 3), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
        ("pointwise", 2, (1, 3, 3, 5), 2, (1, 1), {}),
        ("plain", 3, (1, 4, 4, 3, 2), 3, (2, 3, 2), {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
    ):  # fmt: skip
        g = kw.get("groups", 1)
        x, w = normals(*shape), normals(out, *kernel, shape[-1] // g)
        ref = back(getattr(torch.nn.functional, f"conv{n}d")(tt(x), tt(w), **kw))
        case(
            f"conv{n}d", tag, [x, w], kw, ref=ref, source="torch", f=lambda a, b: getattr(mx, f"conv{n}d")(a, b, **kw), rtol=1e-5, atol=2e-5
        )
    for tag, n, shape, out, kernel, kw in (
        ("plain", 1, (2, 5, 4), 3, (3,), {}), ("options", 1, (1, 5, 4), 2, (3,), {"stride": 2, "padding": 1, "dilation": 2, "output_padding": 1}),
        ("plain", 2, (1, 4, 3, 2), 3, (3, 2), {}), ("options", 2, (1, 4, 3, 2), 3, (3, 3), {"stride": (2, 2), "padding": (1, 0), "output_padding": (1, 0)}),
        ("plain", 3, (1, 2, 3, 2, 2), 2, (2, 2, 2), {"stride": 2}),
    ):  # fmt: skip
        x, w = normals(*shape), normals(out, *kernel, shape[-1])
        wt = torch.from_numpy(np.moveaxis(np.moveaxis(wide(w), -1, 0), 1, 1).copy())  # (C, O, spatial..)
        ref = back(getattr(torch.nn.functional, f"conv_transpose{n}d")(tt(x), wt, **kw))
        case(
            f"conv_transpose{n}d",
            tag,
            [x, w],
            kw,
            ref=ref,
            source="torch",
            f=lambda a, b: getattr(mx, f"conv_transpose{n}d")(a, b, **kw),
            rtol=1e-5,
            atol=2e-5,
        )
    a, v = normals(9), normals(4)
    for mode in ("full", "same", "valid"):
        case(
            "convolve",
            mode,
            [a, v],
            {"mode": mode},
            ref=np.convolve(wide(a), wide(v), mode),
            f=lambda a, v: mx.convolve(a, v, mode),
            rtol=1e-5,
            atol=2e-6,
        )


# ------------------------------------------------------------------------------------------------
# The fused operations of a transformer


def rope(x, dims, traditional, base=None, scale=1.0, offset=0, freqs=None):
    """Rotates pairs (x[2i], x[2i+1]) if traditional, else (x[i], x[i + dims/2]), of the first `dims`."""
    x = wide(x)
    t = x.shape[-2]
    half = dims // 2
    inverse = base ** (-np.arange(half) / half) if freqs is None else 1.0 / wide(freqs)
    offset = np.asarray(offset, f64).reshape(-1, *[1] * (x.ndim - 2)) if np.ndim(offset) else offset
    position = (np.arange(t) + offset) * scale
    angle = np.asarray(position)[..., None] * inverse
    cos, sin = np.cos(angle), np.sin(angle)
    out = x.copy()
    first, second = (slice(0, dims, 2), slice(1, dims, 2)) if traditional else (slice(0, half), slice(half, dims))
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


def attention(q, k, v, scale, mask=None, sinks=None):
    """(B, H, Tq, D) x (B, Hkv, Tk, D): softmax in float64. "causal" aligns the ends of both sequences."""
    q, k, v = wide(q), wide(k), wide(v)
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, 1), np.repeat(v, groups, 1)
    s = scale * (q @ k.swapaxes(-1, -2))
    tq, tk = s.shape[-2:]
    if isinstance(mask, str):
        s = np.where(np.arange(tk)[None] <= np.arange(tq)[:, None] + (tk - tq), s, -INF)
    elif mask is not None:
        s = np.where(mask, s, -INF) if mask.dtype == bool else s + wide(mask)
    if sinks is not None:
        extra = np.broadcast_to(wide(sinks)[None, :, None, None], (*s.shape[:-1], 1))
        return S.softmax(np.concatenate([s, extra], -1), -1)[..., :-1] @ v
    return S.softmax(s, -1) @ v


def fused():
    x, w, b = normals(2, 3, 16), normals(16), normals(16)
    for tag, t in (("f32", f32), ("f16", f16), ("bf16", bf16), ("f64", f64)):
        xx, ww, bb = x.astype(t), w.astype(t), b.astype(t)
        h = t in (f16, bf16)
        tol = {
            "rtol": 4 * TOLERANCE[str(np.dtype(t))][0] if t is not f64 else 1e-6,
            "atol": {f32: 2e-6, f64: 1e-6, f16: 5e-3, bf16: 4e-2}[t],
        }
        for eps in (1e-5,) if t is not f32 else (1e-5, 1e-6, 0.1):
            e = f64(f32(eps))
            X = wide(xx)
            norm = X / np.sqrt((X**2).mean(-1, keepdims=True) + e)
            case("rms_norm", f"{tag}.{eps}", [xx, ww], {"eps": eps}, ref=norm * wide(ww), f=lambda x, w: mx.fast.rms_norm(x, w, eps), **tol)
            ln = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + e)
            case(
                "layer_norm",
                f"{tag}.{eps}",
                [xx, ww, bb],
                {"eps": eps},
                ref=ln * wide(ww) + wide(bb),
                f=lambda x, w, b: mx.fast.layer_norm(x, w, b, eps),
                **tol,
            )
        if not h and t is not f64:
            case(
                "rms_norm",
                "no_weight",
                [xx],
                {"eps": 1e-5},
                ref=X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-5),
                f=lambda x: mx.fast.rms_norm(x, None, 1e-5),
                **tol,
            )
            plain_ln = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)
            case("layer_norm", "no_weight", [xx], {"eps": 1e-5}, ref=plain_ln, f=lambda x: mx.fast.layer_norm(x, None, None, 1e-5), **tol)
            case(
                "layer_norm",
                "no_bias",
                [xx, ww],
                {"eps": 1e-5},
                ref=plain_ln * wide(ww),
                f=lambda x, w: mx.fast.layer_norm(x, w, None, 1e-5),
                **tol,
            )
    big = normals(2, 8) * f32(1e4)
    ref = wide(big) / np.sqrt((wide(big) ** 2).mean(-1, keepdims=True) + 1e-5) * wide(w[:8])
    case("rms_norm", "large", [big, w[:8]], {"eps": 1e-5}, ref=ref, f=lambda x, w: mx.fast.rms_norm(x, w, 1e-5), rtol=4e-6)
    zero = np.zeros((1, 8), f32)
    case("rms_norm", "zero", [zero, w[:8]], {"eps": 1e-6}, ref=zero, f=lambda x, w: mx.fast.rms_norm(x, w, 1e-6))

    x = normals(2, 3, 5, 16)
    tol = {"rtol": 1e-5, "atol": 1e-5}
    n = 0
    for dims, traditional, base, scale, offset in (
        (16, False, 10000.0, 1.0, 0), (16, True, 10000.0, 1.0, 0), (16, False, 10000.0, 1.0, 7), (16, True, 10000.0, 1.0, 7),
        (8, False, 10000.0, 1.0, 3), (8, True, 10000.0, 1.0, 3), (16, False, 500000.0, 1.0, 100), (16, False, 10000.0, 0.25, 5),
        (16, True, 1000000.0, 0.5, 2), (4, False, 100.0, 2.0, 1),
    ):  # fmt: skip
        a = {"dims": dims, "traditional": traditional, "base": base, "scale": scale, "offset": offset}
        case(
            "rope",
            f"{n}",
            [x],
            a,
            ref=rope(x, **a),
            f=lambda v: mx.fast.rope(v, dims, traditional=traditional, base=base, scale=scale, offset=offset),
            **tol,
        )
        n += 1
    freqs = (10000 ** (np.arange(8) / 8) * rng.uniform(1, 8, 8)).astype(f32)
    for traditional in (False, True):
        a = {"dims": 16, "traditional": traditional, "base": None, "scale": 1.0, "offset": 4}
        case(
            "rope",
            f"freqs.{traditional}".lower(),
            [x, freqs],
            a,
            ref=rope(x, freqs=freqs, **a),
            f=lambda v, q: mx.fast.rope(v, 16, traditional=traditional, base=None, scale=1.0, offset=4, freqs=q),
            **tol,
        )
    a = {"dims": 16, "traditional": False, "base": 10000.0, "scale": 1.0}
    each = np.int32([2, 9])
    case(
        "rope",
        "offset_per_batch",
        [x],
        a | {"offset": [2, 9]},
        ref=rope(x, **a, offset=each),
        f=lambda v: mx.fast.rope(v, 16, **{k: v for k, v in a.items() if k != "dims"}, offset=mx.array(each)),
        **tol,
    )
    flat = normals(3, 4, 8)
    a = {"dims": 8, "traditional": False, "base": 10000.0, "scale": 1.0, "offset": 1}
    case("rope", "3d", [flat], a, ref=rope(flat, **a), f=lambda v: mx.fast.rope(v, 8, **{k: v for k, v in a.items() if k != "dims"}), **tol)
    for t in (f16, bf16):
        h = x[:1].astype(t)
        a = {"dims": 16, "traditional": False, "base": 10000.0, "scale": 1.0, "offset": 3}
        case(
            "rope",
            str(np.dtype(t)),
            [h],
            a,
            ref=rope(h, **a),
            rtol=TOLERANCE[str(np.dtype(t))][0],
            atol={f16: 3e-3, bf16: 3e-2}[t],
            f=lambda v: mx.fast.rope(v, 16, **{k: v for k, v in a.items() if k != "dims"}),
        )

    for tag, (bsz, h, hkv, tq, tk, d), mask, sink in (
        ("plain", (2, 2, 2, 5, 5, 8), None, False), ("causal", (1, 2, 2, 6, 6, 8), "causal", False), ("causal.longer_keys", (1, 2, 2, 3, 7, 8), "causal", False),
        ("causal.one_query", (1, 2, 2, 1, 7, 8), "causal", False), ("gqa", (2, 4, 2, 5, 5, 8), None, False), ("mqa.causal", (1, 4, 1, 5, 6, 8), "causal", False),
        ("bool", (2, 2, 2, 4, 6, 8), "bool", False), ("bool.rows", (1, 4, 2, 4, 6, 8), "bool2d", False), ("additive", (2, 2, 2, 4, 6, 8), "add", False),
        ("additive.heads", (1, 4, 2, 4, 6, 8), "addh", False), ("sinks", (1, 4, 2, 4, 6, 8), None, True), ("sinks.causal", (1, 4, 4, 5, 5, 8), "causal", True),
        ("value_dim", (1, 2, 2, 4, 5, 8), "vdim", False), ("decode.gqa", (1, 4, 2, 1, 20, 16), None, False), ("large", (1, 2, 2, 4, 6, 8), "large", False),
        ("sinks.decode", (1, 4, 2, 1, 9, 8), None, True), ("inf.mask", (1, 2, 2, 4, 6, 8), "infs", False),
    ):  # fmt: skip
        q, k, v = normals(bsz, h, tq, d), normals(bsz, hkv, tk, d), normals(bsz, hkv, tk, 2 * d if mask == "vdim" else d)
        if mask == "large":
            q, k = q * f32(30), k * f32(30)
        m = None
        if mask in ("bool", "bool2d"):
            m = rng.random((bsz, 1, tq, tk) if mask == "bool" else (tq, tk)) < 0.6
            m[..., 0] = True
        elif mask in ("add", "addh"):
            m = normals(*((tq, tk) if mask == "add" else (1, h, tq, tk)))
        elif mask == "infs":
            m = np.where(np.arange(tk)[None] <= np.arange(tq)[:, None] + 1, f32(0), f32(-INF))
        elif mask == "causal":
            m = "causal"
        scale = float(f32(1 / math.sqrt(d)))
        s = normals(h) if sink else None
        a = {
            "scale": scale,
            "mask": "causal" if m is not None and isinstance(m, str) else "array" if m is not None else None,
            "sinks": sink,
        }
        arrays = [q, k, v] + ([m] if isinstance(m, np.ndarray) else []) + ([s] if sink else [])

        def call(q, k, v, *rest):
            rest = list(rest)
            mm = m if m is None or isinstance(m, str) else rest.pop(0)
            return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mm, sinks=rest[0] if rest else None)

        case(
            "scaled_dot_product_attention",
            tag,
            arrays,
            a,
            ref=attention(q, k, v, scale, m, s),
            f=call,
            rtol=1e-4 if mask == "large" else 1e-5,
            atol=1e-4 if mask == "large" else 2e-6,
        )
    for t in (f16, bf16):
        q, k, v = (normals(1, h, n, 8).astype(t) for h, n in ((4, 3), (2, 50), (2, 50)))
        case(
            "scaled_dot_product_attention",
            str(np.dtype(t)),
            [q, k, v],
            {"scale": 0.25, "mask": "causal", "sinks": False},
            ref=attention(q, k, v, 0.25, "causal"),
            rtol=2 * TOLERANCE[str(np.dtype(t))][0],
            atol={f16: 1e-3, bf16: 8e-3}[t],
            mlx_runs=False,
            dtype=t,
        )
    logits, target = normals(3, 4, 9) * 3, rng.integers(0, 9, (3, 4)).astype(np.int32)
    L = wide(logits)
    ref = S.logsumexp(L, -1) - np.take_along_axis(L, target[..., None].astype(np.int64), -1)[..., 0]
    case("cross_entropy", "f32", [logits, target], ref=ref, f=lambda a, b: mx.fast.cross_entropy(a, b), rtol=3e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------
# Result dtypes


def name_of(d):
    n = str(d).rsplit(".", 1)[-1]
    return "bool" if n == "bool_" else n


def losses_and_recurrences():
    logits, classes = normals(3, 4, 11) * f32(4), rng.integers(0, 11, (3, 4)).astype(np.int32)
    picked = np.take_along_axis(wide(logits), classes[..., None], -1)[..., 0]
    ref = scipy.special.logsumexp(wide(logits), -1) - picked
    case("fast_cross_entropy", "f32", [logits, classes], ref=ref, f=mx.fast.cross_entropy, rtol=2e-6, atol=2e-6)
    b, t, hk, hv, dk, dv = 2, 5, 1, 2, 4, 3
    q, k, v = normals(b, t, hk, dk), normals(b, t, hk, dk) * f32(0.2), normals(b, t, hv, dv)
    gamma, beta = (rng.random((b, t, hv)).astype(f32) for _ in range(2))
    state = normals(b, hv, dv, dk)
    keep = rng.random((b, t)) < 0.7
    keep[0, 1] = False
    for tag, begin, mask in (("plain", None, None), ("state", state, None), ("mask", state, keep)):
        s = np.zeros((b, hv, dv, dk)) if begin is None else wide(begin)
        y = np.zeros((b, t, hv, dv))
        wq, wk = np.repeat(wide(q), hv // hk, 2), np.repeat(wide(k), hv // hk, 2)
        for i in range(t):
            faded = s * wide(gamma)[:, i, :, None, None]
            error = (wide(v)[:, i] - np.einsum("bhvk,bhk->bhv", faded, wk[:, i])) * wide(beta)[:, i, :, None]
            new = faded + np.einsum("bhv,bhk->bhvk", error, wk[:, i])
            y[:, i] = np.einsum("bhvk,bhk->bhv", new, wq[:, i])
            s = new if mask is None else np.where(mask[:, i, None, None, None], new, s)
        extra = [x for x in (begin, mask) if x is not None]
        for n, ref in enumerate((y, s)):
            # What a masked position gives is nobody's: only the others are compared with MLX.
            hide = (lambda a: a * mask[..., None, None]) if mask is not None and n == 0 else (lambda a: a)
            case(
                "gated_delta_update",
                f"{tag}.{n}",
                [q, k, v, gamma, beta, *extra],
                {"output": n, "mask": mask is not None},
                ref=hide(ref),
                f=lambda *x: hide(to_numpy(mx.fast.gated_delta_update(*x)[n])),
                rtol=2e-5,
                atol=2e-5,
            )


def result_dtypes():
    """dtypes.json: one row a dtype, in the order of DTYPES; null where the operation is refused."""
    ones = {d: mx.ones((2,), mlx_dtype(d)) for d in DTYPES}

    def out(f, *a):
        try:
            r = f(*a)
            r = r[0] if isinstance(r, (list, tuple)) else r
            return name_of(r.dtype)
        except (ValueError, TypeError, RuntimeError):
            return None

    rows = []
    pair = {}
    for op in "add subtract multiply divide floor_divide remainder power maximum minimum logaddexp arctan2 equal less logical_and bitwise_and left_shift matmul".split():
        f = getattr(mx, op)
        pair[op] = [[out(f, ones[a], ones[b]) for b in DTYPES] for a in DTYPES]
    promotion = [[name_of(mx.result_type(ones[a], ones[b])) for b in DTYPES] for a in DTYPES]
    rows.append({"id": "promotion", "kind": "pair", "table": promotion})
    for op, table in pair.items():
        if table == promotion:
            rows.append({"id": op, "kind": "pair", "same_as": "promotion"})
        else:
            rows.append({"id": op, "kind": "pair", "table": table})
    pick = lambda f: [out(f, ones[d]) for d in DTYPES]
    for op in list(FLOAT_UNARY) + list(EXACT_UNARY) + "sign logical_not bitwise_invert isnan nan_to_num real imag conj positive".split():
        rows.append({"id": op, "kind": "unary", "row": pick(getattr(mx, op))})
    for op in "sum prod mean var std min max argmin argmax all any logsumexp median count_nonzero cumsum cumprod cummax cummin logcumsumexp softmax sort argsort".split():
        rows.append({"id": op, "kind": "reduction", "row": pick(getattr(mx, op))})
    scalars = {"bool": True, "int": 1, "float": 1.5, "complex": 1j}
    for op in "add multiply divide floor_divide power maximum equal where".split():
        f = (lambda a, b: mx.where(mx.array([True, False]), a, b)) if op == "where" else getattr(mx, op)
        for k, s in scalars.items():
            rows.append({"id": f"{op}.{k}", "kind": "weak_scalar", "row": [out(lambda a: f(a, s), ones[d]) for d in DTYPES]})
    head = {"source": "mlx " + version("mlx"), "dtypes": list(DTYPES)}
    head["about"] = "pair: table[left][right]; unary, reduction: row[input]; weak_scalar: row[array] for array op scalar; null: refused"
    write_json("dtypes.json", head, rows)


def main():
    unary()
    binary()
    reductions()
    scans()
    ordering()
    indexing()
    products()
    convolutions()
    fused()
    losses_and_recurrences()
    if FAILURES:
        raise SystemExit(f"{len(FAILURES)} cases disagree with MLX")
    sources = {"mlx": version("mlx"), "numpy": version("numpy"), "scipy": version("scipy"), "torch": version("torch")}
    write_json("ops.json", {"versions": sources, "tensors": "ops.safetensors"}, CASES)
    write_safetensors("ops.safetensors", TENSORS)
    result_dtypes()


if __name__ == "__main__":
    main()
