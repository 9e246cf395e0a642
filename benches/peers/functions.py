"""Single functions of a peer: `functions.py numpy|torch|torch-compile|mlx|mlx-compile` reads names of cases,
one a line, and answers each with one JSON line. The cases are those of benches/src/bin/functions.rs.
"""
import gc
import json
import os
import statistics
import sys
import time

import numpy as np

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
LARGE, SORTED, ARGSORTED = 64 << 20, 10_000_000, 1_000_000
# Cases of several operations: what a compiler can fuse.
COMPILED = ["gelu", "softmax", "layer_norm", "mlp"]
SHAPES = {
    "gelu": [(LARGE,), (LARGE,), (LARGE,)],
    "add": [(LARGE,), (LARGE,)],
    "softmax": [(4096, 4096)],
    "layer_norm": [(4096, 4096), (4096,), (4096,)],
    "sum": [(4096, 4096)],
    "sum, axis 0": [(4096, 4096)],
    "sum, axis 1": [(4096, 4096)],
    "sort": [(SORTED,)],
    "argsort": [(ARGSORTED,)],
    "cumsum, axis 0": [(4096, 4096)],
    "cumsum, axis 1": [(4096, 4096)],
    "take rows": [(65_536, 256), 131_072],
    "take elements": [(SORTED,), SORTED],
    "transpose": [(4096, 4096)],
    "fft 2^20": [(1, 1 << 20)],
    "fft 1024x1024": [(1024, 1024)],
    "rfft": [(1024, 4096)],
    "conv2d": [(8, 56, 56, 64), (64, 3, 3, 64)],
    "matmul 1024": [(1024, 1024), (1024, 1024)],
    "matmul 2048": [(2048, 2048), (2048, 2048)],
    "matmul 4096": [(4096, 4096), (4096, 4096)],
    "matmul bf16 2048": [(2048, 2048), (2048, 2048)],
    "matmul bf16 4096": [(4096, 4096), (4096, 4096)],
    "matmul f16 2048": [(2048, 2048), (2048, 2048)],
    "matmul f16 4096": [(4096, 4096), (4096, 4096)],
    "conv2d bf16": [(8, 56, 56, 64), (64, 3, 3, 64)],
    "mlp": [(256, 784)],
}
# Layers of the perceptron that `mlp` trains, and its number of examples.
LAYERS, EXAMPLES = [784, 256, 256, 10], 256
# What takes mlx minutes on a processor.
SLOW_ON_MLX = ["matmul 4096", "matmul bf16 2048", "matmul bf16 4096", "matmul f16 2048", "matmul f16 4096", "conv2d bf16"]


def data(case):
    """Uniform numbers around zero; a bare number stands for as many indices into the first array."""
    rng, made = np.random.default_rng(1), []
    for shape in SHAPES[case]:
        if isinstance(shape, int):
            made.append(rng.integers(0, made[0].shape[0], shape, dtype=np.int32))
        else:
            made.append(rng.random(shape, dtype=np.float32) * 2 - 1)
    return [made[0].astype(np.complex64)] if case.startswith("fft") else made


def kind(case):
    """The function that a case of several sizes calls."""
    return case.split()[0] if case.startswith(("fft", "matmul", "conv2d")) else case


def half(case):
    """The half-precision type of a case, by name."""
    return "bfloat16" if "bf16" in case else "float16" if " f16" in case else None


def measure(f):
    f()
    times, start = [], time.perf_counter()
    while True:
        call = time.perf_counter()
        f()
        now = time.perf_counter()
        times.append(now - call)
        if (len(times) >= 3 and now - start > 0.5) or now - start > 2:
            return statistics.median(times)


def numpy_case(case):
    from scipy.special import erf

    def gelu(x, w, b):
        y = x * w + b
        return y * (erf(y * np.float32(0.5**0.5)) + 1) * np.float32(0.5)

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def layer_norm(x, w, b):
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + np.float32(1e-5)) * w + b

    return {
        "gelu": gelu,
        "add": np.add,
        "softmax": softmax,
        "layer_norm": layer_norm,
        "sum": np.sum,
        "sum, axis 0": lambda x: x.sum(0),
        "sum, axis 1": lambda x: x.sum(1),
        "sort": np.sort,
        "argsort": np.argsort,
        "cumsum, axis 0": lambda x: x.cumsum(0),
        "cumsum, axis 1": lambda x: x.cumsum(1),
        "take rows": lambda x, i: x.take(i, 0),
        "take elements": lambda x, i: x.take(i),
        "transpose": lambda x: np.ascontiguousarray(x.T),
        "fft": np.fft.fft,
        "rfft": np.fft.rfft,
        "matmul": np.matmul,
    }.get(kind(case))


