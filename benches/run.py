"""Runs Lazul and its peers alternately and prints Markdown tables.

    python benches/run.py ops [--threads 2] [--rounds 3]
    python benches/run.py functions [--threads 2] [--rounds 3] [--only CASE...] [--json FILE]
    python benches/run.py llm MODELS [--gguf FOLDER] [--prompt 512] [--new 64] [--rounds 3]
    python benches/run.py gguf FOLDER [--prompt 512] [--new 64] [--rounds 3]
    python benches/run.py cpu MODELS --gguf FOLDER [--threads 2] [--rounds 3] [--json FILE] [--only WORD...]
    python benches/run.py train [MODEL] [--rounds 3] [--steps 5] [--only mlp conv full lora] [--json FILE]

MODELS holds folders that benches/peers/models.py made; FOLDER holds NAME-bf16.gguf and NAME-q4_0.gguf
made of them by benches/peers/gguf_files.py. `gguf` runs every file of FOLDER by Lazul and by llama.cpp. `cpu` measures what
the processor's targets are set for, functions and models, beside the best peer of each (benches/targets.py).
Peers that are not installed are left out, and said so. Build first: cargo build --release -p lazul-benches, and
for candle, in its folder so that it is compiled for this processor, (cd benches/candle && cargo build --release);
CANDLE_PEER names its program elsewhere.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

import targets

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
BIN = os.path.join(TARGET, "release")
CANDLE = os.environ.get("CANDLE_PEER", os.path.join(HERE, "candle", "target", "release", "candle-peer"))


def environment(threads):
    names = ["OMP", "OPENBLAS", "MKL", "RAYON", "LAZUL"]
    return dict(os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in names})


def run(command, threads=2):
    if not os.path.exists(command[0]):
        print("left out:", command[0], "is not there", file=sys.stderr)
        return None
    env = environment(threads)
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print("left out:", " ".join(command), (done.stderr.strip().splitlines() or ["no output"])[-1], file=sys.stderr)
        return None
    return json.loads(lines[-1])


def python(script, *args):
    return [sys.executable, os.path.join(HERE, "peers", script), *map(str, args)]


def ops(rounds, threads):
    programs = {
        "lazul, unfused": [os.path.join(BIN, "ops")],
        "lazul, fused": [os.path.join(BIN, "ops"), "fused"],
        "lazul, compiled": [os.path.join(BIN, "ops"), "compiled"],
        "numpy": python("ops.py", "numpy"),
        "torch": python("ops.py", "torch"),
        "mlx": python("ops.py", "mlx"),
        "mlx, compiled": python("ops.py", "mlx-compiled"),
        "candle": [CANDLE, "ops"],
    }
    seen = {}
    for _ in range(rounds):
        for name, command in programs.items():
            result = run(command, threads)
            if result:
                seen.setdefault(name, []).append(result["ops_per_second"])
    print(f"10,000 additions of 4x4 float32, build and evaluate; threads: {threads}; medians of {rounds} rounds\n")
    print("| | op/s | Lazul unfused is |\n|---|---|---|")
    ours = statistics.median(seen["lazul, unfused"])
    for name, values in seen.items():
        value = statistics.median(values)
        print(f"| {name} | {value:,.0f} | {ours / value:.2f}x |")


# Bytes that a case must read and write at least, or the float operations that it must do.
SQUARE = 4096 * 4096 * 4
MOVED = {
    "gelu": 4 * 4 * (64 << 20),
    "gelu, compiled": 4 * 4 * (64 << 20),
    "add": 3 * 4 * (64 << 20),
    "softmax": 2 * SQUARE,
    "layer_norm": 2 * SQUARE,
    "sum": SQUARE,
    "sum, axis 0": SQUARE,
    "sum, axis 1": SQUARE,
    "sort": 2 * 40_000_000,
    "argsort": 2 * 4_000_000,
    "cumsum, axis 0": 2 * SQUARE,
    "cumsum, axis 1": 2 * SQUARE,
    "take rows": 2 * 131_072 * 1024,
    "take elements": 3 * 40_000_000,
    "transpose": 2 * SQUARE,
    "fft 2^20": 2 * 8 * (1 << 20),
    "fft 1024x1024": 2 * 8 * (1 << 20),
    "rfft": 1024 * (4096 * 4 + 2049 * 8),
}
CONV = 2 * 8 * 56 * 56 * 64 * 64 * 9
COMPUTED = {"conv2d": CONV, "matmul 1024": 2 * 1024**3, "matmul 2048": 2 * 2048**3}
# Cases that `cpu` adds: some are for the matrix engine, and a training step has no simple limit.
MORE_COMPUTED = {"matmul 4096": 2 * 4096**3}
ON_TILES = {"conv2d bf16": CONV, "matmul bf16 2048": 2 * 2048**3, "matmul bf16 4096": 2 * 4096**3}
# Four products of parts to one of f16 numbers.
ON_TILES |= {"matmul f16 2048": 8 * 2048**3, "matmul f16 4096": 8 * 4096**3}
STEPS = ["mlp", "mlp, compiled"]


class Asked:
    """A program that answers cases one by one, so that starting it costs nothing in between."""

    def __init__(self, command, threads):
        self.process = None
        if os.path.exists(command[0]):
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment(threads))

    def __call__(self, case):
        if self.process is None:
            return None, "is not there"
        try:
            self.process.stdin.write(case + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line.startswith("{") else {"error": "ended"}
        return answer.get("value"), answer.get("error")


def ask_functions(cases, threads, rounds):
    """Seconds of each case and program, by `(case, program)`, the machine's limits, and the peers' names."""
    programs = {
        "lazul": [os.path.join(BIN, "functions")],
        "numpy": python("functions.py", "numpy"),
        "torch": python("functions.py", "torch"),
        "torch.compile": python("functions.py", "torch-compile"),
        "mlx": python("functions.py", "mlx"),
        "mx.compile": python("functions.py", "mlx-compile"),
        "candle": [CANDLE, "functions"],
    }
    asked = {name: Asked(command, threads) for name, command in programs.items()}
    seen, limits, errors = {}, {"copy": [], "read": [], "peak": [], "tiles": []}, {}
    for case in cases:
        for limit in limits:
            value = asked["lazul"](limit)[0]
            if value is not None:
                limits[limit].append(value)
        for _ in range(rounds):
            for name, ask in asked.items():
                # The compiled form is a program of its own for Lazul alone; peers have columns.
                if name != "lazul" and (case.endswith("compiled") or (case, name) in errors):
                    continue
                # Peers that take long are asked once.
                if seen.get((case, name), [0])[-1] > 0.5:
                    continue
                value, error = ask(case)
                if value is None:
                    errors[case, name] = error
                    print(f"left out: {case}: {name}: {error}", file=sys.stderr)
                else:
                    seen.setdefault((case, name), []).append(value)
    middle = {key: statistics.median(values) for key, values in seen.items()}
    return middle, {k: statistics.median(v) for k, v in limits.items() if v}, list(programs)[1:]


def limit_of(case, limits):
    """Seconds that a case takes at least, as far as that is known."""
    for amounts, limit in [(MOVED, "copy"), (COMPUTED | MORE_COMPUTED, "peak"), (ON_TILES, "tiles")]:
        if case in amounts and limit in limits:
            return amounts[case] / limits[limit]
    return None


def functions(args):
    cases = args.only or [*MOVED, *COMPUTED]
    middle, limits, peers = ask_functions(cases, args.threads, args.rounds)
    copy, peak = limits["copy"], limits["peak"]
    print(f"threads: {args.threads}; medians of {args.rounds} rounds; copy {copy / 1e9:.1f} GB/s, "
          f"multipliers {peak / 1e9:.0f} GFLOP/s in the same run; milliseconds\n")
    print("| | lazul |", " | ".join(peers), "| best peer takes | of the limit |")
    print("|" + "---|" * (len(peers) + 4))
    rows = []
    for case in cases:
        ours = middle.get((case, "lazul"))
        if ours is None:
            continue
        base = case.removesuffix(", compiled")
        theirs = {name: middle[base, name] for name in peers if (base, name) in middle}
        best = min(theirs, key=theirs.get) if theirs else None
        limit = limit_of(case, limits)
        ratio = f"{theirs[best] / ours:.2f}x ({best})" if best else "–"
        share = f"{100 * limit / ours:.0f} %" if limit else "–"
        cells = [f"{1e3 * theirs[name]:.2f}" if name in theirs else "–" for name in peers]
        print(f"| {case} | {1e3 * ours:.2f} |", " | ".join(cells), f"| {ratio} | {share} |", flush=True)
        rows.append({"case": case, "seconds": {"lazul": ours, **theirs}, "limit_seconds": limit})
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "rounds": args.rounds, "limits": limits, "cases": rows}, file, indent=1)
            file.write("\n")


def ask_models(programs, prompt, new, rounds, threads, once=()):
    """Medians of what programs say about a model, by program; those of `once` are run once, with little to do."""
    seen = {}
    for round_ in range(rounds):
        for name, command in programs.items():
            if name in once and round_:
                continue
            work = (min(prompt, 32), min(new, 4)) if name in once else (prompt, new)
            result = run([*command, *map(str, work), "1"], threads)
            if result:
                seen.setdefault(name, []).append(result)
    keys = ["prefill_tps", "decode_tps", "maxrss_mb", "ttft_s"]
    value = lambda r, key: r[key][0] if isinstance(r[key], list) else r[key]
    return {name: {key: statistics.median(value(r, key) for r in results) for key in keys} for name, results in seen.items()}


def row(model, name, figures):
    print(f"| {model} | {name} | {figures['prefill_tps']:.1f} | {figures['decode_tps']:.1f} "
          f"| {figures['maxrss_mb']:.0f} | {figures['ttft_s']:.2f} |", flush=True)


HEAD = "program | prefill tok/s | decode tok/s | peak RSS MB | first token s |\n|---|---|---|---|---|---|"


def llm(args):
    print(f"prompt {args.prompt} tokens, {args.new} new, batch 1; threads: {args.threads}; medians of {args.rounds} rounds\n")
    print(f"| model | {HEAD}")
    for folder in sorted(os.listdir(args.models)):
        path = os.path.join(args.models, folder)
        if not os.path.exists(os.path.join(path, "config.json")):
            continue
        base, kind = folder.rsplit("-", 1)
        programs = {"lazul": [os.path.join(BIN, "llm"), path], "mlx-lm": python("llm_mlx.py", path)}
        if args.gguf:
            file = os.path.join(args.gguf, f"{base}-{'bf16' if kind == 'bf16' else 'q4_0'}.gguf")
            programs["llama.cpp"] = python("llm_llamacpp.py", file)
            programs["lazul, GGUF"] = [os.path.join(BIN, "llm"), file]
        once = () if base == "tiny" else ("mlx-lm",)
        for name, figures in ask_models(programs, args.prompt, args.new, args.rounds, args.threads, once).items():
            row(folder, name, figures)


def gguf(args):
    print(f"prompt {args.prompt} tokens, {args.new} new, batch 1; threads: {args.threads}; medians of {args.rounds} rounds\n")
    print(f"| file | {HEAD}")
    for file in sorted(f for f in os.listdir(args.models) if f.endswith(".gguf")):
        path = os.path.join(args.models, file)
        programs = {"lazul": [os.path.join(BIN, "llm"), path], "llama.cpp": python("llm_llamacpp.py", path)}
        for name, figures in ask_models(programs, args.prompt, args.new, args.rounds, args.threads).items():
            row(file, name, figures)


def cpu(args):
    """The table of targets: see `targets`."""
    def wanted(text):
        return not args.only or any(word in text for word in args.only)

    cases = [c for c in [*MOVED, *COMPUTED, *MORE_COMPUTED, *ON_TILES, *STEPS] if wanted(c)]
    middle, limits, peers = ask_functions(cases, args.threads, args.rounds)
    table = targets.Table(limits)
    for case in cases:
        table.function(case, middle, peers, limit_of(case, limits))
    for name, programs, weights in targets.models(args.models, args.gguf, BIN, python) if wanted("models") else []:
        for prompt in ([512, 2048] if name.startswith("1b") else [512]):
            # mlx-lm needs minutes for what others do in a second.
            once = () if name.startswith("tiny") else ("mlx-lm",)
            figures = ask_models(programs, prompt, args.new, args.rounds, args.threads, once)
            table.model(name, prompt, figures, weights)
    print(f"threads: {args.threads}; medians of {args.rounds} rounds; in the same run: {table.limits()}\n")
    print(table.markdown())
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "rounds": args.rounds, "limits": limits, "rows": table.rows}, file, indent=1)
            file.write("\n")


def train(args):
    cases = args.only or ["mlp", "conv", "full"] + (["lora"] if args.models else [])
    peers = ["torch", "torch-compile", "mlx"]
    print(f"training steps, tokens or examples a second; threads: {args.threads}; medians of all steps of "
          f"{args.rounds} rounds\n")
    print("| | program | a second | peak RSS MB | Lazul is |\n|---|---|---|---|---|")
    rows = []
    for case in cases:
        seen = {}
        for round_ in range(args.rounds):
            for name in ["lazul", *peers]:
                # Steps of milliseconds are many, those of seconds few.
                steps = {"mlp": 20, "conv": 20}.get(case, 1) * args.steps
                more = []
                if case == "lora" and name == "mlx":
                    # It multiplies bf16 element by element: one short row, once, is what there is time for.
                    steps, more = 1, ["--batch", "1", "--length", "16"]
                if (case, name) == ("lora", "torch-compile") or more and round_:
                    continue
                command = [os.path.join(BIN, "train")] if name == "lazul" else python("train.py", name)
                model = [args.models] if case == "lora" else []
                result = run([*command, case, str(steps), *model, *more], args.threads)
                if result:
                    seen.setdefault(name, []).append(result)
        middle = {n: statistics.median(v for r in all_ for v in r["per_second"]) for n, all_ in seen.items()}
        for name, results in seen.items():
            rss = statistics.median(r["maxrss_mb"] for r in results)
            ratio = f"{middle['lazul'] / middle[name]:.2f}x" if "lazul" in middle else "–"
            print(f"| {case} | {name} | {middle[name]:,.1f} | {rss:,.0f} | {ratio} |", flush=True)
            rows.append({"case": case, "program": name, "per_second": middle[name], "maxrss_mb": rss})
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "rounds": args.rounds, "rows": rows}, file, indent=1)
            file.write("\n")


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["ops", "functions", "llm", "gguf", "cpu", "train"])
parser.add_argument("models", nargs="?")
parser.add_argument("--gguf")
parser.add_argument("--prompt", type=int, default=512)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--steps", type=int, default=5, help="of a round of `train`")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--only", nargs="+", help="cases of `functions` or `train`; parts of their names for `cpu`, and `models`")
parser.add_argument("--json", help="a file for the figures of `functions`, `cpu` and `train`")
args = parser.parse_args()
if args.what == "ops":
    ops(args.rounds, args.threads)
else:
    {"functions": functions, "llm": llm, "gguf": gguf, "cpu": cpu, "train": train}[args.what](args)
