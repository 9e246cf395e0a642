"""functions.json: functions of whole arrays that ops.json does not have, with their extreme cases.

    pip install "mlx[cpu]" numpy
    python functions.py

Inputs and outputs are written in the cases, as `{"dtype", "shape", "values"}`. `by` names the reference: "numpy"
(computed in float64 and rounded once to the dtype of the output) or "mlx". Where MLX has a function that NumPy
has too, the script stops if the two differ. Values are compared within `rtol` and `atol` (0 if missing).
"""

import math
from importlib.metadata import version

import mlx.core as mx
import numpy as np

from golden import numbers, write_json

np.seterr(all="ignore")
rng = np.random.default_rng(5)
f32, f64, i32, u32 = np.float32, np.float64, np.int32, np.uint32
NAN, INF = math.nan, math.inf
CASES, COUNT = [], {}


def tensor(a):
    a = np.asarray(a)
    return {"dtype": str(a.dtype), "shape": list(a.shape), "values": numbers(a)}


def case(fn, inputs, ref, args=None, mlx=None, rtol=0.0, atol=0.0, by="numpy"):
    """`ref` is the outputs, or None for refused; `mlx` what MLX says to it."""
    n = COUNT[fn] = COUNT.get(fn, -1) + 1
    c = {"id": f"{fn}-{n}", "fn": fn, "by": by, "inputs": [tensor(a) for a in inputs], "args": args or {}}
    if ref is not None:
        ref = [np.asarray(r) for r in (ref if isinstance(ref, (list, tuple)) else [ref])]
        if mlx is not None:
            theirs = mlx(*(mx.array(a, mx.float64) if a.dtype == f64 else mx.array(a) for a in map(np.asarray, inputs)))
            theirs = [np.array(t) for t in (theirs if isinstance(theirs, (list, tuple)) else [theirs])]
            for r, t in zip(ref, theirs, strict=True):
                same = r.shape == t.shape and r.dtype == t.dtype
                assert same and np.allclose(r, t, rtol or 1e-5, atol or 1e-6, equal_nan=r.dtype.kind in "fc"), (fn, args, r, t)
        c["outputs"] = [tensor(r) for r in ref]
        if rtol or atol:
            c |= {"rtol": rtol, "atol": atol}
    else:
        c["outputs"] = None
    CASES.append(c)


def normals(*shape):
    return rng.standard_normal(shape).astype(f32)


def quantiles():
    x, odd = normals(4, 5), f32([[1, NAN, 3], [INF, -INF, 0]])
    ints = rng.integers(-9, 9, (3, 4)).astype(i32)
    how = ["linear", "lower", "higher", "midpoint", "nearest"]
    for method in how:
        for q in [0, 0.1, 0.25, 0.5, 0.9, 1]:
            for axis in [None, 0, 1]:
                # Nearest rounds a place, which must not lie on an edge by rounding alone.
                ref = np.quantile(x.astype(f64), q, axis, method=method).astype(f32)
                case("quantile", [x], ref, {"q": q, "axis": axis, "method": method}, rtol=1e-6, atol=1e-7)
        q = f64([[0.2, 0.7]])
        ref = np.quantile(x.astype(f64), q, 1, method=method).astype(f32)
        case("quantile", [x, q], ref, {"axis": 1, "method": method}, rtol=1e-6, atol=1e-7)
        ref = np.percentile(ints, 30, 0, method=method).astype(f32)
        case("percentile", [ints], ref, {"q": 30, "axis": 0, "method": method}, rtol=1e-6, atol=1e-7)
        for q in [0, 0.5, 1]:
            ref = np.quantile(odd[0], q, method=method).astype(f32)
            case("quantile", [odd[0]], ref, {"q": q, "axis": None, "method": method})
    for q in [0, 1]:
        ref = np.quantile(odd, q, axis=0).astype(f32)
        case("quantile", [odd], ref, {"q": q, "axis": 0, "method": "linear"})
    # Lines of equal infinities, and of one element.
    case("quantile", [f32([INF, INF])], f32(INF), {"q": 0.5, "axis": None, "method": "linear"})
    case("quantile", [f32([7])], f32(7), {"q": 0.3, "axis": None, "method": "linear"})
    ref = np.quantile(x.astype(f64), 0.3, axis=(0, 1), keepdims=True).astype(f32)
    case("quantile", [x], ref, {"q": 0.3, "axis": [0, 1], "method": "linear", "keepdims": True}, rtol=1e-6, atol=1e-7)
    ref = np.quantile(x.astype(f64), f64([0.3, 0.4]), axis=1, keepdims=True).astype(f32)
    case("quantile", [x, f64([0.3, 0.4])], ref, {"axis": 1, "method": "linear", "keepdims": True}, rtol=1e-6, atol=1e-7)
    for bad in [-0.1, 1.5]:
        case("quantile", [x], None, {"q": bad, "axis": None, "method": "linear"})
        case("quantile", [x, f64([0.5, bad])], None, {"axis": None, "method": "linear"})
    case("quantile", [np.zeros((0,), f32)], None, {"q": 0.5, "axis": None, "method": "linear"})


