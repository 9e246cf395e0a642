#!/usr/bin/env python3
"""Held-out perplexity and greedy samples of a checkpoint, in float32 NumPy.

    python evaluate.py --model ../../assets/rust-docs-lm --heldout heldout.txt

The text is encoded whole (with `<|endoftext|>` before each document) and cut
into windows of 1024 inputs that do not overlap; window i reads tokens
[1024 i, 1024 i + 1024) and predicts the token after each of them. Perplexity is
exp of the mean loss over all predicted tokens.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from quantize import load_dequantized


class Model:
    def __init__(self, weights, config):
        self.w, self.c = weights, config
        self.hd = config["head_dim"]
        t = np.arange(config["max_position_embeddings"], dtype=np.float32)
        freq = config["rope_theta"] ** (-np.arange(0, self.hd, 2, dtype=np.float32) / self.hd)
        angles = np.concatenate([np.outer(t, freq)] * 2, -1).astype(np.float32)
        self.cos, self.sin = np.cos(angles), np.sin(angles)

    def norm(self, x, name):
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.c["rms_norm_eps"]))
        return x * self.w[name]

    def rope(self, x):
        a, b = np.split(x, 2, -1)
        t = x.shape[1]
        return x * self.cos[:t] + np.concatenate((-b, a), -1) * self.sin[:t]

    def logits(self, ids, last=False):
        c, w = self.c, self.w
        heads, kv, hd, t = c["num_attention_heads"], c["num_key_value_heads"], self.hd, len(ids)
        x = w["model.embed_tokens.weight"][ids]
        mask = np.triu(np.full((t, t), -np.inf, dtype=np.float32), 1)
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm.weight")
            q, k, v = ((h @ w[f"{p}self_attn.{n}_proj.weight"].T).reshape(t, -1, hd).transpose(1, 0, 2) for n in "qkv")
            q, k = self.rope(q), self.rope(k)
            k, v = np.repeat(k, heads // kv, 0), np.repeat(v, heads // kv, 0)
            s = q @ k.transpose(0, 2, 1) * np.float32(hd ** -0.5) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            x = x + (s @ v).transpose(1, 0, 2).reshape(t, -1) @ w[p + "self_attn.o_proj.weight"].T
            h = self.norm(x, p + "post_attention_layernorm.weight")
            gate = h @ w[p + "mlp.gate_proj.weight"].T
            gate = gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)
            x = x + gate @ w[p + "mlp.down_proj.weight"].T
        if last:
            x = x[-1:]
        return self.norm(x, "model.norm.weight") @ w["model.embed_tokens.weight"].T


def perplexity(model, ids, context):
    total = 0.0
    for start in range(0, len(ids) - 1, context):
        window = ids[start:start + context + 1]
        z = model.logits(window[:-1]).astype(np.float64)
        z -= z.max(-1, keepdims=True)
        logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
        total -= logp[np.arange(len(window) - 1), window[1:]].sum()
    return total / (len(ids) - 1)


def reference(model, tok, loss, count):
    """The held-out figure, and greedy tokens with the gap between the two largest logits at each."""
    prompt = "The borrow checker"
    ids = list(tok.encode(prompt).ids)
    start, gaps = len(ids), []
    for _ in range(60):
        logits = model.logits(np.array(ids), last=True)[0]
        low, high = np.sort(logits)[-2:]
        gaps.append(round(float(high - low), 4))
        ids.append(int(logits.argmax()))
    return {
        "about": "Computed by the NumPy evaluator: 4-bit weights dequantized and rounded to bfloat16, activations "
                 "and logits in float32. An implementation with bfloat16 activations may differ after a small gap.",
        "heldout": {
            "file": "heldout.txt",
            "windowing": "encoded whole, <|endoftext|> (id 0) before each document as in the file; windows of 1024 "
                         "inputs that do not overlap, the last one shorter; window i reads tokens [1024 i, 1024 i + "
                         "1024) and predicts the token after each; no token is added",
            "tokens": count,
            "predicted": count - 1,
            "loss": round(loss, 5),
            "perplexity": round(math.exp(loss), 3),
        },
        "greedy": {"prompt": prompt, "prompt_ids": ids[:start], "ids": ids[start:], "top2_logit_gap": gaps},
    }


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=Path("../../assets/rust-docs-lm"))
    ap.add_argument("--checkpoint", type=Path, help="another safetensors file for the same configuration")
    ap.add_argument("--heldout", type=Path, default=Path("heldout.txt"))
    ap.add_argument("--prompt", action="append", default=[])
    ap.add_argument("--tokens", type=int, default=100)
    ap.add_argument("--reference", type=Path, help="write what tests compare with: reference.json")
    args = ap.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    model = Model(load_dequantized(args.checkpoint or args.model / "model.safetensors"), config)
    text = args.heldout.read_text(encoding="utf-8")
    ids = np.array(tok.encode(text).ids)
    loss = perplexity(model, ids, config["max_position_embeddings"])
    nbytes = len(text.replace("<|endoftext|>", "").encode())
    print(f"{len(ids)} tokens, loss {loss:.4f}, perplexity {math.exp(loss):.3f}, "
          f"{loss * (len(ids) - 1) / math.log(2) / nbytes:.4f} bits a byte")
    if args.reference:
        args.reference.write_text(json.dumps(reference(model, tok, loss, len(ids)), indent=None) + "\n")
    for prompt in args.prompt or ["The borrow checker"]:
        ids = tok.encode(prompt).ids
        for _ in range(args.tokens):
            nxt = int(model.logits(np.array(ids), last=True)[0].argmax())
            if nxt == 0:
                break
            ids.append(nxt)
        print(f"--- {prompt!r}\n{tok.decode(ids)}")


if __name__ == "__main__":
    main()
