"""Five programs in MLX's API give the same losses, in float32, run on MLX and on Lazul. Prints the times of both."""

import time
from functools import partial

import pytest

mlx = pytest.importorskip("mlx.core")

import mlx.nn as peer_nn  # noqa: E402
import mlx.optimizers as peer_optim  # noqa: E402
import mlx.utils as peer_utils  # noqa: E402
import numpy as np  # noqa: E402

import lazul.core  # noqa: E402
import lazul.nn  # noqa: E402
import lazul.optimizers  # noqa: E402
import lazul.utils  # noqa: E402

PLACES = {
    "mlx": (mlx, peer_nn, peer_optim, peer_utils),
    "lazul": (lazul.core, lazul.nn, lazul.optimizers, lazul.utils),
}
RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((64, 8)).astype(np.float32)
LABELS = RNG.integers(0, 4, 64).astype(np.int32)
TOKENS = RNG.integers(0, 50, (4, 17)).astype(np.int32)
IMAGES = RNG.random((16, 8, 8, 1)).astype(np.float32)


def given(mx, utils, model, seed):
    """The same weights wherever the program runs."""
    rng = np.random.default_rng(seed)
    names = sorted(utils.tree_flatten(model.parameters()), key=lambda kv: kv[0])
    model.load_weights(
        [(k, mx.array((rng.standard_normal(v.shape) * 0.2).astype(np.float32))) for k, v in names]
    )
    return model


def mlp(mx, nn, optim, utils):
    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)]

        def __call__(self, x):
            for layer in self.layers[:-1]:
                x = nn.relu(layer(x))
            return self.layers[-1](x)

    model = given(mx, utils, MLP(), 1)
    optimizer = optim.Adam(learning_rate=1e-2)
    step = nn.value_and_grad(model, lambda x, y: nn.losses.cross_entropy(model(x), y, reduction="mean"))
    x, y = mx.array(POINTS), mx.array(LABELS)
    for _ in range(20):
        loss, gradients = step(x, y)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        yield loss.item()


def transformer(mx, nn, optim, utils):
    class LM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 32)
            self.position = nn.SinusoidalPositionalEncoding(32)
            self.encoder = nn.TransformerEncoder(2, 32, 4, norm_first=True)
            self.head = nn.Linear(32, 50)

        def __call__(self, x):
            n = x.shape[1]
            mask = nn.MultiHeadAttention.create_additive_causal_mask(n)
            x = self.embedding(x) + self.position(mx.arange(n))[None]
            return self.head(self.encoder(x, mask))

    model = given(mx, utils, LM(), 2)
    optimizer = optim.AdamW(optim.cosine_decay(1e-2, 20), weight_decay=0.1)
    state = [model.state, optimizer.state]
    loss_of = lambda x, y: nn.losses.cross_entropy(model(x), y).mean()  # noqa: E731

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x, y):
        loss, gradients = nn.value_and_grad(model, loss_of)(x, y)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    tokens = mx.array(TOKENS)
    for _ in range(10):
        loss = step(tokens[:, :-1], tokens[:, 1:])
        mx.eval(state, loss)
        yield loss.item()


