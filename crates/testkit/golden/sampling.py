"""sampling.json: what the samplers and penalties of mlx-lm leave of a vector of logits.

    pip install "mlx[cpu]" mlx-lm numpy ml_dtypes
    python sampling.py

Every filter works on log-probabilities (logits - logsumexp), before the temperature, and passes its
result on unnormalised: a dropped token is -inf. The order is fixed: top_p, min_p, xtc, top_k, then a
draw from softmax(filtered / temp). Each step is done once more in float64 here; the script fails if
the two keep different tokens or if a token is within 1e-5 of the border.
"""

import math
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils as theirs

from golden import numbers, write_json
from rng import categorical, make_key, split

f32, f64 = np.float32, np.float64
CASES, LOGITS = [], {}


def log_softmax(x):
    x = np.asarray(x, f64)
    top = x.max()
    return x - top - np.log(np.exp(x - top).sum())


class Near(Exception):
    """A choice that float32 could make the other way."""


def border(x, at, slack=1e-5):
    d = np.abs(np.asarray(x) - at)
    d = d[np.isfinite(d) & (d != 0)]
    if d.size and d.min() < slack:
        raise Near


def top_p(x, p):
    """Drops a token when the tokens strictly above it already hold p of the mass."""
    order = np.argsort(x, kind="stable")
    probs = np.exp(x[order])
    above = np.cumsum(probs[::-1])[::-1] - probs
    border(above, p * probs.sum())
    threshold = x[order][(above >= p * probs.sum() - 1e-12).sum()]
    return np.where(x < threshold, -np.inf, x)


def min_p(x, p, keep=1):
    at = x.max() + math.log(p)
    border(x, at)
    drop = x < at
    drop[np.argsort(x)[-keep:]] = False
    return np.where(drop, -np.inf, x)


def top_k(x, k):
    return np.where(np.argsort(np.argsort(-x, kind="stable")) < k, x, -np.inf)


def xtc(x, threshold, special):
    """Drops every token above the threshold except the least of them (the coin always falls so here)."""
    probs = np.exp(log_softmax(x))
    border(probs, threshold)
    above = probs[probs > threshold]
    mask = probs > (above.min() + 1e-12 if above.size else np.inf)
    mask[special] = False
    return np.where(mask, -np.inf, x)


OURS = {"top_p": top_p, "min_p": min_p, "xtc": xtc, "top_k": top_k}


def apply(step, x):
    """One filter of mlx-lm on a (1, V) array."""
    a = {k: v for k, v in step.items() if k != "fn"}
    if step["fn"] == "top_p":
        return theirs.apply_top_p(x, a["p"])
    if step["fn"] == "min_p":
        return theirs.apply_min_p(x, a["p"], a["keep"])
    if step["fn"] == "xtc":
        return theirs.apply_xtc(x, 1.0, a["threshold"], a["special"])
    return theirs.apply_top_k(x, a["k"])


def name_of(tag, logits):
    """Each vector is written once, by name."""
    values = numbers(logits)
    for name, old in LOGITS.items():
        if old == values:
            return name
    assert tag not in LOGITS
    LOGITS[tag] = values
    return tag


def filters(tag, logits, steps, temp=1.0):
    logits = f32(logits)
    x = log_softmax(logits)
    y = mx.array(logits)[None]
    y = y - mx.logsumexp(y, keepdims=True)
    for s in steps:
        x = OURS[s["fn"]](x, *[v for k, v in s.items() if k != "fn"])
        y = apply(s, y)
    kept = np.flatnonzero(np.isfinite(x))
    assert np.array_equal(kept, np.flatnonzero(np.isfinite(np.array(y[0])))), (tag, steps)
    assert np.allclose(x[kept], np.array(y[0])[kept], atol=1e-5)
    out = f32(log_softmax(x / temp))
    c = {"id": f"{tag}.{len(CASES):03d}", "logits": name_of(tag, logits), "steps": steps, "temp": temp}
    CASES.append(c | {"kept": kept.tolist(), "logprobs": numbers(out[kept])})


def penalty(tag, logits, tokens, **kw):
    """Processors of make_logits_processors, in its order, on the tokens so far (prompt included)."""
    x = f32(logits).astype(f64)
    y = mx.array(f32(logits))[None]
    for processor in theirs.make_logits_processors(**kw):
        y = processor(mx.array(tokens), y)
    for token, bias in (kw.get("logit_bias") or {}).items():
        x[token] += bias
    recent = lambda size: tokens[-size:]
    for t in set(recent(kw.get("repetition_context_size", 20))) if kw.get("repetition_penalty") else ():
        x[t] = x[t] * kw["repetition_penalty"] if x[t] < 0 else x[t] / kw["repetition_penalty"]
    for t in set(recent(kw.get("presence_context_size", 20))) if kw.get("presence_penalty") else ():
        x[t] -= kw["presence_penalty"]
    for t in recent(kw.get("frequency_context_size", 20)) if kw.get("frequency_penalty") else ():
        x[t] -= kw["frequency_penalty"]
    assert np.allclose(x, np.array(y[0]), atol=1e-5), (tag, x, y)
    if "logit_bias" in kw:
        kw["logit_bias"] = {str(k): v for k, v in kw["logit_bias"].items()}
    c = {"id": f"{tag}.{len(CASES):03d}", "logits": name_of(tag, f32(logits)), "tokens": tokens, "processors": kw}
    CASES.append(c | {"result": numbers(f32(x))})


