#!/usr/bin/env python3
"""Train the model, then finetune it with quantized weights in the forward pass.

    python train.py --data build --tokenizer ../../assets/rust-docs-lm/tokenizer.json --out build/run

Phase 1 is an ordinary language-model run on random crops; a share of the steps
uses short windows that begin a paragraph, as prompts do. Phase 2 starts from
its weights and passes every matrix through the 4-bit quantizer of `quantize.py`
with a straight-through gradient.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from quantize import GROUP, write_safetensors

VOCAB, CONTEXT, THETA, EPS = 8192, 1024, 10000.0, 1e-5
# Share of the crops drawn from each group; prose is seen about 2.5 times as often as API pages.
MIX = {"train/prose": 0.60, "train/std-prose": 0.15, "train/api": 0.25}
PROMPTS = ["The borrow checker", "Ownership is", "A trait is", "The `Vec` type", "To handle errors,",
           "# Module `std::collections`\n\n", "```rust\nfn main() {\n", "In this chapter, we"]


def fake_quantize(w):
    """What `quantize` then `dequantize` give, with the gradient of the identity."""
    g = w.float().reshape(-1, GROUP)
    mx, mn = g.amax(1, keepdim=True), g.amin(1, keepdim=True)
    neg = mn.abs() > mx.abs()
    s = ((mx - mn) / 15).clamp_min(1e-7)
    s = torch.where(neg, s, -s)
    edge = torch.where(neg, mn, mx)
    q0 = torch.round(edge / s)
    zero = q0 == 0
    s = torch.where(zero, s, edge / torch.where(zero, torch.ones_like(q0), q0))
    b = torch.where(zero, torch.zeros_like(edge), edge)
    q = torch.round((g - b) / s).clamp(0, 15)
    dq = (s.bfloat16().float() * q + b.bfloat16().float()).bfloat16().float().reshape(w.shape)
    return w + (dq - w).detach()


class QLinear(nn.Linear):
    qat = False

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x):
        return F.linear(x, fake_quantize(self.weight) if self.qat else self.weight)


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPS)
        return (h * self.weight).to(x.dtype)


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv, self.hd, self.p = c.heads, c.kv_heads, c.hidden // c.heads, c.dropout
        self.q_proj = QLinear(c.hidden, self.heads * self.hd)
        self.k_proj = QLinear(c.hidden, self.kv * self.hd)
        self.v_proj = QLinear(c.hidden, self.kv * self.hd)
        self.o_proj = QLinear(self.heads * self.hd, c.hidden)

    def forward(self, x, cos, sin):
        n, t, _ = x.shape
        q = self.q_proj(x).view(n, t, self.heads, self.hd).transpose(1, 2)
        k = self.k_proj(x).view(n, t, self.kv, self.hd).transpose(1, 2)
        v = self.v_proj(x).view(n, t, self.kv, self.hd).transpose(1, 2)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        k = k.repeat_interleave(self.heads // self.kv, 1)
        v = v.repeat_interleave(self.heads // self.kv, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p if self.training else 0.0)
        return self.o_proj(y.transpose(1, 2).reshape(n, t, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = QLinear(c.hidden, c.ffn)
        self.up_proj = QLinear(c.hidden, c.ffn)
        self.down_proj = QLinear(c.ffn, c.hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(c.hidden), Attention(c)
        self.post_attention_layernorm, self.mlp = RMSNorm(c.hidden), MLP(c)
        self.drop = nn.Dropout(c.dropout)

    def forward(self, x, cos, sin):
        x = x + self.drop(self.self_attn(self.input_layernorm(x), cos, sin))
        return x + self.drop(self.mlp(self.post_attention_layernorm(x)))


class Llama(nn.Module):
    qat = False

    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden)
        self.drop = nn.Dropout(c.dropout)
        hd = c.hidden // c.heads
        angles = torch.outer(torch.arange(CONTEXT).float(), THETA ** (-torch.arange(0, hd, 2).float() / hd))
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                scale = (2 * c.layers) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(p, std=0.02 * scale)

    def set_qat(self, on):
        for m in self.modules():
            if isinstance(m, (QLinear, Llama)):
                m.qat = on

    def forward(self, ids):
        emb = fake_quantize(self.embed_tokens.weight) if self.qat else self.embed_tokens.weight
        t = ids.shape[1]
        cos, sin = self.cos[:t], self.sin[:t]
        x = self.drop(F.embedding(ids, emb).to(torch.bfloat16 if ids.is_cuda else torch.float32))
        for layer in self.layers:
            x = layer(x, cos.to(x.dtype), sin.to(x.dtype))
        return F.linear(self.norm(x), emb)


def loss_of(logits, target):
    return F.cross_entropy(logits.float().flatten(0, 1), target.flatten())


@torch.no_grad()
def evaluate(model, stream, autocast):
    """Mean loss over non-overlapping windows, each predicting CONTEXT tokens."""
    model.eval()
    total, count = 0.0, 0
    full = (len(stream) - 1) // CONTEXT
    windows = []
    for i in range(0, full, 16):
        windows.append((i * CONTEXT, CONTEXT, min(16, full - i)))
    rest = (len(stream) - 1) - full * CONTEXT
    if rest:
        windows.append((full * CONTEXT, rest, 1))
    for start, length, n in windows:
        ids = stream[start:start + n * length].view(n, length)
        target = stream[start + 1:start + n * length + 1].view(n, length)
        with autocast():
            logits = model(ids)
        total += loss_of(logits, target).item() * n * length
        count += n * length
    model.train()
    return total / count


@torch.no_grad()
def sample(model, tok, prompt, n, autocast, temperature=0.0, seed=0):
    model.eval()
    dev = next(model.parameters()).device
    gen = torch.Generator(device=dev).manual_seed(seed)
    ids = tok.encode(prompt).ids
    for _ in range(n):
        with autocast():
            logits = model(torch.tensor([ids], device=dev))[0, -1].float()
        if temperature == 0:
            nxt = int(logits.argmax())
        else:
            nxt = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=gen))
        if nxt == 0:
            break
        ids.append(nxt)
    model.train()
    grams = [tuple(ids[i:i + 4]) for i in range(len(ids) - 3)]
    return tok.decode(ids), len(set(grams)) / max(1, len(grams))


class Crops:
    """Random windows of the training streams, the same for the same seed."""

    def __init__(self, streams, batch, seed, device):
        self.streams, self.batch, self.device = streams, batch, device
        self.rng = np.random.default_rng(seed)
        self.names = list(MIX)
        self.offsets = torch.arange(CONTEXT + 1, device=device)
        # One stream on the device, wrapping each group around so that every start is legal.
        parts, self.base, at = [], {}, 0
        for name in self.names:
            s = streams[name]
            self.base[name] = (at, len(s))
            parts += [s, s[:CONTEXT + 1]]
            at += len(s) + CONTEXT + 1
        self.data = torch.cat(parts).to(device)

    def next_short(self, newline, length=128):
        """As many tokens in short windows that begin where a paragraph or document does."""
        if not hasattr(self, "starts"):
            d = self.data
            gap = (d[1:-1] == newline) & (d[:-2] == newline) | (d[1:-1] == 0)
            where = (gap.nonzero()[:, 0] + 2).cpu().numpy()
            where = where[where < len(d) - length - 1]
            self.starts = [where[(where >= b) & (where < b + n)] for b, n in self.base.values()]
        groups = self.rng.choice(len(self.names), size=self.batch * (CONTEXT // length), p=list(MIX.values()))
        starts = [int(self.starts[g][self.rng.integers(len(self.starts[g]))]) for g in groups]
        rows = self.data[torch.tensor(starts, device=self.device)[:, None] + self.offsets[:length + 1]]
        return rows[:, :-1], rows[:, 1:]

    def next(self):
        groups = self.rng.choice(len(self.names), size=self.batch, p=list(MIX.values()))
        starts = [self.base[self.names[g]][0] + int(self.rng.integers(self.base[self.names[g]][1])) for g in groups]
        rows = self.data[torch.tensor(starts, device=self.device)[:, None] + self.offsets]
        return rows[:, :-1], rows[:, 1:]


def run_phase(name, model, loss_fn, crops, valid, steps, lr, seconds, args, autocast, log):
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": args.weight_decay},
                             {"params": plain, "weight_decay": 0.0}],
                            lr=lr, betas=(0.9, 0.95), fused=next(model.parameters()).is_cuda)
    warm = max(1, min(args.warmup, steps // 5))
    best, best_state, running, begin = math.inf, None, 0.0, time.time()
    warm_at = 0.0
    for step in range(steps + 1):
        # A time limit, where one is given, only moves the end of the schedule forward.
        late = (time.time() - begin - warm_at) / seconds if seconds and step > warm else 0.0
        done = 0.0 if step < warm else min(1.0, max((step - warm) / (steps - warm), late))
        if step == warm:
            warm_at = time.time() - begin
        last = done >= 1.0
        if step % args.eval_every == 0 or last:
            v = evaluate(model, valid, autocast)
            mean = float(running) / max(1, args.eval_every if step % args.eval_every == 0 else step % args.eval_every)
            log({"phase": name, "step": step, "train": round(mean, 4), "valid": round(v, 4),
                 "tokens": step * crops.batch * CONTEXT, "seconds": round(time.time() - begin, 1)})
            running = 0.0
            if args.keep == "last" and last or args.keep == "best" and v < best:
                best, best_state = v, {k: p.detach().clone() for k, p in model.state_dict().items()}
        if last:
            break
        scale = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = lr * scale
        short = args.short_share > 0 and crops.rng.random() < args.short_share
        x, y = crops.next_short(args.newline) if short else crops.next()
        with autocast():
            loss = loss_of(model(x), y) if short else loss_fn(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        running = running + loss.detach()
    model.load_state_dict(best_state)
    return best


def save(model, path):
    weights = {f"model.{k}": v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}
    write_safetensors(path, {k: ("F32", v) for k, v in weights.items()}, {"format": "pt"})


def config(c):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB,
        "hidden_size": c.hidden, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.hidden // c.heads,
        "max_position_embeddings": CONTEXT, "rope_theta": THETA, "rope_scaling": None, "rms_norm_eps": EPS,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16",
    }


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=Path, default=Path("build"))
    ap.add_argument("--tokenizer", type=Path, default=Path("../../assets/rust-docs-lm/tokenizer.json"))
    ap.add_argument("--out", type=Path, default=Path("build/run"))
    for flag, value in [("hidden", 384), ("layers", 7), ("heads", 6), ("kv-heads", 2), ("ffn", 1024), ("batch", 32),
                        ("steps", 3000), ("qat-steps", 300), ("warmup", 100), ("eval-every", 250), ("seed", 1)]:
        ap.add_argument(f"--{flag}", type=int, default=value)
    for flag, value in [("dropout", 0.15), ("lr", 3e-3), ("qat-lr", 5e-4), ("weight-decay", 0.1),
                        ("max-seconds", 0.0), ("short-share", 0.25)]:
        ap.add_argument(f"--{flag}", type=float, default=value)
    ap.add_argument("--keep", choices=["best", "last"], default="last",
                    help="weights to keep of a phase: lowest validation loss, or the end of the schedule")
    ap.add_argument("--samples", type=int, default=160, help="tokens of each sample, 0 for none")
    ap.add_argument("--no-compile", action="store_true")
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"

    def autocast():
        return torch.autocast("cuda", torch.bfloat16, enabled=cuda)

    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(args.tokenizer))
    args.newline = tok.token_to_id("\u010a")
    raw = np.load(args.data / "tokens.npz")
    streams = {k: torch.from_numpy(raw[k].astype(np.int64)) for k in [*MIX, "valid", "heldout"]}
    valid, heldout = streams["valid"].to(device), streams["heldout"].to(device)
    model = Llama(args).to(device)
    print(f"{sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)

    def loss_fn(x, y):
        return loss_of(model(x), y)

    if not args.no_compile:
        loss_fn = torch.compile(loss_fn)
    crops = Crops(streams, args.batch, args.seed, device)
    records = open(args.out / "log.jsonl", "w")

    def log(entry):
        line = json.dumps(entry)
        records.write(line + "\n")
        records.flush()
        print(line, flush=True)

    (args.out / "config.json").write_text(json.dumps(config(args), indent=2) + "\n")
    run_phase("base", model, loss_fn, crops, valid, args.steps, args.lr, args.max_seconds, args, autocast, log)
    save(model, args.out / "base.safetensors")
    base = {"valid": evaluate(model, valid, autocast), "heldout": evaluate(model, heldout, autocast)}
    model.set_qat(True)
    naive = {"valid": evaluate(model, valid, autocast), "heldout": evaluate(model, heldout, autocast)}
    if args.qat_steps:
        run_phase("qat", model, loss_fn, crops, valid, args.qat_steps, args.qat_lr,
                  args.max_seconds / 4, args, autocast, log)
    save(model, args.out / "qat.safetensors")
    qat = {"valid": evaluate(model, valid, autocast), "heldout": evaluate(model, heldout, autocast)}
    bytes_per_token = float(raw["bytes/heldout"]) / (len(heldout) - 1)
    for name, losses in (("base", base), ("base, 4-bit", naive), ("qat, 4-bit", qat)):
        log({"result": name, "valid_ppl": round(math.exp(losses["valid"]), 3),
             "heldout_ppl": round(math.exp(losses["heldout"]), 3), "heldout_loss": round(losses["heldout"], 4),
             "heldout_bits_per_byte": round(losses["heldout"] / math.log(2) / bytes_per_token, 4)})

    train_like = {k: evaluate(model, streams[k][:50 * CONTEXT + 1].to(device), autocast) for k in MIX}
    log({"result": "qat, 4-bit, training text", **{k: round(v, 4) for k, v in train_like.items()}})
    if not args.samples:
        return
    with open(args.out / "samples.txt", "w") as f:
        for prompt in PROMPTS:
            text, distinct = sample(model, tok, prompt, args.samples, autocast)
            f.write(f"=== temperature 0, distinct 4-grams {distinct:.2f}\n{text}\n\n")
        for prompt in PROMPTS[:3]:
            text, distinct = sample(model, tok, prompt, args.samples, autocast, temperature=0.7)
            f.write(f"=== temperature 0.7, distinct 4-grams {distinct:.2f}\n{text}\n\n")
    print((args.out / "samples.txt").read_text())


if __name__ == "__main__":
    main()
