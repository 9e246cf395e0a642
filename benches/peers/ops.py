"""Op overhead of a peer: `ops.py numpy|torch|mlx|mlx-compiled` adds 4x4 arrays 10,000 times; prints JSON.

mlx-compiled calls a compiled function of 100 additions 100 times: one of 10,000 takes it minutes to build.
"""
import json
import statistics
import sys
import time

CHAIN = 10_000


def measure(chain):
    chain()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        chain()
        times.append(time.perf_counter() - start)
    return CHAIN / statistics.median(times)


def main(peer):
    if peer == "numpy":
        import numpy as np

        x = np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32)

        def chain():
            y = np.zeros((4, 4), np.float32)
            for _ in range(CHAIN):
                y = y + x

    elif peer == "torch":
        import torch

        torch.set_num_threads(2)
        x = torch.randn(4, 4)

        def chain():
            y = torch.zeros(4, 4)
            for _ in range(CHAIN):
                y = y + x

    else:
        import mlx.core as mx

        x = mx.random.normal((4, 4))
        mx.eval(x)

        def add(y, times):
            for _ in range(times):
                y = y + x
            return y

        hundred = mx.compile(lambda y: add(y, 100))

        def chain():
            y = mx.zeros((4, 4))
            if peer == "mlx-compiled":
                for _ in range(CHAIN // 100):
                    y = hundred(y)
            else:
                y = add(y, CHAIN)
            mx.eval(y)

    print(json.dumps({"case": peer, "ops_per_second": measure(chain)}))


main(sys.argv[1])