def counting():
    x = f32([0.1, 0.5, -2, 3, NAN, INF, -INF, 1, 1, 2.5])
    edges = f32([-1, 0, 0.5, 1, 3])
    w = normals(10)
    case("histogram", [x, edges], np.histogram(x[np.isfinite(x)], edges)[0].astype(i32))
    ok = np.isfinite(x)
    case("histogram", [x, edges, w], np.histogram(x[ok], edges, weights=w[ok])[0].astype(f32), rtol=1e-6, atol=1e-6)
    ints = rng.integers(0, 7, (3, 5)).astype(i32)
    case("histogram", [ints, i32([0, 2, 5, 6])], np.histogram(ints, i32([0, 2, 5, 6]))[0].astype(i32))
    y = normals(50)
    for bins, limits in [(10, None), (1, None), (7, (-1.0, 1.5)), (3, (0.0, 0.0))]:
        counts, edges = np.histogram(y, bins, limits)
        case("histogram_bins", [y], [counts.astype(i32), edges.astype(f32)], {"bins": bins, "range": limits}, rtol=1e-6, atol=1e-6)
    counts, edges = np.histogram(i32([2, 2]), 4)
    case("histogram_bins", [i32([2, 2])], [counts.astype(i32), edges.astype(f32)], {"bins": 4, "range": None})
    for a in (ints, np.uint8([3, 0, 3]), np.int64([]), np.int64([5])):
        case("bincount", [a], np.bincount(a.reshape(-1)).astype(i32), {"min_length": 0})
    case("bincount", [np.uint8([1, 1])], np.bincount(np.uint8([1, 1]), minlength=4).astype(i32), {"min_length": 4})
    case("bincount", [i32([0, 2, 0]), f32([0.5, 1, 2])], np.bincount(i32([0, 2, 0]), f32([0.5, 1, 2])).astype(f32), {"min_length": 0})
    case("bincount", [i32([0, -1])], None, {"min_length": 0})
    xs, ys = np.sort(normals(6)), normals(6)
    at = f32([-9, 9, NAN, INF, -INF, *xs, *((xs[1:] + xs[:-1]) / 2)])
    case("interp", [at, xs, ys], np.interp(at.astype(f64), xs, ys).astype(f32), rtol=1e-5, atol=1e-6)
    case("interp", [i32([0, 1, 5]), i32([0, 2, 4]), i32([0, 10, 0])], np.interp([0, 1, 5], [0, 2, 4], [0, 10, 0]).astype(f32))
    case("interp", [f32([1, 2, 3]), f32([1, 2, 2, 3]), f32([0, 1, 5, 6])], f32([0, 5, 6]))
    a = normals(3, 6)
    for ddof in (0, 1):
        case("cov", [a], np.cov(a.astype(f64), ddof=ddof).astype(f32), {"ddof": ddof}, rtol=1e-5, atol=1e-6)
    case("cov", [a[0]], np.cov(a[0].astype(f64), ddof=1).astype(f32), {"ddof": 1}, rtol=1e-5, atol=1e-6)
    c = (normals(2, 4) + 1j * normals(2, 4)).astype(np.complex64)
    case("cov", [c], np.cov(c.astype(np.complex128), ddof=1).astype(np.complex64), {"ddof": 1}, rtol=1e-5, atol=1e-6)


