"""linalg.json, linalg.safetensors: linear algebra, from NumPy and SciPy; gradients from PyTorch.

    pip install numpy scipy torch ml_dtypes safetensors
    python linalg.py

Everything is computed in double precision and rounded once to the dtype of the case. Factors are only
given where they are unique: bases are compared as projections, and Q and R with R's diagonal positive.
A gradient is that of the sum of the output times fixed weights (of real and imaginary parts), by
PyTorch's automatic differentiation, which shares nothing with the rules that it checks. Each forward
result is compared with PyTorch's too before it is kept.
"""

from importlib.metadata import version

import numpy as np
import scipy.linalg
import torch

from golden import write_json, write_safetensors

torch.set_num_threads(1)
rng = np.random.default_rng(11)
TENSORS, CASES = {}, []
DTYPES = {"f32": np.float32, "f64": np.float64, "c64": np.complex64}


def values(shape, dtype):
    a = rng.standard_normal(shape)
    if dtype == np.complex64:
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def wide(a):
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def narrow(a, dtype):
    if np.iscomplexobj(a):
        return np.asarray(a, np.complex64, order="C")
    return np.asarray(a, np.float64 if dtype == np.float64 else np.float32, order="C")


def add(label, fn, inputs, attrs, ours, theirs, dtype, gradient=True):
    """A case: `ours` of wide NumPy arrays, `theirs` the same of PyTorch tensors."""
    out = np.asarray(ours(*[wide(a) for a in inputs]))
    leaves = [torch.tensor(wide(a), requires_grad=gradient) for a in inputs]
    other = theirs(*leaves)
    assert tuple(other.shape) == out.shape, (label, other.shape, out.shape)
    assert np.allclose(other.detach().numpy(), out, rtol=1e-9, atol=1e-9), label
    case = {"id": label, "fn": fn, "inputs": [], "attrs": attrs}
    for i, a in enumerate(inputs):
        TENSORS[f"{label}.in{i}"] = a
        case["inputs"].append(f"{label}.in{i}")
    TENSORS[f"{label}.out"] = narrow(out, dtype)
    case["output"] = f"{label}.out"
    scale = float(np.abs(out).max()) if out.size else 1.0
    if gradient:
        weights = rng.standard_normal(out.shape)
        if np.iscomplexobj(out):
            weights = weights + 1j * rng.standard_normal(out.shape)
        weights = np.asarray(weights)
        product = torch.tensor(weights).conj() * other
        (product.real if product.is_complex() else product).sum().backward()
        TENSORS[f"{label}.weights"] = narrow(weights, dtype)
        case["weights"] = f"{label}.weights"
        case["gradients"] = []
        for i, leaf in enumerate(leaves):
            TENSORS[f"{label}.grad{i}"] = narrow(leaf.grad.numpy(), dtype)
            case["gradients"].append(f"{label}.grad{i}")
            scale = max(scale, float(leaf.grad.abs().max()))
    eps = 1e-12 if dtype == np.float64 else 4e-6
    CASES.append(case | {"rtol": eps, "atol": float(f"{eps * max(1.0, scale):.1e}")})


H = lambda a: np.conj(np.swapaxes(a, -1, -2))
TH = lambda a: a.mH
mul = lambda v, w: v * w[..., None, :]

# ------------------------------------------------------------------------------------------------
# Systems and inverses