def vae(mx, nn, optim, utils):
    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(1, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm(8)
            self.mean = nn.Linear(128, 4)
            self.spread = nn.Linear(128, 4)
            self.up = nn.Linear(4, 128)
            self.out = nn.Conv2d(8, 1, 3, padding=1)

        def __call__(self, x, noise):
            h = nn.leaky_relu(self.norm(self.down(x))).flatten(1)
            mean, log_var = self.mean(h), self.spread(h)
            z = mean + mx.exp(log_var * 0.5) * noise
            y = nn.relu(self.up(z)).reshape(-1, 4, 4, 8)
            return mx.sigmoid(self.out(nn.layers.upsample.upsample_nearest(y, (2, 2)))), mean, log_var

    model = given(mx, utils, VAE(), 3)
    optimizer = optim.AdamW(learning_rate=3e-3)
    x, key = mx.array(IMAGES), mx.random.key(1)

    def loss_of(x, noise):
        y, mean, log_var = model(x, noise)
        divergence = -0.5 * mx.sum(1 + log_var - mean.square() - log_var.exp())
        return nn.losses.mse_loss(y, x, reduction="sum") + divergence

    step = nn.value_and_grad(model, loss_of)
    for _ in range(10):
        key, now = mx.random.split(key)
        loss, gradients = step(x, mx.random.normal((16, 4), key=now))
        optimizer.update(model, gradients)
        mx.eval(model.state, optimizer.state)
        yield loss.item()


def gan(mx, nn, optim, utils):
    maker = given(mx, utils, nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 8)), 4)
    judge = given(mx, utils, nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)), 5)
    one, two = optim.RMSprop(1e-3), optim.SGD(1e-2, momentum=0.9)
    real, key = mx.array(POINTS), mx.random.key(2)

    def judged(noise):
        right = nn.losses.binary_cross_entropy(judge(real), mx.ones((64, 1)))
        wrong = nn.losses.binary_cross_entropy(judge(mx.stop_gradient(maker(noise))), mx.zeros((64, 1)))
        return right + wrong

    def made(noise):
        return nn.losses.binary_cross_entropy(judge(maker(noise)), mx.ones((64, 1)))

    judge_step, maker_step = nn.value_and_grad(judge, judged), nn.value_and_grad(maker, made)
    for _ in range(10):
        key, now = mx.random.split(key)
        noise = mx.random.normal((64, 4), key=now)
        a, gradients = judge_step(noise)
        two.update(judge, gradients)
        b, gradients = maker_step(noise)
        one.update(maker, gradients)
        mx.eval(maker.parameters(), judge.parameters(), one.state, two.state)
        yield a.item() + b.item()


def lora(mx, nn, optim, utils):
    class LoRA(nn.Module):
        def __init__(self, linear, rank=4):
            super().__init__()
            outputs, inputs = linear.weight.shape
            self.linear = linear
            self.a = mx.zeros((inputs, rank))
            self.b = mx.zeros((rank, outputs))

        def __call__(self, x):
            return self.linear(x) + 2.0 * ((x @ self.a) @ self.b)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.RMSNorm(32)
            self.qkv = nn.Linear(32, 96, bias=False)
            self.out = nn.Linear(32, 32, bias=False)
            self.rope = nn.RoPE(8)

        def __call__(self, x):
            b, n, _ = x.shape
            q, k, v = (
                p.reshape(b, n, 4, 8).transpose(0, 2, 1, 3) for p in mx.split(self.qkv(self.norm(x)), 3, axis=-1)
            )
            y = mx.fast.scaled_dot_product_attention(self.rope(q), self.rope(k), v, scale=8**-0.5, mask="causal")
            return x + self.out(y.transpose(0, 2, 1, 3).reshape(b, n, 32))

    class LM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 32)
            self.blocks = [Block() for _ in range(2)]

        def __call__(self, x):
            x = self.embedding(x)
            for block in self.blocks:
                x = block(x)
            return self.embedding.as_linear(x)

    model = given(mx, utils, LM(), 6)
    nn.quantize(model, group_size=32, bits=8, class_predicate=lambda path, m: path.endswith("out"))
    model.freeze()
    for block in model.blocks:
        block.update_modules({"qkv": LoRA(block.qkv)})
    rng = np.random.default_rng(7)
    model.update(
        utils.tree_map(
            lambda v: mx.array((rng.standard_normal(v.shape) * 0.1).astype(np.float32)), model.trainable_parameters()
        )
    )
    optimizer = optim.Adam(1e-2, bias_correction=True)
    step = nn.value_and_grad(model, lambda x, y: nn.losses.cross_entropy(model(x), y).mean())
    tokens = mx.array(TOKENS)
    for _ in range(10):
        loss, gradients = step(tokens[:, :-1], tokens[:, 1:])
        optimizer.update(model, gradients)
        mx.eval(model.trainable_parameters(), optimizer.state)
        yield loss.item()


@pytest.mark.parametrize("program", [mlp, transformer, vae, gan, lora], ids=lambda p: p.__name__)
def test_losses_are_the_same(program, capsys):
    losses, seconds = {}, {}
    for name, place in PLACES.items():
        start = time.perf_counter()
        losses[name] = list(program(*place))
        seconds[name] = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n{program.__name__}: mlx {seconds['mlx']:.3f} s, lazul {seconds['lazul']:.3f} s")
    assert losses["lazul"] == pytest.approx(losses["mlx"], rel=2e-3)
    assert losses["lazul"][0] == pytest.approx(losses["mlx"][0], rel=1e-5)