def order():
    s = np.sort(f32([-INF, -2, -0.0, 0.0, 1, 1, 1, 5, INF, NAN, NAN]))
    v = f32([[-INF, -3, -0.0, 0.0], [1, 1.5, INF, NAN]])
    for side in ("left", "right"):
        f = lambda a, b: mx.searchsorted(a, b, side=side)
        case("searchsorted", [s, v], np.searchsorted(s, v, side).astype(u32), {"side": side}, mlx=f)
        case("searchsorted", [np.zeros(0, f32), v], np.zeros((2, 4), u32), {"side": side}, mlx=f)
        case("searchsorted", [s, f32(1)], np.searchsorted(s, f32(1), side).astype(u32), {"side": side}, mlx=f)
        case("searchsorted", [s, np.zeros((2, 0), f32)], np.zeros((2, 0), u32), {"side": side}, mlx=f)
        for t in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "uint64", "int64", "float16", "float64"):
            a = np.sort(rng.integers(0, 9, 12).astype(t))
            b = rng.integers(0, 10, (2, 3)).astype(t)
            case("searchsorted", [a, b], np.searchsorted(a, b, side).astype(u32), {"side": side}, mlx=f)
        # Lines of several rows, as torch has them.
        a, b = np.sort(normals(2, 3, 7)), normals(2, 3, 4)
        rows = [np.searchsorted(x, y, side) for x, y in zip(a.reshape(-1, 7), b.reshape(-1, 4))]
        case("searchsorted", [a, b], np.reshape(rows, (2, 3, 4)).astype(u32), {"side": side})
    for a in (i32([3, 1, 1, 2, 3]), f32([0.0, -0.0, NAN, 1, NAN]), rng.integers(0, 4, (3, 4)).astype(np.uint8), np.zeros((0, 2), f32), np.array([True, False, True]), np.complex64([1j, 2, 1j, 1])):
        u = np.unique(a, return_index=True, return_inverse=True, return_counts=True)
        case("unique", [a], [u[0], u[1].astype(u32), u[2].reshape(a.shape).astype(u32), u[3].astype(i32)])
    for a in (i32([3, 1, 1, 2, 3]), f32([0.0, -0.0, NAN, 1, NAN]), rng.integers(0, 4, (3, 4)).astype(np.uint8)):
        for size in (1, 2, 3, 6, 20):
            for fill in (None, 7):
                out = mx.unique(mx.array(a), size, True, True, True, fill_value=fill)
                case("unique_sized", [a], [np.array(o) for o in out], {"size": size, "fill": fill}, by="mlx")
    a, b = rng.integers(0, 9, (2, 5)).astype(i32), rng.integers(0, 9, 4).astype(i32)
    case("isin", [a, b], np.isin(a, b))
    case("isin", [f32([NAN, -0.0, INF]), f32([0, NAN, INF])], np.isin(f32([NAN, -0.0, INF]), f32([0, NAN, INF])))
    case("isin", [a, np.zeros(0, i32)], np.isin(a, []))
    x = normals(3, 4)
    for k in (0, 1, 4):
        for axis in (-1,):
            case("topk", [x], np.sort(x, axis)[:, 4 - k :], {"k": k, "axis": axis}, mlx=lambda a: mx.sort(mx.topk(a, k, axis), axis))
    case("topk", [x], None, {"k": 5, "axis": 1})


def masks():
    for a in (i32([[0, 3, 0], [1, 0, 2]]), np.zeros((2, 0), f32), f32([NAN, -0.0, 0.0, INF]), np.array([[[True]], [[False]]]), np.complex64([0, 1j])):
        case("nonzero", [a], [n.astype(u32) for n in np.nonzero(a)])
        case("argwhere", [a], np.argwhere(a).astype(u32))
    for a in (f32(2), f32(0)):
        case("argwhere", [a], np.argwhere(a).astype(u32))
    case("nonzero", [f32(1)], None)
    x = normals(3, 4)
    m = x > 0
    case("masked_select", [x, m], x[m])
    row = np.array([True, False, True, True])
    case("masked_select", [x, row], x[np.broadcast_to(row, x.shape)])
    case("masked_select", [x[:1], m], np.broadcast_to(x[:1], x.shape)[m])
    case("masked_select", [x, np.array(False)], x[:0].reshape(-1))
    case("masked_select", [x, np.array([True, False])], None)
    for c, axis in ((row, 1), (np.array([False, True]), 0), (np.array([False] * 3), -2)):
        case("compress", [x, c], np.compress(c, x, axis), {"axis": axis})
    case("compress", [x, np.array([True] * 5)], None, {"axis": 1})
    case("compress", [x, m], None, {"axis": 0})


