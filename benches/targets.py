"""What the processor's figures are held against: rows of a table, each with the best peer of the same run, the
ratio that is aimed at, and the share of what the machine can do at most.

A target is a ratio to the best peer; some rows are as good if they reach a share of their limit. Decoding reads
every weight once for each token, so its limit is the bandwidth of reading memory.
"""
import json
import os

# Ratio aimed at, and the share of the limit that is enough without it, by case of `functions`.
FUNCTIONS = {
    "matmul 1024": (1.8, None), "matmul 2048": (1.8, None), "matmul 4096": (1.8, None),
    "matmul bf16 2048": (1.4, None), "matmul bf16 4096": (1.4, None),
    "matmul f16 2048": (1.2, None), "matmul f16 4096": (1.2, None),
    "gelu": (3.0, None), "gelu, compiled": (3.0, None), "add": (1.2, 0.95),
    "softmax": (1.2, 0.95), "layer_norm": (1.2, 0.95), "cumsum, axis 0": (1.2, 0.95), "cumsum, axis 1": (1.2, 0.95),
    "transpose": (1.2, 0.95), "take rows": (1.2, 0.95), "take elements": (1.2, 0.95), "argsort": (1.2, 0.95),
    "fft 2^20": (1.2, 0.95), "fft 1024x1024": (1.2, 0.95), "rfft": (1.2, 0.95),
    "sum": (None, 0.95), "sum, axis 0": (None, 0.95), "sum, axis 1": (None, 0.95), "sort": (1.0, None),
    "conv2d": (1.3, None), "conv2d bf16": (1.3, None),
    "mlp": (1.5, None), "mlp, compiled": (1.5, None),
}
# Of models: decoding, by the form of weights; prefill, peak memory and the first token are the same for all.
DECODE = {"4bit": (1.2, 0.90), "q4_k_m": (1.4, None), "q8_0": (1.1, None), "bf16": (1.15, 0.90)}
PREFILL, MEMORY, FIRST = 2.5, 1 / 1.05, 1.0


def read_a_token(path):
    """Bytes of weights that a new token reads: all of a file but an embedding that is not the last layer's too."""
    if path.endswith(".gguf"):
        from gguf import GGUFReader

        sizes = {t.name: int(t.n_bytes) for t in GGUFReader(path).tensors}
        embedding, last = "token_embd.weight", "output.weight"
    else:
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        sizes = {name: t["data_offsets"][1] - t["data_offsets"][0] for name, t in header.items()}
        embedding, last = "model.embed_tokens", "lm_head.weight"
    return sum(size for name, size in sizes.items() if last not in sizes or not name.startswith(embedding))


def models(folder, gguf, binaries, python):
    """`(name, programs, bytes that a new token reads)` of every model: folders beside GGUF files of the same weights, then what
    has a GGUF file alone."""
    ours = os.path.join(binaries, "llm")
    found = []
    for name in sorted(os.listdir(folder) if folder else []):
        path = os.path.join(folder, name)
        if not os.path.exists(os.path.join(path, "config.json")):
            continue
        base, kind = name.rsplit("-", 1)
        programs = {"lazul": [ours, path], "mlx-lm": python("llm_mlx.py", path)}
        file = gguf and os.path.join(gguf, f"{base}-{'bf16' if kind == 'bf16' else 'q4_0'}.gguf")
        if file and os.path.exists(file):
            programs["llama.cpp"] = python("llm_llamacpp.py", file)
        if kind == "bf16":
            programs["transformers"] = python("llm_transformers.py", path)
        weights = sum(read_a_token(os.path.join(path, f)) for f in os.listdir(path) if f.endswith(".safetensors"))
        found.append((name, programs, weights))
    for file in sorted(os.listdir(gguf) if gguf else []):
        stem = file.removesuffix(".gguf")
        if stem == file or stem.rsplit("-", 1)[1] in ("bf16", "q4_0"):
            continue
        path = os.path.join(gguf, file)
        programs = {"lazul": [ours, path], "llama.cpp": python("llm_llamacpp.py", path)}
        found.append((stem, programs, read_a_token(path)))
    return found


class Table:
    def __init__(self, limits):
        self.limit = limits
        self.rows = []

    def add(self, work, unit, ours, theirs, more, target, share, enough):
        """A row: values by peer, whether more is better, and the share of the limit that was reached."""
        best = (max if more else min)(theirs, key=theirs.get) if theirs else None
        ratio = best and (ours / theirs[best] if more else theirs[best] / ours)
        met = bool(target and ratio and ratio >= target) or bool(enough and share and share >= enough)
        self.rows.append({
            "work": work, "unit": unit, "lazul": ours, "peers": theirs, "best": best, "ratio": ratio, "target": target,
            "share_of_limit": share, "share_enough": enough, "met": met,
        })

    def function(self, case, middle, peers, limit):
        ours = middle.get((case, "lazul"))
        if ours is None:
            return
        base = case.removesuffix(", compiled")
        theirs = {name: middle[base, name] for name in peers if (base, name) in middle}
        target, enough = FUNCTIONS[case]
        milliseconds = {name: 1e3 * s for name, s in theirs.items()}
        self.add(case, "ms", 1e3 * ours, milliseconds, False, target, limit and limit / ours, enough)

    def model(self, name, prompt, figures, weights):
        ours = figures.pop("lazul", None)
        if ours is None:
            return
        kind = name.rsplit("-", 1)[1]
        of = lambda key, who=None: {n: f[key] for n, f in figures.items() if who in (None, n) and key in f}
        add = lambda what, unit, key, more, target, share=None, enough=None, who=None: self.add(
            f"{name}: {what}", unit, ours[key], of(key, who), more, target, share, enough)
        add(f"prefill of {prompt}", "tok/s", "prefill_tps", True, PREFILL if name.startswith("1b") else None)
        if prompt == 512:
            # A model that fits the caches is not read from memory.
            large = weights > 256 << 20 and "read" in self.limit
            share = ours["decode_tps"] * weights / self.limit["read"] if large else None
            target, enough = DECODE.get(kind, (1.2, None))
            add("decode", "tok/s", "decode_tps", True, target, share, enough)
            add("peak memory", "MB", "maxrss_mb", False, MEMORY, who="llama.cpp")
            add("first token", "s", "ttft_s", False, FIRST, who="llama.cpp")

    def limits(self):
        names = {"copy": "copy {:.1f} GB/s", "read": "read {:.1f} GB/s", "peak": "multipliers {:.0f} GFLOP/s",
                 "tiles": "matrix engine {:.0f} GFLOP/s"}
        return ", ".join(text.format(self.limit[k] / 1e9) for k, text in names.items() if k in self.limit)

    def markdown(self):
        lines = ["| work | Lazul | best peer | ratio | target | of the limit | met |", "|---|---|---|---|---|---|---|"]
        for r in self.rows:
            number = lambda x: f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"
            best = f"{number(r['peers'][r['best']])} ({r['best']})" if r["best"] else ""
            ratio = f"{r['ratio']:.2f}x" if r["ratio"] else ""
            aims = ([f"{r['target']:.2f}x"] if r["target"] else []) + (
                [f"{100 * r['share_enough']:.0f} % of the limit"] if r["share_enough"] else [])
            share = f"{100 * r['share_of_limit']:.0f} %" if r["share_of_limit"] else ""
            met = "" if not aims else "yes" if r["met"] else "**no**"
            lines.append(f"| {r['work']} | {number(r['lazul'])} {r['unit']} | {best} | {ratio} | {' or '.join(aims)} "
                         f"| {share} | {met} |")
        return "\n".join(lines)