def torch_case(case):
    import torch
    import torch.nn.functional as F

    return {
        "gelu": lambda x, w, b: F.gelu(x * w + b),
        "add": torch.add,
        "softmax": lambda x: x.softmax(-1),
        "layer_norm": lambda x, w, b: F.layer_norm(x, (4096,), w, b),
        "sum": lambda x: x.sum(),
        "sum, axis 0": lambda x: x.sum(0),
        "sum, axis 1": lambda x: x.sum(1),
        "sort": lambda x: x.sort()[0],
        "argsort": lambda x: x.argsort(),
        "cumsum, axis 0": lambda x: x.cumsum(0),
        "cumsum, axis 1": lambda x: x.cumsum(1),
        "take rows": lambda x, i: x.index_select(0, i),
        "take elements": lambda x, i: x.index_select(0, i),
        "transpose": lambda x: x.t().contiguous(),
        "fft": torch.fft.fft,
        "rfft": torch.fft.rfft,
        "conv2d": lambda x, w: F.conv2d(x, w, padding=1),
        "matmul": torch.matmul,
    }.get(kind(case))


def mlx_case(case):
    import mlx.core as mx

    def gelu(x, w, b):
        y = x * w + b
        return y * (mx.erf(y * 0.5**0.5) + 1) * 0.5

    return {
        "gelu": gelu,
        "add": mx.add,
        "softmax": lambda x: mx.softmax(x, -1),
        "layer_norm": lambda x, w, b: mx.fast.layer_norm(x, w, b, 1e-5),
        "sum": lambda x: x.sum(),
        "sum, axis 0": lambda x: x.sum(0),
        "sum, axis 1": lambda x: x.sum(1),
        "sort": mx.sort,
        "argsort": mx.argsort,
        "cumsum, axis 0": lambda x: mx.cumsum(x, 0),
        "cumsum, axis 1": lambda x: mx.cumsum(x, 1),
        "take rows": lambda x, i: mx.take(x, i, 0),
        "take elements": lambda x, i: mx.take(x, i, 0),
        "transpose": lambda x: mx.contiguous(x.T),
        "fft": mx.fft.fft,
        "rfft": mx.fft.rfft,
        "conv2d": lambda x, w: mx.conv2d(x, w, padding=1),
        "matmul": mx.matmul,
    }.get(kind(case))


def torch_step(compiled):
    """A training step of the perceptron with Adam."""
    import torch
    import torch.nn.functional as F

    layers = []
    for i, (a, b) in enumerate(zip(LAYERS, LAYERS[1:])):
        layers += [torch.nn.Linear(a, b)] + [torch.nn.ReLU()] * (i + 2 < len(LAYERS))
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = torch.from_numpy(data("mlp")[0]), torch.randint(0, LAYERS[-1], (EXAMPLES,))

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        torch._dynamo.reset()
        return torch.compile(step)
    return step


def mlx_step(compiled):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim

    layers = []
    for i, (a, b) in enumerate(zip(LAYERS, LAYERS[1:])):
        layers += [nn.Linear(a, b)] + [nn.ReLU()] * (i + 2 < len(LAYERS))
    model, optimizer = nn.Sequential(*layers), optim.Adam(1e-3)
    x, y = mx.array(data("mlp")[0]), mx.random.randint(0, LAYERS[-1], (EXAMPLES,))
    state = [model.state, optimizer.state]
    loss = nn.value_and_grad(model, lambda m: nn.losses.cross_entropy(m(x), y, reduction="mean"))

    def step():
        value, grads = loss(model)
        optimizer.update(model, grads)
        return value

    if compiled:
        step = mx.compile(step, inputs=state, outputs=state)
    return lambda: mx.eval(step(), state)


def prepare(peer, case):
    if case == "mlp":
        if peer == "numpy":
            return None
        if peer.startswith("torch"):
            import torch

            torch.set_num_threads(THREADS)
            torch.set_grad_enabled(True)
            return torch_step(peer == "torch-compile")
        return mlx_step(peer == "mlx-compile")
    if peer == "numpy":
        if half(case):
            return None
        f, args = numpy_case(case), data(case)
        return f and (lambda: f(*args))
    if peer.startswith("torch"):
        import torch

        torch.set_num_threads(THREADS)
        f, args = torch_case(case), [torch.from_numpy(a) for a in data(case)]
        if half(case):
            args = [a.to(getattr(torch, half(case))) for a in args]
        if kind(case) == "conv2d":
            # The same numbers in the order of axes that it wants, laid out as the others have them.
            args = [a.permute(0, 3, 1, 2) for a in args]
        if peer == "torch-compile":
            if case not in COMPILED:
                return None
            torch._dynamo.reset()
            f = torch.compile(f)
        torch.set_grad_enabled(False)
        return lambda: f(*args)
    import mlx.core as mx

    if peer == "mlx-compile" and case not in COMPILED or case in SLOW_ON_MLX:
        return None
    f, args = mlx_case(case), [mx.array(a) for a in data(case)]
    if peer == "mlx-compile":
        f = mx.compile(f)
    mx.eval(args)
    return lambda: mx.eval(f(*args))


def main(peer):
    for line in sys.stdin:
        try:
            f = prepare(peer, line.strip())
            answer = {"value": measure(f)} if f else {"error": "has no such function or nothing to compile"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)
        f = None
        gc.collect()
        if peer.startswith("mlx"):
            import mlx.core as mx

            mx.clear_cache()


main(sys.argv[1])