def shapes():
    x = rng.integers(0, 99, (3, 4)).astype(i32)
    for shape, strides, offset in [((2, 2), (1, 1), 1), ((3, 3), (4, 1), 0), ((5,), (2,), 2), ((2, 3), (0, 5), 0), ((), (), 7), ((0, 3), (1, 1), 0)]:
        flat = np.lib.stride_tricks.as_strided(x.reshape(-1)[offset:], shape, [4 * s for s in strides])
        case("as_strided", [x], flat, {"shape": shape, "strides": strides, "offset": offset}, mlx=lambda a: mx.as_strided(a, shape, strides, offset))
        flat = np.lib.stride_tricks.as_strided(np.ascontiguousarray(x.T).reshape(-1)[offset:], shape, [4 * s for s in strides])
        case("as_strided", [x], flat, {"shape": shape, "strides": strides, "offset": offset, "transposed": True}, mlx=lambda a: mx.as_strided(a.T, shape, strides, offset))
    for shape, strides, offset in [((13,), (1,), 0), ((2,), (-1,), 0), ((2, 2), (1,), 0), ((1,), (1,), 12)]:
        case("as_strided", [x], None, {"shape": shape, "strides": strides, "offset": offset})
    cube = rng.integers(0, 99, (2, 3, 4)).astype(i32)
    for k in (-5, 0, 1, 2, 3, 4):
        for axes in ((0, 1), (1, 2), (2, 0), (-1, -3)):
            case("rot90", [cube], np.rot90(cube, k, axes), {"k": k, "axes": axes})
    case("rot90", [cube], None, {"k": 1, "axes": [1, -2]})
    for shift, axis in [(1, None), (-7, None), ((1, 2), None), (2, 0), ((1, -1), (0, 1)), (3, (0, 1)), ((1, 1), (1, 1)), (10**12 + 1, 1)]:
        f = None if abs(np.sum(shift)) > 10**6 else lambda a: mx.roll(a, shift, axis)
        case("roll", [x], np.roll(x, shift, axis), {"shift": shift, "axis": axis}, mlx=f)
    case("roll", [np.zeros((0, 2), f32)], np.zeros((0, 2), f32), {"shift": 1, "axis": 0})
    case("roll", [x], None, {"shift": [1, 2, 3], "axis": [0, 1]})
    for a in (f32(3), f32([1, 2]), normals(2, 3), normals(2, 3, 4)):
        for n in (1, 2, 3):
            case("atleast", [a], getattr(np, f"atleast_{n}d")(a), {"n": n}, mlx=lambda a: getattr(mx, f"atleast_{n}d")(a))
    for axis in (0, 1, -1):
        case("unstack", [cube], list(np.unstack(cube, axis=axis)), {"axis": axis}, mlx=lambda a: mx.unstack(a, axis=axis))
    for n, axis in [(0, 0), (1, 0), (1, -1), (2, 1), (3, 1), (4, 1), (9, 0)]:
        case("diff", [cube], np.diff(cube, n, axis), {"n": n, "axis": axis}, mlx=lambda a: mx.diff(a, n, axis))
    case("diff", [np.uint8([3, 1, 200])], np.diff(np.uint8([3, 1, 200])), {"n": 1, "axis": 0}, mlx=mx.diff)
    case("diff", [np.array([True, False, False])], np.diff([True, False, False]), {"n": 1, "axis": 0}, mlx=mx.diff)
    for sparse in (True, False):
        for indexing in ("xy", "ij"):
            g = [np.arange(2, dtype=i32), np.arange(3, dtype=i32), np.arange(4, dtype=i32)]
            out = list(np.meshgrid(*g, sparse=sparse, indexing=indexing))
            case("meshgrid", g, out, {"sparse": sparse, "indexing": indexing}, mlx=lambda *a: mx.meshgrid(*a, sparse=sparse, indexing=indexing))
    for start, stop, num in [(0, 1, 5), (2, -3, 4), (1, 1, 3), (0, 1, 1), (0, 1, 0)]:
        out = np.linspace(start, stop, num, endpoint=False).astype(f32)
        case("linspace_open", [], out, {"start": start, "stop": stop, "num": num}, mlx=lambda: mx.linspace(start, stop, num, endpoint=False), rtol=1e-6, atol=1e-7)
    for name in ("bartlett", "hanning", "hamming", "blackman"):
        for m in (0, 1, 2, 5, 64):
            case(name, [], getattr(np, name)(m).astype(f32), {"m": m}, mlx=lambda: getattr(mx, name)(m), rtol=1e-6, atol=1e-6)
    # Blocks that begin where data says.
    z = np.zeros((3, 4), i32)
    for shape, start, axes in [((2, 2), (1, 2), (0, 1)), ((2,), (1,), (1,)), ((3, 1), (3,), (1,)), ((2, 1), (1,), (0,)), ((4,), (2,), (0,))]:
        u = rng.integers(1, 9, shape).astype(i32)
        out = z.copy()
        # A missing axis is whole, or one place where there is a start; others begin at 0 without one.
        size = tuple(1 if i in axes else z.shape[i] for i in range(2 - u.ndim)) + u.shape
        first = [start[axes.index(i)] if i in axes else 0 for i in range(2)]
        out[tuple(slice(f, f + n) for f, n in zip(first, size))] = u
        case("slice_update", [z, u, i32(start)], out, {"axes": axes}, mlx=lambda a, b, c: mx.slice_update(a, b, c, axes))
    case("slice_update", [z, i32([[1, 2]]), i32([3])], None, {"axes": [1]})
    x = rng.integers(0, 99, (3, 4)).astype(i32)
    for size, start, axes in [((3, 2), (2,), (1,)), ((2, 2), (1,), (0,)), ((1, 1), (2, 3), (0, 1)), ((0, 4), (3,), (0,))]:
        first = [start[axes.index(i)] if i in axes else 0 for i in range(2)]
        out = x[tuple(slice(f, f + n) for f, n in zip(first, size))]
        case("slice", [x, i32(start)], out, {"axes": axes, "size": size}, mlx=lambda a, b: mx.slice(a, b, axes, size))
    case("slice", [x, i32([3])], None, {"axes": [1], "size": [3, 2]})
    case("slice", [x, i32([-1])], None, {"axes": [0], "size": [1, 4]})


