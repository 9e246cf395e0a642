"""PyTorch on a CUDA device: the cases of `src/bin/device.rs`, one line of JSON for each."""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F


def seconds(f, n=20):
    def run():
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(n):
            f()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / n

    run()
    run()
    return statistics.median(run() for _ in range(5))


def main():
    names = sys.argv[1:]
    torch.manual_seed(0)
    n = 8192
    new = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
    x, y, w, b = new(n, n), new(n, n), new(n), new(n)
    h, t, d = 32, n // 2, 128
    q, k, v = new(1, h, t, d), new(1, h, t, d), new(1, h, t, d)
    one = new(16, 16)

    def gelu():
        return F.gelu(x * w + b)


    def tiny():
        z = one
        for _ in range(1000):
            z = z + 1.0
        return z

    square = 2.0 * n * n
    cases = [
        ("copy", "B/s", 2 * square, lambda: x + 0.0),
        ("gelu(x*w+b)", "B/s", 2 * square, gelu),
        ("softmax", "B/s", 2 * square, lambda: torch.softmax(x, -1)),
        ("rms_norm", "B/s", 2 * square, lambda: F.rms_norm(x, (n,), w, 1e-5)),
        ("layer_norm", "B/s", 2 * square, lambda: F.layer_norm(x, (n,), w, b, 1e-5)),
        ("sum rows", "B/s", square, lambda: x.sum(-1)),
        ("sum columns", "B/s", square, lambda: x.sum(0)),
        ("sum", "B/s", square, lambda: x.sum()),
        ("sum of squares", "B/s", square, lambda: x.square().sum(-1)),
        ("transpose", "B/s", 2 * square, lambda: x.t().contiguous()),
        ("sort rows", "B/s", 2 * square, lambda: x.sort(-1)),
        ("matmul", "FLOP/s", 2.0 * n**3, lambda: x @ y),
        ("matmul transposed", "FLOP/s", 2.0 * n**3, lambda: x @ y.t()),
        (
            "causal attention",
            "FLOP/s",
            2.0 * h * t * t * d,
            lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.088),
        ),
        ("1000 tiny ops", "op/s", 1000.0, tiny),
    ]
    for name, unit, amount, f in cases:
        if names and name not in names:
            continue
        s = seconds(f)
        print(json.dumps({"case": name, "seconds": s, "rate": amount / s, "unit": unit}), flush=True)
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__}))


main()
