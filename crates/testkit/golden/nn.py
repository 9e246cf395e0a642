"""nn.safetensors, nn.json: activations, losses, layers, optimizers and schedules of MLX in float32.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python nn.py

Five kinds of cases. `activation` and `loss`: a function of `inputs` with `attrs`, its result, and the
gradient by the first input of the sum of the result times `cotangent`. `layer`: parameters by their
names, inputs, outputs; batch normalisation has its running statistics afterwards as further outputs.
`optimizer`: parameters, gradients of each step, parameters after each step. `schedule`: rates at steps.
Initial parameters are replaced by random numbers, so nothing depends on a generator but NumPy's.
"""

from importlib.metadata import version

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from golden import write_json, write_safetensors

RNG = np.random.default_rng(29)
TENSORS, CASES = {}, []


def normal(*shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def put(id, part, a):
    TENSORS[f"{id}.{part}"] = np.array(a)


def case(id, kind, **facts):
    CASES.append({"id": id, "kind": kind, **facts})


def function(kind, name, inputs, attrs=None, suffix="", call=None):
    """A function, and the gradient by its first input."""
    id, attrs = f"{kind}.{name}{suffix}", attrs or {}
    f = call or getattr(nn if kind == "activation" else nn.losses, name)
    arrays = [mx.array(a) for a in inputs]
    out = f(*arrays, **attrs)
    c = normal(*out.shape)
    for i, a in enumerate(inputs):
        put(id, f"in{i}", a)
    put(id, "out", out)
    facts = {}
    if out.dtype == mx.float32:
        put(id, "cotangent", c)
        put(id, "grad", mx.grad(lambda x: (f(x, *arrays[1:], **attrs) * mx.array(c)).sum())(arrays[0]))
        facts["grad"] = True
    case(id, kind, op=name, inputs=len(inputs), attrs=attrs, **facts)


def activations():
    x = np.concatenate([normal(18, scale=2), [0.5, -0.5, 20.0, -20.0, 4.0, -4.0]]).astype(np.float32).reshape(4, 6)
    plain = "sigmoid tanh silu relu relu2 relu6 selu gelu gelu_approx gelu_fast_approx hardswish"
    for name in (plain + " log_sigmoid softplus softsign mish").split():
        function("activation", name, [x])
    for name, key, values in [
        ("leaky_relu", "negative_slope", (0.01, 0.3)), ("elu", "alpha", (1.0, 0.5)), ("celu", "alpha", (1.0, 0.5)),
        ("hard_shrink", "lambd", (0.5, 1.0)), ("softshrink", "lambd", (0.5, 1.0)), ("step", "threshold", (0.0, 1.0)),
        ("softmax", "axis", (-1, 0)), ("softmin", "axis", (-1, 0)), ("log_softmax", "axis", (-1, 0)), ("glu", "axis", (-1, 0)),
    ]:
        for i, value in enumerate(values):
            function("activation", name, [x], {key: value}, f".{i}")
    function("activation", "hard_tanh", [x], {"min_val": -1.0, "max_val": 1.0}, ".0")
    function("activation", "hard_tanh", [x], {"min_val": -0.5, "max_val": 3.0}, ".1")
    function("activation", "prelu", [x, normal(6)])


def losses():
    x, y, z = normal(3, 4), normal(3, 4), normal(3, 4)
    p = RNG.random((3, 4)).astype(np.float32)
    signs = np.sign(normal(3, 4))
    classes = RNG.integers(0, 4, 3).astype(np.int32)
    probabilities = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    for reduction in ("none", "mean", "sum"):
        r, s = {"reduction": reduction}, f".{reduction}"
        function("loss", "cross_entropy", [y, classes], r, s)
        function("loss", "cross_entropy", [y, probabilities], r | {"label_smoothing": 0.3}, s + ".probabilities")
        function("loss", "cross_entropy", [y, classes, p[:, 0]], r | {"label_smoothing": 0.1}, s + ".weights")
        function("loss", "cross_entropy", [y, RNG.integers(0, 3, 4).astype(np.int32)], r | {"axis": 0}, s + ".axis")
        function("loss", "binary_cross_entropy", [x, p], r, s)
        function("loss", "binary_cross_entropy", [p, z**2 / (z**2 + 1)], r | {"with_logits": False}, s + ".probabilities")
        function("loss", "binary_cross_entropy", [x, p, p.T.reshape(3, 4).copy()], r, s + ".weights")
        for name in "l1_loss mse_loss hinge_loss log_cosh_loss".split():
            function("loss", name, [x, signs if name == "hinge_loss" else y], r, s)
        function("loss", "nll_loss", [x, classes], r, s)
        function("loss", "gaussian_nll_loss", [x, y, p], r, s)
        function("loss", "gaussian_nll_loss", [x, y, p], r | {"full": True, "eps": 0.5}, s + ".full")
        function("loss", "kl_div_loss", [np.log(p), np.log(probabilities)], r, s)
        function("loss", "smooth_l1_loss", [x, y], r | {"beta": 0.7}, s)
        function("loss", "huber_loss", [x, y], r | {"delta": 0.7}, s)
        function("loss", "triplet_loss", [x, y, z], r | {"margin": 2.0}, s)
        function("loss", "cosine_similarity_loss", [x, y], r, s)
        function("loss", "margin_ranking_loss", [x, y, signs], r | {"margin": 0.3}, s)


def layer(id, module, *inputs, attrs=None, after=(), **call):
    """A layer with random parameters."""
    id = f"layer.{id}"
    names = dict(tree_flatten(module.parameters()))
    values = {}
    for name, old in names.items():
        a = normal(*old.shape, scale=0.5)
        values[name] = np.abs(a) + 0.5 if name.endswith("running_var") else a
        put(id, f"p.{name}", values[name])
    module.update(tree_unflatten([(k, mx.array(v)) for k, v in values.items()]))
    module.eval()
    if after:
        module.train()
    for i, a in enumerate(inputs):
        put(id, f"in{i}", a)
    out = module(*[mx.array(a) for a in inputs], **call)
    outs = list(out) if isinstance(out, tuple) else [out]
    outs += [module[name] for name in after]
    for i, a in enumerate(outs):
        put(id, f"out{i}", a)
    case(id, "layer", op=id.split(".")[1], parameters=sorted(names), inputs=len(inputs), outputs=len(outs), attrs=attrs or {})


def layers():
    x1, x2, x3 = normal(2, 9, 4), normal(2, 7, 6, 4), normal(1, 5, 4, 6, 4)
    for rank, x in ((1, x1), (2, x2), (3, x3)):
        for name in ("MaxPool", "AvgPool"):
            for i, kw in enumerate([{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 1}]):
                layer(f"{name}{rank}d.{i}", getattr(nn, f"{name}{rank}d")(**kw), x, attrs=kw)
        for i, kw in enumerate([{}, {"stride": 2, "padding": 1, "dilation": 2} | ({"groups": 2} if rank < 3 else {})]):
            layer(f"Conv{rank}d.{i}", getattr(nn, f"Conv{rank}d")(4, 6, 2, **kw), x, attrs=kw)
        for i, kw in enumerate([{}, {"stride": 2, "padding": 1, "output_padding": 1}]):
            layer(f"ConvTranspose{rank}d.{i}", getattr(nn, f"ConvTranspose{rank}d")(4, 3, 2, **kw), x[:1, :4], attrs=kw)
    layer("BatchNorm.train", nn.BatchNorm(4), x2, attrs={"train": True}, after=("running_mean", "running_var"))
    layer("BatchNorm.eval", nn.BatchNorm(4), x2)
    layer("BatchNorm.rows", nn.BatchNorm(4), normal(6, 4), attrs={"train": True}, after=("running_mean", "running_var"))
    layer("GroupNorm.own", nn.GroupNorm(2, 4), x2)
    layer("GroupNorm.pytorch", nn.GroupNorm(2, 4, pytorch_compatible=True), x2, attrs={"pytorch_compatible": True})
    layer("InstanceNorm.plain", nn.InstanceNorm(4), x2)
    layer("InstanceNorm.affine", nn.InstanceNorm(4, affine=True), x1, attrs={"affine": True})
    layer("LayerNorm.0", nn.LayerNorm(4), x1)
    layer("RMSNorm.0", nn.RMSNorm(4), x1)
    layer("Linear.0", nn.Linear(4, 3), x1)
    layer("Bilinear.0", nn.Bilinear(4, 3, 5), normal(2, 3, 4), normal(2, 3, 3))
    layer("Embedding.0", nn.Embedding(7, 4), RNG.integers(0, 7, (2, 3)).astype(np.int32))
    layer("PReLU.0", nn.PReLU(), x1)
    layer("RoPE.0", nn.RoPE(4), normal(1, 2, 5, 6), attrs={"dims": 4, "offset": 3}, offset=3)
    layer("RoPE.1", nn.RoPE(6, traditional=True, base=100, scale=0.5), normal(1, 2, 5, 6), attrs={"dims": 6, "traditional": True, "base": 100, "scale": 0.5, "offset": 0})
    for i, kw in enumerate([{}, {"cos_first": True, "full_turns": True, "scale": 1.0, "min_freq": 0.01, "max_freq": 2.0}]):
        layer(f"SinusoidalPositionalEncoding.{i}", nn.SinusoidalPositionalEncoding(6, **kw), normal(2, 3), attrs=kw)
    layer("ALiBi.8", nn.ALiBi(), normal(1, 8, 3, 5), attrs={"offset": 2}, offset=2)
    layer("ALiBi.6", nn.ALiBi(), normal(1, 6, 3, 3), attrs={"offset": 0})
    layer("RNN.0", nn.RNN(4, 3), x1)
    layer("GRU.0", nn.GRU(4, 3), x1)
    layer("GRU.1", nn.GRU(4, 3, bias=False), normal(5, 4))
    layer("LSTM.0", nn.LSTM(4, 3), x1)
    for name, state in (("RNN", 1), ("GRU", 1), ("LSTM", 2)):
        layer(f"{name}.state", getattr(nn, name)(4, 3), x1, *[normal(2, 3) for _ in range(state)])
    layer("MultiHeadAttention.0", nn.MultiHeadAttention(8, 2, bias=True), normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 8))
    causal = nn.MultiHeadAttention.create_additive_causal_mask(4)
    for first in (True, False):
        kw = {"norm_first": first}
        encoder = nn.TransformerEncoder(2, 8, 2, 12, norm_first=first, activation=nn.gelu)
        layer(f"TransformerEncoder.{int(first)}", encoder, normal(2, 4, 8), attrs=kw, mask=causal)
        model = nn.Transformer(8, 2, 1, 1, 12, norm_first=first)
        masks = {"src_mask": None, "tgt_mask": causal, "memory_mask": None}
        layer(f"Transformer.{int(first)}", model, normal(2, 5, 8), normal(2, 4, 8), attrs=kw, **masks)
    number = 0
    for scale in (2.0, 1.5, 3.0, 0.5, 0.4):
        for x in (normal(1, 6, 2), normal(1, 4, 5, 2)):
            for mode in ("nearest", "linear", "cubic"):
                for align, antialias in ((False, False), (True, False), (False, True)):
                    if mode == "nearest" and (align or antialias) or x.ndim == 4 and scale in (3.0, 0.4):
                        continue
                    kw = {"scale_factor": scale, "mode": mode, "align_corners": align, "antialias": antialias}
                    layer(f"Upsample.{number}", nn.Upsample(**kw), x, attrs=kw)
                    number += 1


