"""fft.json, fft.safetensors: Fourier transforms, from NumPy in double precision.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python fft.py

Inputs are float32 or complex64, results are NumPy's of the same numbers in float64, rounded once.
Short-time transforms are written out below in float64, and compared with MLX before they are kept.
"""

from importlib.metadata import version

import mlx.core as mx
import numpy as np

from golden import write_json, write_safetensors

rng = np.random.default_rng(7)
TENSORS, CASES = {}, []


def real(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def cplx(*shape):
    return real(*shape) + np.complex64(1j) * real(*shape)


def wide(a):
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def narrow(a):
    return np.ascontiguousarray(a, np.complex64 if np.iscomplexobj(a) else np.float32)


def add(label, fn, inputs, attrs, out):
    out = narrow(out)
    names = [f"{label}.in{i}" for i in range(len(inputs))]
    for name, a in [*zip(names, inputs), (f"{label}.out", out)]:
        TENSORS[name] = a
    scale = float(np.abs(out).max()) if out.size else 1.0
    case = {"id": label, "fn": fn, "inputs": names, "attrs": attrs, "output": f"{label}.out"}
    CASES.append(case | {"rtol": 1e-6, "atol": float(f"{2e-6 * scale:.1e}")})


# ------------------------------------------------------------------------------------------------
# One axis

for n in (1, 2, 3, 8, 12, 31, 64, 101):
    add(f"fft.{n}", "fft", [x := cplx(2, n)], {}, np.fft.fft(wide(x)))
    add(f"ifft.{n}", "ifft", [x], {}, np.fft.ifft(wide(x)))
    add(f"rfft.{n}", "rfft", [x := real(2, n)], {}, np.fft.rfft(wide(x)))
    add(f"irfft.{n}", "irfft", [x := cplx(2, n // 2 + 1)], {"n": n}, np.fft.irfft(wide(x), n))
add("fft.real", "fft", [x := real(10)], {}, np.fft.fft(wide(x)))
add("irfft.default", "irfft", [x := cplx(3, 6)], {}, np.fft.irfft(wide(x)))
for norm in ("backward", "ortho", "forward"):
    for fn in ("fft", "ifft", "rfft", "irfft"):
        x = real(5, 4) if fn == "rfft" else cplx(5, 4)
        for n in (3, 5, 9):
            kw = {"n": n, "axis": 0, "norm": norm}
            add(f"{fn}.{norm}.{n}", fn, [x], kw, getattr(np.fft, fn)(wide(x), **kw))

# ------------------------------------------------------------------------------------------------
# Several axes

for fn in ("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"):
    x = real(3, 4, 5) if fn.startswith("rfft") else cplx(3, 4, 5)
    f = getattr(np.fft, fn)
    add(fn, fn, [x], {}, f(wide(x)))
    for norm in ("ortho", "forward"):
        kw = {"s": [6, 3], "axes": [0, 1], "norm": norm}
        add(f"{fn}.{norm}", fn, [x], kw, f(wide(x), **kw))
    kw = {"axes": [2, 0]}
    add(f"{fn}.axes", fn, [x], kw, f(wide(x), **kw))
    if fn.endswith("n"):
        add(f"{fn}.s", fn, [x], {"s": [7, 2]}, f(wide(x), s=[7, 2], axes=[1, 2]))

# ------------------------------------------------------------------------------------------------
# Frequencies and shifts

for n, d in ((1, 1.0), (2, 1.0), (9, 0.1), (10, 3.0)):
    add(f"fftfreq.{n}", "fftfreq", [], {"n": n, "d": d}, np.fft.fftfreq(n, d))
    add(f"rfftfreq.{n}", "rfftfreq", [], {"n": n, "d": d}, np.fft.rfftfreq(n, d))
for axes in (None, [0], [1, 2]):
    for fn in ("fftshift", "ifftshift"):
        label = f"{fn}.{'all' if axes is None else len(axes)}"
        add(label, fn, [x := real(3, 4, 5)], {"axes": axes}, getattr(np.fft, fn)(x, axes))

# ------------------------------------------------------------------------------------------------
# Frames


def full_window(n, win_length, window):
    w = np.ones(win_length or n) if window is None else wide(window)
    before = (n - len(w)) // 2
    return np.pad(w, (before, n - len(w) - before))


def stft(x, window=None, n_fft=2048, hop_length=None, win_length=None, center=True, pad_mode="reflect", norm="backward", onesided=None):
    x, w, hop = wide(x), full_window(n_fft, win_length, window), hop_length or n_fft // 4
    if center:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(n_fft // 2,) * 2], pad_mode)
    count = 1 + (x.shape[-1] - n_fft) // hop
    cut = np.stack([x[..., t * hop : t * hop + n_fft] * w for t in range(count)], -2)
    onesided = not np.iscomplexobj(x) if onesided is None else onesided
    return np.swapaxes((np.fft.rfft if onesided else np.fft.fft)(cut, norm=norm), -1, -2)


def istft(y, window=None, n_fft=None, hop_length=None, win_length=None, center=True, norm="backward", onesided=True, length=None):
    y = np.swapaxes(wide(y), -1, -2)
    n = n_fft or (2 * (y.shape[-1] - 1) if onesided else y.shape[-1])
    w, hop = full_window(n, win_length, window), hop_length or n // 4
    cut = np.fft.irfft(y, n, norm=norm) if onesided else np.fft.ifft(y, norm=norm).real
    total = (y.shape[-2] - 1) * hop + n
    out, sum = np.zeros(y.shape[:-2] + (total,)), np.zeros(total)
    for t in range(y.shape[-2]):
        out[..., t * hop : t * hop + n] += cut[..., t, :] * w
        sum[t * hop : t * hop + n] += w * w
    out = np.where(sum > 1e-10, out / np.where(sum > 1e-10, sum, 1), 0)
    out = out[..., n // 2 : total - (n // 2 if length is None else 0)] if center else out
    if length is not None:
        out = out[..., :length]
        out = np.pad(out, [(0, 0)] * (out.ndim - 1) + [(0, length - out.shape[-1])])
    return out


def frames(label, fn, x, window, **kw):
    ours = {"stft": stft, "istft": istft}[fn](x, window, **kw)
    with_window = {} if window is None else {"window": mx.array(window)}
    theirs = np.array(getattr(mx.fft, fn)(mx.array(x), **with_window, **kw))
    assert ours.shape == theirs.shape, (label, ours.shape, theirs.shape)
    assert np.allclose(ours, theirs, atol=1e-4 * max(1, np.abs(ours).max())), label
    add(label, fn, [x] if window is None else [x, window], kw, ours)


hann = lambda n: (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
signal = real(2, 50)
for i, kw in enumerate(
    [
        {"n_fft": 8},
        {"n_fft": 9, "hop_length": 4, "norm": "ortho"},
        {"n_fft": 16, "hop_length": 3, "center": False},
        {"n_fft": 12, "win_length": 7, "pad_mode": "constant"},
        {"n_fft": 8, "hop_length": 11, "pad_mode": "edge", "onesided": False},
        {"n_fft": 40, "norm": "forward"},
    ]
):
    frames(f"stft.{i}", "stft", signal, None, **kw)
    frames(f"stft.{i}.window", "stft", signal, hann(kw.get("win_length", 8)), **kw)
frames("stft.complex", "stft", cplx(50), hann(8), n_fft=8)
for i, kw in enumerate(
    [
        {},
        {"n_fft": 9, "hop_length": 3},
        {"hop_length": 5, "center": False},
        {"norm": "ortho", "length": 40},
        {"hop_length": 4, "length": 10},
        {"win_length": 6, "norm": "forward"},
    ]
):
    frames(f"istft.{i}", "istft", (y := cplx(2, 5, 7)), None, **kw)
    frames(f"istft.{i}.window", "istft", y, hann(kw.get("win_length", 8)), **kw)
frames("istft.twosided", "istft", cplx(8, 7), None, onesided=False)

head = {"versions": {p: version(p) for p in ("mlx", "numpy")}, "tensors": "fft.safetensors"}
write_safetensors("fft.safetensors", TENSORS)
write_json("fft.json", head, CASES)
