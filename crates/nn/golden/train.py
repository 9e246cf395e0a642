"""Writes train.txt: losses and layers of MLX in float32, which tests/golden.rs compares with.

Every line is a name and numbers. Inputs are the same simple functions of the index in both programs.
"""
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

mx.set_default_device(mx.cpu)


def wave(*shape, f=0.7):
    n = 1
    for s in shape:
        n *= s
    return (mx.sin(mx.arange(n, dtype=mx.float32) * f) * 0.5).reshape(shape)


lines = []


def put(name, a):
    values = mx.array(a, dtype=mx.float32).reshape(-1).tolist()
    lines.append(name + " " + " ".join(f"{v:.9g}" for v in values))


x = wave(2, 5, 4)
rnn = nn.LSTM(4, 3)
rnn.Wx, rnn.Wh, rnn.bias = wave(12, 4, f=0.3), wave(12, 3, f=0.9), wave(12)
put("lstm", rnn(x)[0])
gru = nn.GRU(4, 3)
gru.Wx, gru.Wh, gru.b, gru.bhn = wave(9, 4, f=0.3), wave(9, 3, f=0.9), wave(9), wave(3)
put("gru", gru(x, mx.zeros((2, 3))))
put("group", nn.GroupNorm(2, 4)(x))
put("group_torch", nn.GroupNorm(2, 4, pytorch_compatible=True)(x))
put("instance", nn.InstanceNorm(4)(x))
bn = nn.BatchNorm(4)
put("batch", bn(x))
put("batch_var", bn.running_var)
put("avg_pool", nn.AvgPool2d(2, 2)(wave(1, 4, 4, 2)))
put("sinusoidal", nn.SinusoidalPositionalEncoding(8)(mx.arange(3, dtype=mx.float32)))
for name in "celu elu gelu gelu_approx gelu_fast_approx glu hard_shrink hard_tanh hardswish leaky_relu log_sigmoid log_softmax mish relu relu2 relu6 selu sigmoid silu softmax softmin softplus softshrink softsign step tanh".split():
    put(name, getattr(nn, name)(wave(12) * 8))
put("cross_entropy", nn.losses.cross_entropy(wave(2, 4), mx.array([1, 3]), label_smoothing=0.1))
a, b = wave(2, 4), wave(2, 4, f=0.4)
for name in "l1_loss mse_loss smooth_l1_loss huber_loss log_cosh_loss hinge_loss kl_div_loss cosine_similarity_loss".split():
    put(name, getattr(nn.losses, name)(a, b, reduction="none"))
put("margin", nn.losses.margin_ranking_loss(a, b, mx.sign(b), 0.1))
rules = {
    "rmsprop": optim.RMSprop(0.1),
    "adagrad": optim.Adagrad(0.1),
    "adadelta": optim.AdaDelta(0.1),
    "adam": optim.Adam(0.1),
    "adamw": optim.AdamW(0.1),
    "adamax": optim.Adamax(0.1),
}
for name, rule in rules.items():
    p = {"weight": wave(2, 3)}
    rule.init(p)
    for i in range(20):
        p = rule.apply_gradients({"weight": p["weight"] + wave(2, 3, f=0.2 * (i + 1))}, p)
    put(name, p["weight"])
open(__file__.replace(".py", ".txt"), "w").write("\n".join(lines) + "\n")
