"""conv.safetensors, conv.json: convolutions and their gradients by input and weights.

    pip install torch numpy ml_dtypes safetensors
    python conv.py

Random settings of `conv1d`, `conv2d`, `conv3d` and the transposed ones: stride, padding, dilation,
groups, output padding, each the same for all axes or one an axis. PyTorch computes them, and the
gradients for a random cotangent, in float64 (complex128) from values rounded to the case's dtype
before; results are rounded to it once. Everything is stored channels last, weights as
(c_out, kernel.., c_in / groups).
"""

from importlib.metadata import version

import numpy as np
import torch

from golden import np_dtype, write_json, write_safetensors

RNG = np.random.default_rng(20)
TENSORS, CASES = {}, []


def numbers(shape, dtype):
    a = RNG.standard_normal(shape)
    if dtype == "complex64":
        a = a + 1j * RNG.standard_normal(shape)
    return a.astype(np_dtype(dtype))


def wide(a):
    return torch.from_numpy(a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)).requires_grad_()


def channels_first(t):
    return t.movedim(-1, 1)


def weights_of(w, groups, transposed):
    """(c_out, kernel.., c_in / groups) as PyTorch has it."""
    w = channels_first(w)  # (c_out, c_in / groups, kernel..)
    if not transposed:
        return w
    w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)  # (groups, c_in / groups, c_out / groups, kernel..)
    return w.flatten(0, 1)


def setting(rank, transposed):
    """Attributes, input shape and weight shape; perhaps of a convolution without output."""
    one = lambda options: int(RNG.choice(options))
    each = lambda options: one(options) if RNG.random() < 0.5 else [one(options) for _ in range(rank)]
    groups = one([1, 1, 2, 3])
    c_in, c_out = groups * one([1, 2, 3]), groups * one([1, 2, 3])
    if RNG.random() < 0.15:
        groups = c_in = one([2, 5, 17])
        c_out = groups * one([1, 2])
    kw = {"stride": each([1, 1, 2, 3]), "padding": each([0, 0, 1, 2]), "dilation": each([1, 1, 2]), "groups": groups}
    if transposed:
        stride, dilation = (np.broadcast_to(kw[k], rank) for k in ("stride", "dilation"))
        kw["output_padding"] = [int(RNG.integers(max(s, d))) for s, d in zip(stride, dilation)]
    longest = {1: 14, 2: 8, 3: 5}[rank] - 2 * transposed
    spatial = [int(RNG.integers(2, longest + 1)) for _ in range(rank)]
    kernel = [one([1, 2, 3]) for _ in range(rank)]
    return kw, (one([1, 2]), *spatial, c_in), (c_out, *kernel, c_in // groups)


def case(rank, transposed, dtype, number):
    op = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    f = getattr(torch.nn.functional, op)
    while True:
        kw, x_shape, w_shape = setting(rank, transposed)
        x, w = numbers(x_shape, dtype), numbers(w_shape, dtype)
        tx, tw = wide(x), wide(w)
        try:
            y = f(channels_first(tx), weights_of(tw, kw["groups"], transposed), **kw).movedim(1, -1)
        except RuntimeError:  # no window fits
            continue
        if 0 < y.numel() < 600:
            break
    c = numbers(tuple(y.shape), dtype)
    y.backward(wide(c).detach())
    id = f"{op}.{dtype}.{number}"
    parts = {"x": x, "w": w, "out": y.detach(), "cotangent": c, "dx": tx.grad, "dw": tw.grad}
    for part, a in parts.items():
        a = a.numpy() if torch.is_tensor(a) else a
        TENSORS[f"{id}.{part}"] = a.astype(np_dtype(dtype))
    # Half a unit in the last place of the result, and sums in f32 (f64) in another order.
    rtol, atol = {"float64": (1e-13, 1e-13), "float16": (2**-10, 1e-5), "bfloat16": (2**-7, 1e-5)}.get(dtype, (1e-5, 1e-5))
    CASES.append({"id": id, "op": op, "attrs": kw, "rtol": rtol, "atol": atol})


for transposed in (False, True):
    for rank, counts in ((1, (8, 4, 2, 2, 3)), (2, (8, 4, 2, 2, 3)), (3, (4, 3, 1, 1, 2))):
        for dtype, count in zip(("float32", "float64", "float16", "bfloat16", "complex64"), counts):
            for number in range(count):
                case(rank, transposed, dtype, number)

write_safetensors("conv.safetensors", TENSORS)
write_json("conv.json", {"source": f"torch {version('torch')}", "tensors": "conv.safetensors"}, CASES)