def products():
    for a, b in [((2, 3), (4, 2)), ((3,), (2, 2)), ((2, 2), (3,)), ((), (2, 2)), ((2, 1, 2), (1, 3, 1)), ((0,), (2,))]:
        x, y = rng.integers(-3, 4, a).astype(i32), rng.integers(-3, 4, b).astype(i32)
        case("kron", [x, y], np.kron(x, y), mlx=None if 0 in a else mx.kron)
    x, y = normals(2, 3, 4), normals(2, 3, 4)
    for axis in (-1, 0, 1):
        ref = np.sum(x.astype(f64) * y, axis).astype(f32)
        case("vecdot", [x, y], ref, {"axis": axis}, mlx=lambda a, b: mx.vecdot(a, b, axis=axis), rtol=1e-5, atol=1e-6)
    c = (normals(3) + 1j * normals(3)).astype(np.complex64)
    d = (normals(2, 3) + 1j * normals(2, 3)).astype(np.complex64)
    case("vecdot", [d, d], np.vecdot(d, d), {"axis": -1}, mlx=mx.vecdot, rtol=1e-5, atol=1e-6)
    case("vecdot", [c, d], np.vecdot(c, d), {"axis": -1}, rtol=1e-5, atol=1e-6)
    case("vecdot", [i32([1, 2]), i32([3, 4])], i32(11), {"axis": -1}, mlx=mx.vecdot)
    x, y = normals(2, 3, 4), normals(3, 4, 5)
    case("tensordot", [x, y], np.tensordot(x, y, 2), {"count": 2}, mlx=lambda a, b: mx.tensordot(a, b, 2), rtol=1e-5, atol=1e-5)
    case("tensordot", [x[0], y[0]], np.tensordot(x[0], y[0], 0), {"count": 0}, mlx=lambda a, b: mx.tensordot(a, b, 0), rtol=1e-6, atol=1e-6)
    case("tensordot", [x, y], None, {"count": 4})
    for d in ("bool", "uint8", "int8", "int16", "int32", "float32"):
        a = np.ones((2, 3), d)
        case("trace", [a], np.array(mx.trace(mx.array(a))), {"offset": 0}, by="mlx")
    cube = normals(3, 4, 5)
    for offset, a, b in [(0, 0, 1), (2, 2, 0), (-1, -1, 1), (9, 0, 1)]:
        ref = np.trace(cube.astype(f64), offset, a, b).astype(f32)
        case("trace", [cube], ref, {"offset": offset, "axes": [a, b]}, mlx=lambda x: mx.trace(x, offset, a, b), rtol=1e-5, atol=1e-6)
        case("diagonal", [cube], np.diagonal(cube, offset, a, b), {"offset": offset, "axes": [a, b]}, mlx=lambda x: mx.diagonal(x, offset, a, b))
    sums = [
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij,jk", (2, 3), (3, 4)),
        ("ba,cb", (2, 3), (4, 2)),
        ("i,i", (5,), (5,)),
        ("i,j->ji", (2,), (3,)),
        (",ij->j", (), (2, 3)),
        ("ii->i", (4, 4)),
        ("ii", (4, 4)),
        ("iji->j", (3, 2, 3)),
        ("iij,jk->ik", (3, 3, 2), (2, 4)),
        ("...i,...i->...", (2, 3, 4), (3, 4)),
        ("...i,i...", (2, 4), (4, 2)),
        ("i...->...", (2, 3, 4)),
        ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
        ("a...b,b->...a", (2, 3, 4), (4,)),
        ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 5), (5, 2)),
        ("ij,ik,il->jkl", (4, 2), (4, 3), (4, 2)),
        ("abc,cd,be,af->def", (2, 3, 4), (4, 2), (3, 2), (2, 3)),
        ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        ("bhwij,bcij,hw->bchw", (2, 3, 2, 2, 2), (2, 2, 2, 2), (3, 2)),
        ("ij,ij,ij->", (3, 4), (3, 4), (3, 4)),
        ("i,j,k,l,m->mkijl", (2,), (3,), (2,), (2,), (3,)),
        ("ij,kl->", (2, 3), (2, 2)),
        ("Ab,bC->AC", (2, 3), (3, 2)),
        ("i j , j k -> i k", (2, 3), (3, 2)),
    ]
    for text, *dims in sums:
        x = [normals(*d) for d in dims]
        ref = np.einsum(text, *(a.astype(f64) for a in x)).astype(f32)
        # MLX allows a label once in an operand with an ellipsis only in some cases; NumPy is the reference.
        mlx = lambda *a: mx.einsum(text, *a)
        try:
            mlx(*map(mx.array, x))
        except ValueError:
            mlx = None
        case("einsum", x, ref, {"subscripts": text}, mlx=mlx, rtol=1e-5, atol=1e-5)
    ints = [rng.integers(-5, 6, s).astype(i32) for s in ((2, 3), (3, 2))]
    case("einsum", ints, np.einsum("ij,jk->ik", *ints), {"subscripts": "ij,jk->ik"})
    # A length of one broadcasts.
    x = [normals(1, 3), normals(2, 3), normals(2, 1)]
    case("einsum", x, np.einsum("ij,ij,ij->ij", *x), {"subscripts": "ij,ij,ij->ij"}, rtol=1e-5, atol=1e-6)
    case("einsum", x[:2], np.einsum("ij,ij->", *x[:2]), {"subscripts": "ij,ij->"}, rtol=1e-5, atol=1e-5)
    for text in ("ij,jk->iz", "ij->ii", "i,jk", "ij,j", "i..j,jk"):
        case("einsum", [normals(2, 3), normals(3, 4)], None, {"subscripts": text})


