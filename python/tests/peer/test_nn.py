"""Layers, losses, initializers' shapes and optimizers give what MLX gives, in float32."""

import pytest

mlx = pytest.importorskip("mlx.core")

import mlx.nn as peer_nn  # noqa: E402
import mlx.optimizers as peer_optim  # noqa: E402
import mlx.utils as peer_utils  # noqa: E402
import numpy as np  # noqa: E402

import lazul.core as mx  # noqa: E402
import lazul.nn as nn  # noqa: E402
import lazul.optimizers as optim  # noqa: E402
from lazul.utils import tree_flatten, tree_unflatten  # noqa: E402

RNG = np.random.default_rng(0)


def data(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ids(high, *shape):
    return RNG.integers(0, high, shape).astype(np.int32)


def both(array):
    return mx.array(array), mlx.array(array)


def close(a, b, tolerance=2e-5):
    a = a if isinstance(a, (list, tuple)) else [a]
    b = b if isinstance(b, (list, tuple)) else [b]
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert x.shape == tuple(y.shape)
        assert str(x.dtype).split(".")[-1] == str(y.dtype).split(".")[-1]
        np.testing.assert_allclose(np.array(x), np.array(y), rtol=tolerance, atol=tolerance)


def as_numpy(x):
    return np.array(x)


LAYERS = [
    ("Linear", (3, 4), {}, [data(2, 3)]),
    ("Linear", (3, 4), {"bias": False}, [data(2, 5, 3)]),
    ("Bilinear", (3, 4, 5), {}, [data(2, 3), data(2, 4)]),
    ("Identity", (), {}, [data(2, 3)]),
    ("Embedding", (7, 4), {}, [ids(7, 2, 3)]),
    ("Conv1d", (3, 4, 3), {"stride": 2, "padding": 1}, [data(2, 9, 3)]),
    ("Conv2d", (4, 6, 3), {"groups": 2, "dilation": 2}, [data(2, 9, 8, 4)]),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, [data(1, 4, 5, 4, 2)]),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2, "output_padding": 1}, [data(2, 5, 3)]),
    ("ConvTranspose2d", (3, 4, 3), {"stride": 2, "padding": 1}, [data(2, 5, 4, 3)]),
    ("ConvTranspose3d", (2, 3, 2), {}, [data(1, 3, 3, 3, 2)]),
    ("InstanceNorm", (4,), {"affine": True}, [data(2, 5, 6, 4)]),
    ("LayerNorm", (4,), {}, [data(2, 3, 4)]),
    ("LayerNorm", (4,), {"affine": False}, [data(2, 3, 4)]),
    ("RMSNorm", (4,), {}, [data(2, 3, 4)]),
    ("GroupNorm", (2, 8), {}, [data(2, 5, 8)]),
    ("GroupNorm", (2, 8), {"pytorch_compatible": True}, [data(2, 5, 3, 8)]),
    ("BatchNorm", (4,), {}, [data(6, 4)]),
    ("BatchNorm", (4,), {"track_running_stats": False}, [data(2, 5, 4)]),
    ("MaxPool1d", (3,), {"stride": 2}, [data(2, 9, 3)]),
    ("AvgPool1d", (3,), {"padding": 1}, [data(2, 9, 3)]),
    ("MaxPool2d", (2,), {"padding": 1}, [data(2, 7, 6, 3)]),
    ("AvgPool2d", ((2, 3),), {"stride": 2}, [data(2, 7, 6, 3)]),
    ("MaxPool3d", (2,), {}, [data(1, 4, 4, 4, 2)]),
    ("AvgPool3d", (2,), {"stride": 1}, [data(1, 4, 4, 4, 2)]),
    ("RoPE", (8,), {}, [data(1, 2, 5, 8)]),
    ("RoPE", (4,), {"traditional": True, "scale": 0.5}, [data(1, 2, 5, 8)]),
    ("SinusoidalPositionalEncoding", (8,), {}, [data(2, 3)]),
    ("SinusoidalPositionalEncoding", (8,), {"cos_first": True, "full_turns": True}, [data(2, 3)]),
    ("ALiBi", (), {}, [data(1, 4, 5, 5)]),
    ("RNN", (3, 4), {}, [data(2, 5, 3)]),
    ("RNN", (3, 4), {"bias": False}, [data(5, 3)]),
    ("GRU", (3, 4), {}, [data(2, 5, 3)]),
    ("GRU", (3, 4), {"bias": False}, [data(2, 5, 3)]),
    ("LSTM", (3, 4), {}, [data(2, 5, 3)]),
    ("MultiHeadAttention", (8, 2), {}, [data(2, 5, 8), data(2, 5, 8), data(2, 5, 8)]),
    ("MultiHeadAttention", (8, 2), {"bias": True}, [data(2, 5, 8), data(2, 3, 8), data(2, 3, 8)]),
    ("TransformerEncoderLayer", (8, 2), {}, [data(2, 5, 8), None]),
    ("TransformerEncoder", (2, 8, 2), {"norm_first": False}, [data(2, 5, 8), None]),
    ("TransformerDecoder", (1, 8, 2), {}, [data(2, 5, 8), data(2, 3, 8), None, None]),
    ("TransformerDecoderLayer", (8, 2), {"norm_first": False}, [data(2, 5, 8), data(2, 3, 8), None, None]),
    (
        "Transformer",
        (8, 2, 1, 1),
        {},
        [data(2, 5, 8), data(2, 4, 8), None, None, None],
    ),
    ("Upsample", (2,), {}, [data(1, 3, 4, 2)]),
    ("Upsample", (1.5,), {}, [data(1, 4, 4, 2)]),
    ("Upsample", ((2, 3),), {"mode": "linear"}, [data(1, 3, 4, 2)]),
    ("Upsample", (2,), {"mode": "linear", "align_corners": True}, [data(1, 5, 2)]),
    ("Upsample", (2,), {"mode": "cubic"}, [data(1, 5, 6, 2)]),
    ("Upsample", (0.5,), {"mode": "linear"}, [data(1, 8, 6, 2)]),
    ("QuantizedLinear", (64, 32), {}, [data(2, 64)]),
    ("QuantizedLinear", (64, 32), {"mode": "mxfp4", "bias": False}, [data(2, 64)]),
    ("QuantizedEmbedding", (7, 64), {}, [ids(7, 2, 3)]),
    ("AllToShardedLinear", (3, 4), {}, [data(2, 3)]),
    ("ShardedToAllLinear", (3, 4), {}, [data(2, 3)]),
    ("QuantizedAllToShardedLinear", (64, 32), {}, [data(2, 64)]),
    ("QuantizedShardedToAllLinear", (64, 32), {}, [data(2, 64)]),
    ("PReLU", (), {}, [data(3, 4)]),
    ("GLU", (), {}, [data(3, 4)]),
    ("LeakyReLU", (0.2,), {}, [data(3, 4)]),
    ("ELU", (0.7,), {}, [data(3, 4)]),
    ("CELU", (0.7,), {}, [data(3, 4)]),
    ("Softshrink", (0.3,), {}, [data(3, 4)]),
    ("HardShrink", (0.3,), {}, [data(3, 4)]),
    ("Step", (0.3,), {}, [data(3, 4)]),
    ("GELU", (), {}, [data(3, 4)]),
    ("GELU", ("precise",), {}, [data(3, 4)]),
    ("GELU", ("fast",), {}, [data(3, 4)]),
] + [
    (name, (), {}, [3 * data(3, 4)])
    for name in (
        "Sigmoid Mish ReLU ReLU2 ReLU6 Softmax Softplus Softsign SiLU LogSoftmax LogSigmoid Tanh Hardswish SELU "
        "HardTanh Softmin"
    ).split()
]