for name, dtype in DTYPES.items():
    for n in (1, 2, 5):
        a, b = values((2, n, n), dtype) + 2 * np.eye(n, dtype=dtype), values((2, n, 3), dtype)
        add(f"inv.{n}.{name}", "inv", [a], {}, np.linalg.inv, torch.linalg.inv, dtype)
        add(f"solve.{n}.{name}", "solve", [a, b], {}, np.linalg.solve, torch.linalg.solve, dtype)
        add(f"det.{n}.{name}", "det", [a], {}, np.linalg.det, torch.linalg.det, dtype)
        add(f"slogdet.{n}.{name}", "logdet", [a], {}, lambda a: np.linalg.slogdet(a)[1], lambda a: torch.linalg.slogdet(a)[1], dtype)
        add(f"sign.{n}.{name}", "sign", [a], {}, lambda a: np.linalg.slogdet(a)[0], lambda a: torch.linalg.slogdet(a)[0], dtype, dtype == np.complex64)
        for upper in (False, True):
            tri = np.triu if upper else np.tril
            attrs = {"upper": upper}
            each = lambda a, b: np.stack([scipy.linalg.solve_triangular(x, y, lower=not upper) for x, y in zip(a, b)])
            t = lambda a, b: torch.linalg.solve_triangular(torch.triu(a) if upper else torch.tril(a), b, upper=upper)
            add(f"solve_triangular.{n}.{upper}.{name}", "solve_triangular", [a, b], attrs, each, t, dtype)
            add(f"tri_inv.{n}.{upper}.{name}", "tri_inv", [a], attrs, lambda a: np.linalg.inv(tri(a)), lambda a: torch.linalg.inv(torch.triu(a) if upper else torch.tril(a)), dtype)
            p = (wide(a) @ H(wide(a)) + np.eye(n)).astype(dtype)
            p = ((p + H(p)) / 2).astype(dtype)
            add(f"cholesky.{n}.{upper}.{name}", "cholesky", [p], attrs, lambda a: H(np.linalg.cholesky(a)) if upper else np.linalg.cholesky(a), lambda a: torch.linalg.cholesky((a + a.mH) / 2, upper=upper), dtype)
        add(f"power.{n}.{name}", "matrix_power", [a], {"power": 5}, lambda a: np.linalg.matrix_power(a, 5), lambda a: torch.linalg.matrix_power(a, 5), dtype)
        add(f"power.{n}.negative.{name}", "matrix_power", [a], {"power": -2}, lambda a: np.linalg.matrix_power(a, -2), lambda a: torch.linalg.matrix_power(a, -2), dtype)
    a, v = values((4, 4), dtype) + 2 * np.eye(4, dtype=dtype), values((4,), dtype)
    add(f"solve.vector.{name}", "solve", [a, v], {}, np.linalg.solve, torch.linalg.solve, dtype)
    b = values((3, 4, 2), dtype)
    add(f"solve.one.{name}", "solve", [a, b], {}, lambda a, b: np.linalg.solve(np.broadcast_to(a, (3, 4, 4)), b), lambda a, b: torch.linalg.solve(a.expand(3, 4, 4), b), dtype)
    for m, n in ((4, 4), (6, 3), (3, 6)):
        a = values((2, m, n), dtype)
        add(f"pinv.{m}.{n}.{name}", "pinv", [a], {}, np.linalg.pinv, torch.linalg.pinv, dtype)
        b = values((2, m, 2), dtype)
        add(f"lstsq.{m}.{n}.{name}", "lstsq", [a, b], {}, lambda a, b: np.linalg.pinv(a) @ b, lambda a, b: torch.linalg.pinv(a) @ b, dtype)
    # Of low rank: forward only, since the rank changes next to it.
    a = (values((5, 2), dtype) @ values((2, 4), dtype)).astype(dtype)
    add(f"pinv.low.{name}", "pinv", [a], {}, lambda a: np.linalg.pinv(a, rcond=1e-5), lambda a: torch.linalg.pinv(a, rtol=1e-5), dtype, False)

# ------------------------------------------------------------------------------------------------
# Decompositions, by what is unique about them


def np_qr(part):
    def f(a):
        q, r = np.linalg.qr(a)
        d = np.diagonal(r, axis1=-2, axis2=-1)
        s = d / np.abs(d)
        return mul(q, s) if part == "q" else np.conj(s)[..., :, None] * r

    return f


def torch_qr(part):
    def f(a):
        q, r = torch.linalg.qr(a)
        d = torch.diagonal(r, dim1=-2, dim2=-1)
        s = (d / d.abs()).detach()
        return mul(q, s) if part == "q" else s.conj()[..., :, None] * r

    return f


for name, dtype in DTYPES.items():
    for m, n in ((1, 1), (4, 4), (6, 3), (3, 6)):
        k = min(m, n)
        a = values((2, m, n), dtype)
        at = f"{m}.{n}.{name}"
        for part in ("q", "r"):
            add(f"qr.{part}.{at}", f"qr_{part}", [a], {}, np_qr(part), torch_qr(part), dtype)
        add(f"svdvals.{at}", "svdvals", [a], {}, lambda a: np.linalg.svd(a, compute_uv=False), torch.linalg.svdvals, dtype)
        # Σ (i + 1) u_i u_iᴴ, Σ (i + 1) v_i v_iᴴ, Σ (i + 1) u_i v_iᴴ.
        w = np.arange(k) + 1.0
        tw = torch.tensor(w)

        def np_svd(part, w=w):
            def f(a):
                u, _, v = np.linalg.svd(a, full_matrices=False)
                left, right = (u, H(u)) if part == "left" else (H(v), v) if part == "right" else (u, v)
                return mul(left, w) @ right

            return f

        def torch_svd(part, tw=tw):
            def f(a):
                u, _, v = torch.linalg.svd(a, full_matrices=False)
                left, right = (u, TH(u)) if part == "left" else (TH(v), v) if part == "right" else (u, v)
                return mul(left, tw) @ right

            return f

        for part in ("left", "right", "both"):
            add(f"svd.{part}.{at}", f"svd_{part}", [a], {}, np_svd(part), torch_svd(part), dtype)

        def torch_lu(part):
            def f(a):
                _, l, u = torch.linalg.lu(a)
                return l if part == "l" else u

            return f

        def np_lu(part):
            return lambda a: np.stack([scipy.linalg.lu(x)[1 if part == "l" else 2] for x in a])

        # Pivots of complex matrices are chosen by another size of numbers in LAPACK; f64 agrees.
        if dtype != np.complex64:
            for part in ("l", "u"):
                add(f"lu.{part}.{at}", f"lu_{part}", [a], {}, np_lu(part), torch_lu(part), dtype)
    for n in (1, 2, 5):
        a = values((2, n, n), dtype)
        a = ((a + H(a)) / 2).astype(dtype)
        w = np.arange(n) + 1.0
        tw = torch.tensor(w)
        for upper in (False, True):
            attrs, uplo = {"upper": upper}, "U" if upper else "L"
            add(f"eigvalsh.{n}.{upper}.{name}", "eigvalsh", [a], attrs, lambda a: np.linalg.eigvalsh(a, uplo), lambda a: torch.linalg.eigvalsh(a, uplo), dtype)

            def np_eigh(a):
                v = np.linalg.eigh(a, uplo)[1]
                return mul(v, w) @ H(v)

            def torch_eigh(a):
                v = torch.linalg.eigh(a, uplo)[1]
                return mul(v, tw) @ TH(v)

            add(f"eigh.{n}.{upper}.{name}", "eigh", [a], attrs, np_eigh, torch_eigh, dtype)

