"""random.json: what MLX's generator draws for given keys, and the proof that random.md tells how.

    pip install "mlx[cpu]" numpy ml_dtypes        (and a g++, for the one call that Python lacks)
    python rng.py

(The file is not called random.py: it would hide the standard library's module of that name.)

Every algorithm is written out below once more in NumPy, from probing MLX as a black box. The script
fails unless that re-implementation equals MLX bit for bit, on the cases that it writes and on larger
draws of 20,000 that it does not write. `exact: true` in a case means that an implementation has no
excuse for another bit: only integer arithmetic and single correctly rounded operations are
involved. `exact: false` cases go through log, erf or erfinv and carry a tolerance.
"""

import ctypes
import os
import subprocess
import tempfile

import ml_dtypes
import mlx
import mlx.core as mx
import numpy as np

from golden import np_dtype, numbers, write_json

np.seterr(all="ignore")
f32 = np.float32
MANY = 20_000

# ------------------------------------------------------------------------------------------------
# The algorithms


def threefry2x32(key, c0, c1):
    """Twenty rounds of Threefry (Salmon et al., 2011) on the counter (c0, c1)."""
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    ks = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    x0, x1 = np.asarray(c0, np.uint32) + ks[0], np.asarray(c1, np.uint32) + ks[1]
    for i in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))
            x1 = x1 ^ x0
        x0, x1 = x0 + ks[(i + 1) % 3], x1 + ks[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


def make_key(seed):
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def bits(key, n, width=4):
    """n values of `width` bytes: whole 32-bit words laid end to end as little-endian bytes, then cut."""
    words = -(-n * width // 4)
    half, odd = words // 2, words % 2
    i = np.arange(half, dtype=np.uint32)
    first, second = threefry2x32(key, i, i + np.uint32(half + odd))
    middle = threefry2x32(key, [half], [0])[0] if odd else np.zeros(0, np.uint32)
    stream = np.concatenate([first, middle, second]).astype("<u4").tobytes()
    return np.frombuffer(stream[: n * width], {1: "u1", 2: "<u2", 4: "<u4"}[width])


def split(key, num=2):
    return bits(key, 2 * num).reshape(num, 2)


def bits_shape(key, shape):
    return bits(key, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def below_one(dtype):
    """The largest value of the dtype that is less than 1."""
    return {"float32": f32(1 - 2**-24), "float16": f32(1 - 2**-11), "bfloat16": f32(1 - 2**-8)}[dtype]


def uniform(key, shape, low=0.0, high=1.0, dtype="float32"):
    t = np_dtype(dtype).type
    low, high = np.asarray(low, t), np.asarray(high, t)
    unit = bits_shape(key, shape).astype(f32) / f32(4294967295)  # the divisor rounds to 2^32
    unit = np.minimum(unit, below_one(dtype)).astype(t)
    return (high - low).astype(t) * unit + low


def randint(key, low, high, shape, dtype="int32"):
    low, high = np.asarray(low).astype(f32), np.asarray(high).astype(f32)
    x = np.maximum(np.floor(uniform(key, shape, low, high)), low)
    return x.astype(np.int64).astype(dtype)


def bernoulli(key, p, shape):
    return uniform(key, shape) < np.asarray(p).astype(f32)


libm = ctypes.CDLL("libm.so.6")
libm.logf.restype, libm.logf.argtypes = ctypes.c_float, [ctypes.c_float]
logf = np.vectorize(libm.logf, otypes=[f32])


def fma(a, b, c):
    return (np.float64(a) * np.float64(b) + np.float64(c)).astype(f32)


def erfinv(x):
    """A single-precision polynomial in t = log(1 - x^2), two ranges, every step a fused multiply-add."""

    def poly(t, coefficients):
        p = np.full_like(t, f32(coefficients[0]))
        for c in coefficients[1:]:
            p = fma(p, t, f32(c))
        return p

    x = np.asarray(x, f32)
    t = logf(fma(x, -x, f32(1)))
    far = (3.03697567e-10, 2.93243101e-8, 1.22150334e-6, 2.84108955e-5, 3.93552968e-4)
    far += (3.02698812e-3, 4.83185798e-3, -2.64646143e-1, 8.40016484e-1)
    near = (5.43877832e-9, 1.43285448e-7, 1.22774793e-6, 1.12963626e-7, -5.61530760e-5)
    near += (-1.47697632e-4, 2.31468678e-3, 1.15392581e-2, -2.32015476e-1, 8.86226892e-1)
    return x * np.where(np.abs(t) > f32(6.125), poly(t, far), poly(t, near))


SQRT2 = f32(np.sqrt(2.0))
ABOVE_MINUS_ONE = np.nextafter(f32(-1), f32(0))


def symmetric(key, shape):
    """Uniform in (-1, 1): what normal and laplace start from, always float32."""
    return uniform(key, shape, ABOVE_MINUS_ONE, f32(1))


def normal(key, shape, dtype="float32", loc=None, scale=None):
    if dtype == "complex64":
        x = erfinv(symmetric(key, tuple(shape) + (2,))).view(np.complex64)[..., 0]
        x = x if scale is None else x * np.complex64(scale)
        return x if loc is None else x + np.complex64(loc)
    t = np_dtype(dtype).type
    factor = t(np.sqrt(2.0)) if scale is None else t(np.sqrt(2.0)) * t(scale)
    x = erfinv(symmetric(key, shape)).astype(t) * factor
    return x if loc is None else x + t(loc)


def mlx_unary(name, x):
    return np.array(getattr(mx, name)(mx.array(np.asarray(x, f32))))


def laplace(key, shape, dtype="float32", loc=None, scale=None):
    t = np_dtype(dtype).type
    u = symmetric(key, shape)
    if dtype == "float64":
        x = np.sign(u) * np.log1p(-np.abs(u.astype(np.float64)))
    else:
        x = (np.sign(u) * mlx_unary("log1p", -np.abs(u))).astype(t)
    x = x if scale is None else x * t(f32(scale))
    return x if loc is None else x + t(f32(loc))


def log_in(x, dtype):
    """log of a value of the dtype, rounded to the dtype once."""
    return mlx_unary("log", np.asarray(x).astype(f32)).astype(np_dtype(dtype))


def gumbel(key, shape, dtype="float32"):
    return -log_in(-log_in(uniform(key, shape, dtype=dtype), dtype), dtype)


def truncated_normal(key, lower, upper, shape, dtype="float32"):
    t = np_dtype(dtype).type
    root = t(np.sqrt(2.0))
    lower, upper = np.asarray(lower, t), np.asarray(upper, t)
    a, b = (mlx_unary("erf", (v / root).astype(f32)).astype(t) for v in (lower, upper))
    x = root * erfinv(uniform(key, shape, a, b, dtype).astype(f32)).astype(t)
    return np.maximum(np.minimum(x, upper), lower)


def categorical(key, logits, axis=-1, shape=None, num_samples=None):
    """Gumbel-max, or for a single distribution and an answer that has axes, the inverse CDF.

    Returns the indices and how far, relative to its neighbour, each choice was from another one.
    """
    logits = np.asarray(logits).astype(f32)
    axis %= logits.ndim
    rest = logits.shape[:axis] + logits.shape[axis + 1 :]
    if num_samples is not None:
        out = rest + (num_samples,)
    else:
        out = rest if shape is None else tuple(shape)
    if logits.size == logits.shape[axis] and out != ():
        z = logits.reshape(-1)
        weights = mlx_unary("exp", z - z.max())
        cdf = np.cumsum(weights, dtype=f32)
        x = uniform(key, out) * cdf[-1]
        index = np.minimum(np.searchsorted(cdf, x, side="right"), z.size - 1)
        margin = np.abs(x[..., None].astype(np.float64) - cdf).min(-1) / cdf[-1]
        return index.astype(np.uint32), margin
    if num_samples is not None:
        noise = gumbel(key, logits.shape + (num_samples,))
        scores, at = logits[..., None] + noise, axis
    else:
        at = axis - logits.ndim
        lead = out[: len(out) - len(rest)]
        full = lead + logits.shape
        scores, at = logits + gumbel(key, full), at + len(full)
    top = np.sort(scores, axis=at)
    margin = np.take(top, -1, at) - np.take(top, -2, at) if scores.shape[at] > 1 else np.ones(1)
    return scores.argmax(at).astype(np.uint32), margin


def permutation(key, n):
    return np.argsort(bits(key, n), kind="stable").astype(np.uint32)


# ------------------------------------------------------------------------------------------------
# MLX has `random::bits` in C++ only. This prints it for many sizes and widths.

BITS_CPP = r"""
#include <cstdio>
#include "mlx/mlx.h"
namespace mx = mlx::core;
int main() {
  unsigned long long seeds[] = {0, 12345, 4294967301ull};
  for (auto seed : seeds)
    for (int width : {1, 2, 4})
      for (int n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 31, 64}) {
        auto a = mx::random::bits({n}, width, mx::random::key(seed));
        mx::eval(a);
        printf("%llu %d %d ", seed, width, n);
        for (int i = 0; i < n * width; i++) printf("%02x", a.data<unsigned char>()[i]);
        printf("\n");
      }
}
"""


def mlx_bits():
    """(seed, width, n, bytes) as MLX's C++ function draws them."""
    home = [p for p in mlx.__path__ if os.path.isdir(os.path.join(p, "include"))][0]
    with tempfile.TemporaryDirectory() as tmp:
        source, program = os.path.join(tmp, "bits.cpp"), os.path.join(tmp, "bits")
        with open(source, "w") as f:
            f.write(BITS_CPP)
        lib = os.path.join(home, "lib")
        subprocess.run(
            ["g++", "-std=c++20", source, "-o", program, f"-I{home}/include", f"-L{lib}", "-lmlx", f"-Wl,-rpath,{lib}"],
            check=True,
        )
        text = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        seed, width, n, data = line.split()
        yield int(seed), int(width), int(n), bytes.fromhex(data)


# ------------------------------------------------------------------------------------------------
# The cases

CASES = []


def as_numpy(a):
    if not isinstance(a, mx.array):
        return np.asarray(a)
    return np.array(a.astype(mx.float32)).astype(ml_dtypes.bfloat16) if a.dtype == mx.bfloat16 else np.array(a)


def same(a, b):
    """Equal in shape, dtype and every bit (any NaN equals any NaN)."""
    a, b = as_numpy(a), as_numpy(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.tobytes() == b.tobytes() or bool(np.all((a == b) | ((a != a) & (b != b))))


def case(fn, key, args, theirs, ours, exact=True, rtol=0.0, atol=0.0, note=None):
    theirs = as_numpy(theirs)
    assert same(theirs, ours), (fn, args, theirs, ours)
    c = {"id": f"{fn}-{len(CASES):03d}", "fn": fn, "key": numbers(key), "args": args}
    c |= {"shape": list(theirs.shape), "dtype": str(theirs.dtype), "exact": exact}
    if not exact:
        c |= {"rtol": rtol, "atol": atol}
    if note:
        c["note"] = note
    c["values"] = numbers(theirs)
    CASES.append(c)


SEEDS = (0, 1, 42, 2**32 + 5, 2**63 + 7, 2**64 - 1)
SHAPES = ((), (1,), (2,), (3,), (5,), (7,), (2, 3), (3, 1, 5))
HALVES = ("float16", "bfloat16")


def main():
    for seed in SEEDS:
        case("key", make_key(seed), {"seed": str(seed)}, mx.random.key(seed), make_key(seed))
    keys = {s: make_key(s) for s in SEEDS}
    K = lambda seed: (mx.array(keys[seed]), keys[seed])

    for seed, width, n, data in mlx_bits():
        ours = bits(make_key(seed), n, width)
        assert ours.tobytes() == data, (seed, width, n)
        if n <= 17 and (seed == 0 or n in (1, 3, 5, 6)):
            theirs = np.frombuffer(data, ours.dtype)
            case("bits", make_key(seed), {"width": width}, theirs, ours)
    for seed in (0, 42, 2**32 + 5):
        for num in (1, 2, 3, 4, 5):
            m, k = K(seed)
            case("split", k, {"num": num}, mx.random.split(m, num), split(k, num))
    m, k = K(42)
    assert same(mx.random.split(m, 1001), split(k, 1001))

    # uniform
    for seed in SEEDS:
        m, k = K(seed)
        for shape in SHAPES if seed in (0, 42) else SHAPES[4:5]:
            case("uniform", k, {"low": 0.0, "high": 1.0}, mx.random.uniform(shape=shape, key=m), uniform(k, shape))
    for low, high in ((-1.0, 1.0), (-2.3, 5.7), (5.0, 5.0), (3.0, -3.0), (0.0, 1e-30), (1e6, 1e6 + 1)):
        m, k = K(42)
        theirs = mx.random.uniform(low, high, (7,), key=m)
        case("uniform", k, {"low": low, "high": high}, theirs, uniform(k, (7,), low, high))
    low, high = [0.0, 10.0, 100.0], [1.0, 20.0, 300.0]
    theirs = mx.random.uniform(mx.array(low), mx.array(high), (4, 3), key=m)
    case("uniform", k, {"low": low, "high": high}, theirs, uniform(k, (4, 3), low, high))
    for dtype in HALVES:
        t = getattr(mx, dtype)
        for low, high in ((0.0, 1.0), (-1.0, 1.0), (-2.3, 5.7)):
            theirs = mx.random.uniform(low, high, (33,), t, key=m)
            case("uniform", k, {"low": low, "high": high}, theirs, uniform(k, (33,), low, high, dtype))
            assert same(mx.random.uniform(low, high, (MANY,), t, key=m), uniform(k, (MANY,), low, high, dtype))
    case("uniform", k, {"low": 0.0, "high": 1.0}, mx.random.uniform(shape=(0,), key=m), uniform(k, (0,)))

    # A long draw, told by its first and last values, wrapping sum and xor.
    for n in (1_000_000, 1_000_003):
        word = bits(k, n)
        assert same(mx.random.uniform(shape=(n,), key=m), uniform(k, (n,)))
        head = np.concatenate([word[:2], word[n // 2 - 1 : n // 2 + 2], word[-2:]])
        at = [0, 1, n // 2 - 1, n // 2, n // 2 + 1, n - 2, n - 1]
        args = {"width": 4, "n": n, "at": at, "sum": str(int(word.astype(np.uint64).sum())), "xor": int(np.bitwise_xor.reduce(word))}
        case("bits_long", k, args, head, head, note="values[i] is element at[i] of n; sum and xor run over all n words")

    # randint
    for dtype, low, high in (
        ("int32", 0, 10), ("int32", -5, 5), ("int32", -3, -1), ("int32", 0, 1), ("int32", 5, 5), ("int32", 5, 3),
        ("int32", 0, 2**31 - 1), ("int64", 0, 2**40), ("int64", -(2**40), 2**40), ("uint8", 0, 256),
        ("uint16", 0, 200), ("uint32", 10, 4_000_000_000), ("uint64", 0, 1000), ("int8", -128, 127), ("int16", -300, 300),
        ("bool", 0, 2),
    ):  # fmt: skip
        t = getattr(mx, "bool_" if dtype == "bool" else dtype)
        for shape in ((7,), (2, 3)) if dtype == "int32" and high == 10 else ((7,),):
            theirs = mx.random.randint(low, high, shape, t, key=m)
            case("randint", k, {"low": low, "high": high}, theirs, randint(k, low, high, shape, dtype))
        assert same(mx.random.randint(low, high, (MANY,), t, key=m), randint(k, low, high, (MANY,), dtype))
    low, high = [0, 10, -100], [5, 20, 300]
    theirs = mx.random.randint(mx.array(low), mx.array(high), (4, 3), key=m)
    case("randint", k, {"low": low, "high": high}, theirs, randint(k, low, high, (4, 3)))

    # bernoulli
    for p in (0.0, 0.3, 0.5, 1.0):
        theirs = mx.random.bernoulli(p, (9,), key=m)
        case("bernoulli", k, {"p": p}, theirs, bernoulli(k, p, (9,)))
        assert same(mx.random.bernoulli(p, (MANY,), key=m), bernoulli(k, p, (MANY,)))
    p = [[0.1, 0.5, 0.9], [0.0, 1.0, 0.25]]
    case("bernoulli", k, {"p": p}, mx.random.bernoulli(mx.array(p), key=m), bernoulli(k, f32(p), (2, 3)))

    # permutation
    for seed in (0, 42):
        m, k = K(seed)
        for n in (0, 1, 2, 5, 8, 33):
            case("permutation", k, {"n": n}, mx.random.permutation(n, key=m), permutation(k, n))
    assert same(mx.random.permutation(100_000, key=m), permutation(k, 100_000))
    x = np.arange(15, dtype=np.int32).reshape(5, 3)
    for axis in (0, 1, -1):
        theirs = mx.random.permutation(mx.array(x), axis=axis, key=m)
        ours = np.take(x, permutation(k, x.shape[axis]), axis)
        case("permutation_of", k, {"x": x.tolist(), "axis": axis}, theirs, ours)

    # normal
    tol = {"exact": False, "rtol": 3e-7, "atol": 1e-7}
    half = lambda dtype: {"exact": False, "rtol": {"float16": 2e-3, "bfloat16": 1.6e-2}[dtype], "atol": 1e-3}
    for seed in SEEDS:
        m, k = K(seed)
        for shape in SHAPES if seed in (0, 42) else SHAPES[4:5]:
            case("normal", k, {"loc": None, "scale": None}, mx.random.normal(shape, key=m), normal(k, shape), **tol)
    m, k = K(42)
    for loc, scale in ((1.5, 0.3), (None, 2.0), (-4.0, None), (0.1, 0.7)):
        theirs = mx.random.normal((7,), loc=loc, scale=scale, key=m)
        case("normal", k, {"loc": loc, "scale": scale}, theirs, normal(k, (7,), loc=loc, scale=scale), **tol)
    assert same(mx.random.normal((10 * MANY,), key=m), normal(k, (10 * MANY,)))
    for dtype in HALVES:
        t = getattr(mx, dtype)
        for loc, scale in ((None, None), (1.5, 0.3), (0.1, 1.1)):
            a = {"loc": loc, "scale": scale}
            case("normal", k, a, mx.random.normal((9,), t, key=m, **a), normal(k, (9,), dtype, **a), **half(dtype))
            assert same(mx.random.normal((MANY,), t, key=m, **a), normal(k, (MANY,), dtype, **a))
    for a in ({"loc": None, "scale": None}, {"loc": 1.5, "scale": 0.3}):
        theirs = mx.random.normal((5,), mx.float64, key=m, **a)
        case("normal", k, a, theirs, normal(k, (5,), "float64", **a), **tol)
    for a in ({"loc": 0.0, "scale": 1.0}, {"loc": 1.5, "scale": 0.3}):
        theirs = mx.random.laplace((5,), mx.float64, key=m, **a)
        case("laplace", k, a, theirs, laplace(k, (5,), "float64", **a), exact=False, rtol=2e-6, atol=5e-7)
    case("normal", k, {"loc": None, "scale": None}, mx.random.normal((5,), mx.complex64, key=m), normal(k, (5,), "complex64"), **tol)
    case("erfinv", k, {"of": "uniform(nextafter(-1,0), 1)"}, mx.erfinv(mx.array(symmetric(k, (40,)))), erfinv(symmetric(k, (40,))), **tol)

    # laplace, gumbel, truncated_normal
    loose = {"exact": False, "rtol": 2e-6, "atol": 5e-7}
    for a in ({}, {"loc": 1.5, "scale": 0.3}):
        full = {"loc": None, "scale": None} | a
        case("laplace", k, full, mx.random.laplace((9,), key=m, **a), laplace(k, (9,), **a), **loose)
        assert same(mx.random.laplace((MANY,), key=m, **a), laplace(k, (MANY,), **a))
        for dtype in HALVES:
            t = getattr(mx, dtype)
            case("laplace", k, full, mx.random.laplace((9,), t, key=m, **a), laplace(k, (9,), dtype, **a), **half(dtype))
            assert same(mx.random.laplace((MANY,), t, key=m, **a), laplace(k, (MANY,), dtype, **a))
    for shape in ((1,), (3,), (2, 5)):
        case("gumbel", k, {}, mx.random.gumbel(shape, key=m), gumbel(k, shape), **loose)
    assert same(mx.random.gumbel((MANY,), key=m), gumbel(k, (MANY,)))
    for dtype in HALVES:
        t = getattr(mx, dtype)
        note = "MLX works in the half dtype throughout, so the tails are coarse and short"
        case("gumbel", k, {}, mx.random.gumbel((9,), t, key=m), gumbel(k, (9,), dtype), note=note, **half(dtype))
        assert same(mx.random.gumbel((MANY,), t, key=m), gumbel(k, (MANY,), dtype))
    for lower, upper in ((-2.0, 2.0), (-0.5, 3.0), (1.0, 1.5), (5.0, 6.0)):
        theirs = mx.random.truncated_normal(lower, upper, (9,), key=m)
        # erfinv is steep at the ends: one ulp of erf(5/sqrt 2) is seen in the third digit.
        t = loose if lower < 5 else {"exact": False, "rtol": 3e-2, "atol": 0.0}
        case("truncated_normal", k, {"lower": lower, "upper": upper}, theirs, truncated_normal(k, lower, upper, (9,)), **t)
        assert same(mx.random.truncated_normal(lower, upper, (MANY,), key=m), truncated_normal(k, lower, upper, (MANY,)))
    for dtype in HALVES:
        theirs = mx.random.truncated_normal(-2, 2, (MANY,), getattr(mx, dtype), key=m)
        assert same(theirs, truncated_normal(k, -2, 2, (MANY,), dtype))
    lower, upper = [-1.0, 0.0], [0.0, 3.0]
    theirs = mx.random.truncated_normal(mx.array(lower), mx.array(upper), (4, 2), key=m)
    case("truncated_normal", k, {"lower": lower, "upper": upper}, theirs, truncated_normal(k, lower, upper, (4, 2)), **loose)

    # categorical: every written choice is clear of the next one by more than rounding
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype(f32)
    flat, wide = logits[0], np.random.default_rng(1).normal(size=300).astype(f32) * 2
    cold = np.where(wide < 0, f32(-np.inf), wide)
    table = {"logits": logits, "flat": flat, "one_row": flat[None], "one_column": flat[:, None], "wide": wide[None], "cold": cold}
    for name, a in (
        ("logits", {}), ("logits", {"axis": 0}), ("logits", {"num_samples": 4}), ("logits", {"axis": 0, "num_samples": 2}),
        ("logits", {"shape": [4, 3]}), ("flat", {}), ("flat", {"num_samples": 1}), ("flat", {"num_samples": 8}),
        ("flat", {"shape": [2, 3]}), ("one_row", {}), ("one_row", {"num_samples": 5}), ("one_column", {"axis": 0, "num_samples": 3}),
        ("wide", {}), ("wide", {"num_samples": 12}), ("cold", {"num_samples": 12}),
    ):  # fmt: skip
        for seed in (0, 42):
            m, k = K(seed)
            z = table[name]
            theirs = mx.random.categorical(mx.array(z), key=m, **a)
            ours, margin = categorical(k, z, **a)
            assert np.min(margin) > 2e-6, (name, a, np.min(margin))
            case("categorical", k, {"logits_shape": list(z.shape), "logits": numbers(z), "axis": -1} | a, theirs, ours)
    for n in (1, 100, MANY):
        assert same(mx.random.categorical(mx.array(wide), num_samples=n, key=m), categorical(k, wide, num_samples=n)[0])
    for dtype in HALVES:
        z = mx.array(wide).astype(getattr(mx, dtype))
        assert same(mx.random.categorical(z, num_samples=MANY, key=m), categorical(k, as_numpy(z), num_samples=MANY)[0])

    # multivariate_normal: mean + z @ (U sqrt(S) V^T), the symmetric square root
    mean, cov = f32([1, 2]), f32([[2, 0.5], [0.5, 1]])
    w, v = np.linalg.eigh(cov.astype(np.float64))
    ours = mean + normal(k, (4, 2)).astype(np.float64) @ (v * np.sqrt(w)) @ v.T
    theirs = np.array(mx.random.multivariate_normal(mx.array(mean), mx.array(cov), (4,), key=m, stream=mx.cpu))
    assert np.allclose(theirs, ours, atol=1e-6)
    a = {"mean": mean.tolist(), "cov": cov.tolist()}
    case("multivariate_normal", k, a, theirs, theirs, exact=False, rtol=1e-5, atol=1e-5)

    # The generator without a key: each call takes state, use = split(state)
    for seed in (0, 42):
        mx.random.seed(seed)
        state = make_key(seed)
        for i in range(3):
            theirs = mx.random.uniform(shape=(3,))
            state, use = split(state)
            case("implicit", make_key(seed), {"seed": str(seed), "call": i, "then": "uniform"}, theirs, uniform(use, (3,)))
            assert same(mx.random.state[0], state)
    # vmap over keys draws, for each key, what that key draws alone
    m, k = K(42)
    theirs = mx.vmap(lambda key: mx.random.uniform(shape=(3,), key=key))(mx.random.split(m, 4))
    case("vmap_uniform", k, {"split": 4}, theirs, np.stack([uniform(q, (3,)) for q in split(k, 4)]))

    from importlib.metadata import version

    write_json("random.json", {"source": "mlx " + version("mlx"), "see": "random.md"}, CASES)


if __name__ == "__main__":
    main()