@pytest.mark.parametrize("name,args,kwargs,inputs", LAYERS, ids=[f"{i}-{c[0]}" for i, c in enumerate(LAYERS)])
def test_layers(name, args, kwargs, inputs):
    theirs = getattr(peer_nn, name)(*args, **kwargs)
    ours = getattr(nn, name)(*args, **kwargs)
    weights = [(k, as_numpy(v)) for k, v in peer_utils.tree_flatten(theirs.parameters())]
    own = dict(tree_flatten(ours.parameters()))
    assert {k: v.shape for k, v in weights} == {k: v.shape for k, v in own.items()}
    ours.load_weights([(k, mx.array(v)) for k, v in weights])
    xs = [both(x) if x is not None else (None, None) for x in inputs]
    close(ours(*(x[0] for x in xs)), theirs(*(x[1] for x in xs)), 1e-4)
    names = lambda m, flatten: sorted(k for k, _ in flatten(m.trainable_parameters()))  # noqa: E731
    assert names(ours, tree_flatten) == names(theirs, peer_utils.tree_flatten)
    ours.eval()
    theirs.eval()
    close(ours(*(x[0] for x in xs)), theirs(*(x[1] for x in xs)), 1e-4)
    ours.train()
    ours.unfreeze()
    theirs.unfreeze()
    assert names(ours, tree_flatten) == names(theirs, peer_utils.tree_flatten)


def test_every_layer_is_there():
    for name in dir(peer_nn):
        if not name.startswith("_"):
            assert hasattr(nn, name), name
    for name in dir(peer_nn.losses) + dir(peer_nn.init):
        if not name.startswith("_") and name not in ("partial", "mx", "Callable", "get_args"):
            found = hasattr(nn.losses, name) or hasattr(nn.init, name)
            assert found, name