# Eigenvalues come in any order: sums over them, and of the vectors' squares. Results are complex64.
for name, dtype in DTYPES.items():
    for n in (1, 2, 4):
        a = values((2, n, n), dtype)

        def np_eig(a):
            w, v = np.linalg.eig(a)
            return mul(np.abs(v) ** 2, w).sum(-1)

        def torch_eig(a):
            w, v = torch.linalg.eig(a)
            return mul(v.abs() ** 2, w).sum(-1)

        single = np.complex64 if dtype == np.complex64 else np.float32
        a = a.astype(single)
        add(f"eigvals.{n}.{name}", "eigvals", [a], {}, lambda a: (np.linalg.eigvals(a) ** 3).sum(-1).astype(np.complex128), lambda a: (torch.linalg.eigvals(a) ** 3).sum(-1), single)
        add(f"eig.{n}.{name}", "eig", [a], {}, lambda a: np_eig(a).astype(np.complex128), torch_eig, single)

# ------------------------------------------------------------------------------------------------
# Norms and the cross product

ORDERS = {"inf": np.inf, "-inf": -np.inf}
for name, dtype in DTYPES.items():
    a = values((2, 3, 4), dtype)
    for order in (None, "inf", "-inf", 0, 1, -1, 2, -2, 3, 0.5, -3):
        o = ORDERS.get(order, order)
        for keep in (False, True):
            attrs = {"ord": order, "axis": [1], "keepdims": keep}
            add(f"norm.vector.{order}.{keep}.{name}", "norm", [a], attrs, lambda a: np.linalg.norm(a, o, 1, keep), lambda a: torch.linalg.vector_norm(a, 2 if o is None else o, 1, keep), dtype, order != 0)
    for order in (None, "fro", "nuc", "inf", "-inf", 1, -1, 2, -2):
        o = ORDERS.get(order, order)
        for axes in ([1, 2], [2, 0]):
            attrs = {"ord": order, "axis": axes, "keepdims": False}
            add(f"norm.matrix.{order}.{axes[0]}.{name}", "norm", [a], attrs, lambda a: np.linalg.norm(a, o, tuple(axes)), lambda a: torch.linalg.matrix_norm(a, "fro" if o is None else o, tuple(axes)), dtype)
    add(f"norm.all.{name}", "norm", [a], {"ord": None, "axis": None, "keepdims": False}, lambda a: np.linalg.norm(a.reshape(-1)), lambda a: torch.linalg.vector_norm(a), dtype)
    x, y = values((4, 3), dtype), values((2, 1, 3), dtype)
    both = np.broadcast_shapes(x.shape, y.shape)
    add(f"cross.{name}", "cross", [x, y], {"axis": -1}, lambda a, b: np.cross(a, b), lambda a, b: torch.linalg.cross(a.expand(both), b.expand(both)), dtype)
    x, y = values((3, 4), dtype), values((3, 4), dtype)
    add(f"cross.first.{name}", "cross", [x, y], {"axis": 0}, lambda a, b: np.cross(a, b, axis=0), lambda a, b: torch.linalg.cross(a, b, dim=0), dtype)

head = {"versions": {p: version(p) for p in ("numpy", "scipy", "torch")}, "tensors": "linalg.safetensors"}
write_safetensors("linalg.safetensors", TENSORS)
write_json("linalg.json", head, CASES)
