"""Square matrix products of Lazul and torch, alternately; prints a Markdown table.

    cargo build --release -p lazul-cpu --example gemm_speed
    python benches/peers/gemm.py target/release/examples/gemm_speed [--threads 1 2] [--rounds 3]

Figures are medians over rounds of each round's best, in 10^9 operations a second. Lazul runs twice: as it
comes, and with LAZUL_ISA=avx512, which leaves the matrix engine idle. With one thread both sides are timed by processor time, so that a busy
machine disturbs them less. `of peak` compares with the rate of the multipliers, measured in the same
rounds: bf16 tiles with their loads for bfloat16, f32 multiply-adds for float32, which products in bf16 parts exceed.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

SIZES = [1024, 2048, 4096]
DTYPES = ["float32", "bfloat16", "float16", "int8"]


def torch_best(dtype, size, threads):
    import torch

    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    kind = getattr(torch, dtype)
    a, b = ((torch.rand(size, size) - 0.5).to(kind) for _ in range(2))
    out = torch.empty(size, size, dtype=kind)
    torch.mm(a, b, out=out)
    least, start, count = float("inf"), time.perf_counter(), 0
    while count < 5 or time.perf_counter() - start < 0.5:
        t = clock()
        torch.mm(a, b, out=out)
        least = min(least, clock() - t)
        count += 1
    return 2 * size**3 / least / 1e9


def lazul(program, filter_, threads, isa):
    env = dict(os.environ, LAZUL_NUM_THREADS=str(threads))
    env.pop("LAZUL_ISA", None)
    if isa:
        env["LAZUL_ISA"] = isa
    if threads == 1:
        env["LAZUL_CPU_TIME"] = "1"
    return subprocess.run([program, filter_], env=env, capture_output=True, text=True, check=True).stdout


def lazul_best(program, dtype, size, threads, isa):
    name = f"gemm {dtype} {size}x{size}x{size}"
    for line in lazul(program, name, threads, isa).splitlines():
        found = re.match(re.escape(name) + r" +[\d.]+ ms +([\d.]+) ", line)
        if found:
            return float(found[1])
    raise SystemExit(f"no figure for {name}")


def peaks(program, threads):
    text = lazul(program, "peak", threads, None)
    return {key: float(v) for key, v in re.findall(r"peak: (f32|bf16) .* ([\d.]+) GFLOP/s", text)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if os.environ.get("GEMM_PEER"):
        dtype, size, threads = os.environ["GEMM_PEER"].split()
        print(json.dumps(torch_best(dtype, int(size), int(threads))))
        return
    print("| threads | product | torch | Lazul | ratio | Lazul, `avx512` | ratio | of peak |")
    print("|---|---|---|---|---|---|---|---|")
    for threads in args.threads:
        for dtype in DTYPES:
            for size in SIZES:
                seen = {"torch": [], "": [], "avx512": [], "peak": []}
                for _ in range(args.rounds):
                    # torch has no quick product of bytes, and takes minutes for a large one.
                    if dtype != "int8":
                        env = dict(os.environ, GEMM_PEER=f"{dtype} {size} {threads}", OMP_NUM_THREADS=str(threads))
                        peer = [sys.executable, __file__, "-"]
                        out = subprocess.run(peer, env=env, capture_output=True, text=True, check=True).stdout
                        seen["torch"].append(json.loads(out))
                    for isa in ["", "avx512"]:
                        seen[isa].append(lazul_best(args.program, dtype, size, threads, isa))
                    peak = peaks(args.program, threads)
                    key = {"float32": "f32", "bfloat16": "bf16"}.get(dtype)
                    if key in peak:
                        seen["peak"].append(peak[key])
                mid = {k: statistics.median(v) for k, v in seen.items() if v}
                ratio = lambda k: f"{mid[k] / mid['torch']:.2f}" if "torch" in mid else "–"
                share = f"{100 * mid[''] / mid['peak']:.0f} %" if "peak" in mid else "–"
                torch_ = f"{mid['torch']:.0f}" if "torch" in mid else "–"
                print(f"| {threads} | {dtype} {size}³ | {torch_} | {mid['']:.0f} | {ratio('')} "
                      f"| {mid['avx512']:.0f} | {ratio('avx512')} | {share} |", flush=True)


main()