A, B = data(4, 5), data(4, 5)
SIGNS = np.sign(data(4, 5))
LOG_P = np.log(np.abs(data(4, 5)) + 0.1)
SHARES = np.abs(B) / np.abs(B).sum(1, keepdims=True)
LOSSES = [
    ("cross_entropy", [A, ids(5, 4)], {}),
    ("cross_entropy", [A, ids(5, 4)], {"label_smoothing": 0.2, "reduction": "mean"}),
    ("cross_entropy", [A, SHARES], {"weights": np.abs(data(4))}),
    ("cross_entropy", [A, SHARES], {"label_smoothing": 0.3}),
    ("binary_cross_entropy", [A, (B > 0).astype(np.float32)], {}),
    ("binary_cross_entropy", [1 / (1 + np.exp(-A)), (B > 0).astype(np.float32)], {"with_logits": False, "reduction": "none"}),
    ("l1_loss", [A, B], {}),
    ("mse_loss", [A, B], {"reduction": "sum"}),
    ("nll_loss", [A, ids(5, 4)], {}),
    ("gaussian_nll_loss", [A, B, np.abs(data(4, 5))], {"full": True}),
    ("kl_div_loss", [A, LOG_P], {}),
    ("smooth_l1_loss", [A, B], {"beta": 0.5, "reduction": "none"}),
    ("triplet_loss", [A, B, data(4, 5)], {}),
    ("hinge_loss", [A, SIGNS], {}),
    ("huber_loss", [A, B], {"delta": 0.5}),
    ("log_cosh_loss", [A, B], {}),
    ("cosine_similarity_loss", [A, B], {}),
    ("margin_ranking_loss", [A, B, SIGNS], {"margin": 0.3}),
]


@pytest.mark.parametrize("name,arrays,kwargs", LOSSES, ids=[f"{i}-{c[0]}" for i, c in enumerate(LOSSES)])
def test_losses(name, arrays, kwargs):
    words = [{k: make(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()} for make in (mx.array, mlx.array)]
    ours = getattr(nn.losses, name)(*map(mx.array, arrays), **words[0])
    theirs = getattr(peer_nn.losses, name)(*map(mlx.array, arrays), **words[1])
    close(ours, theirs)


def run(core, network, optimizers, make, flatten, unflatten):
    tree = {"a": core.array(A), "b": [core.array(B[0]), core.array(data_conv)]}
    optimizer = make(optimizers)
    history = []
    for i in range(5):
        gradients = unflatten([(k, core.sin(v * (i + 1)) + 0.1) for k, v in flatten(tree)])
        tree = optimizer.apply_gradients(gradients, tree)
        history.append([np.array(v) for _, v in sorted(flatten(tree), key=lambda kv: kv[0])])
    rate = optimizer.state.get("learning_rate") if hasattr(optimizer, "state") else None
    return history, None if rate is None else np.array(rate)


data_conv = data(3, 2, 2)
OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1),
    "sgd momentum": lambda o: o.SGD(0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "sgd dampening": lambda o: o.SGD(0.1, momentum=0.9, dampening=0.3),
    "rmsprop": lambda o: o.RMSprop(0.01),
    "adagrad": lambda o: o.Adagrad(0.1),
    "adadelta": lambda o: o.AdaDelta(1.0),
    "adam": lambda o: o.Adam(0.01),
    "adam corrected": lambda o: o.Adam(0.01, bias_correction=True),
    "adamw": lambda o: o.AdamW(0.01, weight_decay=0.1),
    "adamax": lambda o: o.Adamax(0.01),
    "lion": lambda o: o.Lion(0.01, weight_decay=0.1),
    "adafactor": lambda o: o.Adafactor(),
    "adafactor rate": lambda o: o.Adafactor(0.01, relative_step=False, beta_1=0.9, weight_decay=0.1),
    "adafactor warm": lambda o: o.Adafactor(warmup_init=True, scale_parameter=False),
    "muon": lambda o: o.Muon(0.01),
    "muon plain": lambda o: o.Muon(0.01, nesterov=False, weight_decay=0.0),
    "cosine": lambda o: o.SGD(o.cosine_decay(0.1, 3)),
    "exponential": lambda o: o.Adam(o.exponential_decay(0.1, 0.9)),
    "step": lambda o: o.SGD(o.step_decay(0.1, 0.5, 2)),
    "joined": lambda o: o.SGD(o.join_schedules([o.linear_schedule(0.0, 0.1, 2), o.cosine_decay(0.1, 3)], [2])),
    "multi": lambda o: o.MultiOptimizer([o.SGD(0.1), o.Adam(0.01)], [lambda path, _g: path.startswith("b")]),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    make = OPTIMIZERS[name]
    ours = run(mx, nn, optim, make, tree_flatten, tree_unflatten)
    theirs = run(mlx, peer_nn, peer_optim, make, peer_utils.tree_flatten, peer_utils.tree_unflatten)
    for a, b in zip(ours[0], theirs[0]):
        for x, y in zip(a, b):
            np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)
    if ours[1] is not None:
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: i.constant(0.5),
        lambda i: i.normal(1.0, 2.0),
        lambda i: i.uniform(-1, 2),
        lambda i: i.glorot_normal(),
        lambda i: i.glorot_uniform(),
        lambda i: i.he_normal(),
        lambda i: i.he_uniform(),
    ],
)
def test_initializers(make):
    mx.random.seed(3)
    mlx.random.seed(3)
    close(make(nn.init)(mx.zeros((5, 4))), make(peer_nn.init)(mlx.zeros((5, 4))))