def views():
    x = rng.integers(0, 99, (2, 1, 3, 4)).astype(i32)
    for shape in ((6, 4), (-1,), (2, -1, 2), (1, 24, 1)):
        case("reshape", [x], x.reshape(shape), {"shape": shape}, mlx=lambda a: mx.reshape(a, shape))
    for bad in ((5, -1), (-1, -1), (23,), (-2, -12)):
        case("reshape", [x], None, {"shape": bad})
    for a, b in ((0, -1), (1, 2), (-2, -1), (2, 2)):
        case("flatten", [x], np.array(mx.flatten(mx.array(x), a, b)), {"start": a, "end": b}, by="mlx")
    case("flatten", [i32(3)], i32([3]), {"start": 0, "end": -1}, mlx=mx.flatten)
    case("flatten", [x], None, {"start": 2, "end": 1})
    for axis, shape in ((3, (2, 2)), (-2, (3, 1)), (0, (-1, 1))):
        case("unflatten", [x], np.array(mx.unflatten(mx.array(x), axis, shape)), {"axis": axis, "shape": shape}, by="mlx")
    case("unflatten", [x], None, {"axis": 3, "shape": [3, -1]})
    for axes in ((1,), (-3,), ()):
        ref = np.squeeze(x, axes or None)
        case("squeeze", [x], ref, {"axes": axes}, mlx=lambda a: mx.squeeze(a, axes or None))
    case("squeeze", [x], None, {"axes": [0]})
    for axes in ((0,), (-1,), (0, 2), (-1, 1)):
        case("expand_dims", [x], np.expand_dims(x, axes), {"axes": axes}, mlx=lambda a: mx.expand_dims(a, axes))
    case("expand_dims", [x], None, {"axes": [0, 0]})
    case("expand_dims", [x], None, {"axes": [5]})
    for axes in ((3, 2, 1, 0), (0, -1, 1, 2)):
        case("transpose", [x], np.transpose(x, axes), {"axes": axes}, mlx=lambda a: mx.transpose(a, axes))
    case("transpose", [x], np.transpose(x), mlx=mx.transpose)
    case("transpose", [x], None, {"axes": [0, 0, 1, 2]})
    case("matrix_transpose", [x], x.mT, mlx=lambda a: a.mT)
    for a, b in ((0, -1), (-2, 0), (1, 1)):
        case("moveaxis", [x], np.moveaxis(x, a, b), {"axes": [a, b]}, mlx=lambda v: mx.moveaxis(v, a, b))
        case("swapaxes", [x], np.swapaxes(x, a, b), {"axes": [a, b]}, mlx=lambda v: mx.swapaxes(v, a, b))
    case("moveaxis", [x], None, {"axes": [0, 4]})
    case("swapaxes", [x], None, {"axes": [-5, 0]})
    for shape in ((2, 5, 3, 4), (3, 2, 1, 3, 4)):
        case("broadcast_to", [x], np.broadcast_to(x, shape), {"shape": shape}, mlx=lambda a: mx.broadcast_to(a, shape))
    case("broadcast_to", [x], None, {"shape": [2, 1, 3, 5]})
    both = [i32([[1], [2]]), i32([3, 4, 5]), i32(6)]
    case("broadcast_arrays", both, list(np.broadcast_arrays(*both)), mlx=mx.broadcast_arrays)
    case("broadcast_arrays", [i32([1, 2]), i32([1, 2, 3])], None)
    case("contiguous", [x], x, mlx=mx.contiguous)
    for name in ("zeros", "ones", "zeros_like", "ones_like"):
        case(name, [f32([[3, 4]])], getattr(np, name[:5].strip("_"))((1, 2), f32), mlx=lambda a: getattr(mx, name)(a if "like" in name else a.shape, mx.float32))
    case("full", [i32(7)], np.full((2, 2), 7, i32), {"shape": [2, 2]}, mlx=lambda a: mx.full((2, 2), a))
    case("full", [i32([1, 2])], np.full((3, 2), [1, 2], i32), {"shape": [3, 2]}, mlx=lambda a: mx.full((3, 2), a))
    case("full", [i32([1, 2])], None, {"shape": [3, 3]})
    case("full_like", [f32([1, 2]), i32(7)], f32([7, 7]), mlx=mx.full_like)
    case("identity", [], np.identity(3, f32), {"n": 3}, mlx=lambda: mx.identity(3))
    case("positive", [f32([-1, NAN, -0.0])], f32([-1, NAN, -0.0]), mlx=mx.positive)


quantiles()
counting()
views()
order()
masks()
shapes()
products()
write_json("functions.json", {"by": "python functions.py", "numpy": np.__version__, "mlx": version("mlx")}, CASES)