def draws(tag, logits, seed, n, **kw):
    """Tokens that make_sampler draws one after another after mx.random.seed(seed)."""
    logits = f32(logits)
    y = mx.array(logits)[None]
    y = y - mx.logsumexp(y, keepdims=True)
    sampler = theirs.make_sampler(**kw)
    mx.random.seed(seed)
    tokens = [int(sampler(y)) for _ in range(n)]
    # The same by random.md, to see how clear each choice is
    x = y
    if 0 < kw.get("top_p", 0) < 1:
        x = theirs.apply_top_p(x, kw["top_p"])
    if kw.get("min_p"):
        x = theirs.apply_min_p(x, kw["min_p"])
    if kw.get("top_k"):
        x = theirs.apply_top_k(x, kw["top_k"])
    state = make_key(seed)
    for t in tokens:
        state, use = split(state)
        index, margin = categorical(use, np.array(x * (1 / kw["temp"])))
        assert index[0] == t
        if margin[0] < 1e-5:
            raise Near
    c = {"id": f"{tag}.{len(CASES):03d}", "logits": name_of(tag, logits), "seed": seed, "sampler": kw}
    CASES.append(c | {"draws": tokens})


def main():
    r = np.random.default_rng(5)
    small = r.normal(size=12) * 2
    flat = r.normal(size=40) * 0.3
    peaked = np.concatenate([[9.0, 7.5], r.normal(size=30)])
    wide = r.normal(size=200) * 3
    vectors = {"small": small, "flat": flat, "peaked": peaked, "wide": wide}
    P = lambda p: {"fn": "top_p", "p": p}
    M = lambda p, keep=1: {"fn": "min_p", "p": p, "keep": keep}
    X = lambda t, special=(): {"fn": "xtc", "threshold": t, "special": list(special)}
    K = lambda k: {"fn": "top_k", "k": k}
    for name, v in vectors.items():
        v = np.round(v, 4)
        sets = [[P(p)] for p in (0.05, 0.5, 0.9, 0.99)] + [[M(p)] for p in (0.02, 0.1, 0.5, 1.0)] + [[M(0.9, 5)]]
        sets += [[K(k)] for k in (1, 3, 10)] + [[X(0.05)], [X(0.1, [int(np.argmax(v))])], [X(0.5)]]
        sets += [[P(0.9), M(0.05)], [P(0.95), K(5)], [M(0.02), K(8)], [P(0.95), M(0.02), X(0.1), K(6)], []]
        for steps in sets:
            for temp in (1.0, 0.6) if len(steps) != 1 else (1.0,):
                filters(name, v, steps, temp)
    ties = [1.0, 2.0, 2.0, 2.0, 0.0, -1.0]
    for steps in ([P(0.3)], [P(0.6)], [M(0.9)], [M(0.3)]):
        filters("ties", ties, steps)
    filters("masked", [0.5, -np.inf, 2.0, -np.inf, 1.0], [P(0.8)])
    filters("masked", [0.5, -np.inf, 2.0, -np.inf, 1.0], [M(0.2)])
    filters("masked", [0.5, -np.inf, 2.0, -np.inf, 1.0], [K(2)])

    v = np.round(small, 4)
    some, long = [3, 5, 3, 0, 3], [i % 12 for i in range(5)] + [7] * 18 + [9, 2]
    for tokens in (some, long, []):
        for kw in (
            {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7}, {"repetition_penalty": 1.3, "repetition_context_size": 2},
            {"presence_penalty": 0.5}, {"frequency_penalty": 0.25}, {"frequency_penalty": 0.25, "frequency_context_size": 3},
            {"logit_bias": {4: -100.0, 0: 2.5}},
            {"logit_bias": {3: 1.0}, "repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.1},
        ):  # fmt: skip
            penalty("penalty", v, tokens, **kw)

    for name, v in vectors.items():
        for kw in ({"temp": 1.0}, {"temp": 0.7}, {"temp": 0.8, "top_p": 0.9}, {"temp": 1.0, "min_p": 0.05, "top_k": 5}):
            for seed in range(100):
                try:
                    draws(f"draws.{name}", np.round(v, 4), seed, 16, **kw)
                    break
                except Near:
                    pass
    about = (
        "logits: by name; steps -> kept, logprobs of those = log_softmax(filtered / temp); processors -> result; sampler and seed -> draws"
    )
    write_json("sampling.json", {"source": f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}", "about": about, "logits": LOGITS}, CASES)


if __name__ == "__main__":
    main()
