"""Runs Lazul and its peers alternately and prints Markdown tables.

    python benches/run.py ops
    python benches/run.py llm MODELS [--gguf FOLDER] [--prompt 512] [--new 64] [--rounds 3]
    python benches/run.py gguf FOLDER [--prompt 512] [--new 64] [--rounds 3]

MODELS holds folders that benches/peers/models.py made; FOLDER holds NAME-bf16.gguf and NAME-q4_0.gguf
made of them by benches/peers/gguf_files.py. `gguf` runs every file of FOLDER by Lazul and by llama.cpp. Peers that are not installed are left out, and said so. Build
first: cargo build --release -p lazul-benches
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
BIN = os.path.join(TARGET, "release")


def run(command, threads=2):
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), LAZUL_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print("left out:", " ".join(command), (done.stderr.strip().splitlines() or ["no output"])[-1], file=sys.stderr)
        return None
    return json.loads(lines[-1])


def python(script, *args):
    return [sys.executable, os.path.join(HERE, "peers", script), *map(str, args)]


def ops(rounds):
    programs = {
        "lazul, unfused": [os.path.join(BIN, "ops")],
        "lazul, fused": [os.path.join(BIN, "ops"), "fused"],
        "lazul, compiled": [os.path.join(BIN, "ops"), "compiled"],
        "numpy": python("ops.py", "numpy"),
        "torch": python("ops.py", "torch"),
        "mlx": python("ops.py", "mlx"),
        "mlx, compiled": python("ops.py", "mlx-compiled"),
    }
    seen = {}
    for _ in range(rounds):
        for name, command in programs.items():
            result = run(command)
            if result:
                seen.setdefault(name, []).append(result["ops_per_second"])
    print("10,000 additions of 4x4 float32, build and evaluate, 2 threads; medians of", rounds, "rounds\n")
    print("| | op/s | Lazul unfused is |\n|---|---|---|")
    ours = statistics.median(seen["lazul, unfused"])
    for name, values in seen.items():
        value = statistics.median(values)
        print(f"| {name} | {value:,.0f} | {ours / value:.2f}x |")


def row(model, name, results):
    middle = lambda key: statistics.median(r[key][0] if isinstance(r[key], list) else r[key] for r in results)
    print(f"| {model} | {name} | {middle('prefill_tps'):.1f} | {middle('decode_tps'):.1f} "
          f"| {middle('maxrss_mb'):.0f} | {middle('ttft_s'):.2f} |")


def llm(args):
    print(f"prompt {args.prompt} tokens, {args.new} new, batch 1, 2 threads; medians of {args.rounds} rounds\n")
    print("| model | program | prefill tok/s | decode tok/s | peak RSS MB | first token s |\n|---|---|---|---|---|---|")
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
        seen = {}
        for round_ in range(args.rounds):
            for name, command in programs.items():
                slow = name == "mlx-lm" and base != "tiny"
                if slow and round_:
                    continue
                prompt, new = (min(args.prompt, 32), min(args.new, 4)) if slow else (args.prompt, args.new)
                result = run([*command, str(prompt), str(new), "1"])
                if result:
                    seen.setdefault(name, []).append(result)
        for name, results in seen.items():
            row(folder, name, results)


def gguf(args):
    print(f"prompt {args.prompt} tokens, {args.new} new, batch 1, 2 threads; medians of {args.rounds} rounds\n")
    print("| file | program | prefill tok/s | decode tok/s | peak RSS MB | first token s |\n|---|---|---|---|---|---|")
    for file in sorted(f for f in os.listdir(args.models) if f.endswith(".gguf")):
        path = os.path.join(args.models, file)
        programs = {"lazul": [os.path.join(BIN, "llm"), path], "llama.cpp": python("llm_llamacpp.py", path)}
        seen = {}
        for _ in range(args.rounds):
            for name, command in programs.items():
                result = run([*command, str(args.prompt), str(args.new), "1"])
                if result:
                    seen.setdefault(name, []).append(result)
        for name, results in seen.items():
            row(file, name, results)


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["ops", "llm", "gguf"])
parser.add_argument("models", nargs="?")
parser.add_argument("--gguf")
parser.add_argument("--prompt", type=int, default=512)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--rounds", type=int, default=3)
args = parser.parse_args()
ops(args.rounds) if args.what == "ops" else {"llm": llm, "gguf": gguf}[args.what](args)