def optimizer(name, suffix="", rate=0.1, **kw):
    id = f"optimizer.{name}{suffix}"
    parameters = {"matrix": normal(3, 5), "tall": normal(6, 2), "vector": normal(4), "kernel": normal(4, 2, 2, 3)}
    args = [] if rate is None else [rate]
    opt = getattr(optim, name)(*args, **kw)
    now = {k: mx.array(v) for k, v in parameters.items()}
    for k, v in parameters.items():
        put(id, f"0.{k}", v)
    for step in range(1, 6):
        grads = {k: normal(*v.shape) for k, v in parameters.items()}
        now = opt.apply_gradients({k: mx.array(v) for k, v in grads.items()}, now)
        mx.eval(now, opt.state)
        for k in parameters:
            put(id, f"{step}.g.{k}", grads[k])
            put(id, f"{step}.{k}", now[k])
    case(id, "optimizer", op=name, rate=rate, attrs=kw, names=sorted(parameters), steps=5)


def optimizers():
    optimizer("SGD")
    optimizer("SGD", ".momentum", momentum=0.9, weight_decay=0.1, dampening=0.2)
    optimizer("SGD", ".nesterov", momentum=0.9, nesterov=True)
    optimizer("RMSprop")
    optimizer("Adagrad")
    optimizer("AdaDelta", rate=1.0)
    optimizer("Adam")
    optimizer("Adam", ".corrected", bias_correction=True, betas=[0.8, 0.99], eps=1e-6)
    optimizer("AdamW", weight_decay=0.1)
    optimizer("Adamax")
    optimizer("Lion", weight_decay=0.1)
    optimizer("Adafactor", rate=None)
    optimizer("Adafactor", ".first", rate=0.05, relative_step=False, beta_1=0.9, weight_decay=0.1, clip_threshold=0.5)
    optimizer("Adafactor", ".warmup", rate=None, warmup_init=True, scale_parameter=False)
    optimizer("Muon")
    optimizer("Muon", ".plain", nesterov=False, weight_decay=0.0, momentum=0.8)


def schedules():
    joined = optim.join_schedules([optim.linear_schedule(0.0, 1.0, 5), optim.cosine_decay(1.0, 10, 0.1)], [5])
    for name, f, attrs in [
        ("exponential_decay", optim.exponential_decay(0.1, 0.9), [0.1, 0.9]),
        ("step_decay", optim.step_decay(0.1, 0.9, 3), [0.1, 0.9, 3]),
        ("cosine_decay", optim.cosine_decay(0.1, 7, 0.02), [0.1, 7, 0.02]),
        ("linear_schedule", optim.linear_schedule(0.1, 0.5, 6), [0.1, 0.5, 6]),
        ("join_schedules", joined, []),
    ]:
        steps = [0, 1, 2, 3, 4, 5, 6, 8, 13, 40]
        rates = [float(mx.array(f(mx.array(s, mx.int32)))) for s in steps]
        case(f"schedule.{name}", "schedule", op=name, attrs=attrs, steps=steps, rates=rates)


activations()
losses()
layers()
optimizers()
schedules()
write_safetensors("nn.safetensors", TENSORS)
write_json("nn.json", {"source": f"mlx {version('mlx')}", "tensors": "nn.safetensors"}, CASES)
