"""Transforms over Python's trees, compiled functions with captured state, and functions in files."""

import gc
import threading
import time
import weakref
from collections import namedtuple
from functools import partial

import pytest

import lazul.core as mx
import lazul.nn as nn
import lazul.optimizers as optim

X = mx.array([1.0, 2.0])


def f(x, y=None, w=None):
    return (x * (w if w is not None else 1) * (y if y is not None else 1)).sum()


def plain(tree):
    if isinstance(tree, mx.array):
        return tree.tolist()
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(plain(v) for v in tree)
    return tree


@pytest.mark.parametrize(
    "make,expected",
    [
        (lambda: mx.grad(f)(X), [1.0, 1.0]),
        (lambda: mx.grad(f, argnames="w")(X, w=X), (None, {"w": [1.0, 2.0]})),
        (lambda: mx.grad(f, argnums=0, argnames="w")(X, w=X), ([1.0, 2.0], {"w": [1.0, 2.0]})),
        (lambda: mx.grad(f, argnums=(0, 1))(X, X), ([1.0, 2.0], [1.0, 2.0])),
        (lambda: mx.grad(f, argnums=(0,))(X, X), [1.0, 2.0]),
        (lambda: mx.grad(f, argnums=1)(X, X), [1.0, 2.0]),
        (lambda: mx.value_and_grad(lambda x: (x.sum(), x, {"a": 3}))(X), ((3.0, [1.0, 2.0], {"a": 3}), [1.0, 1.0])),
        (lambda: mx.grad(lambda d: d["a"][0].sum() * 2)({"a": [X], "b": X}), {"a": [[2.0, 2.0]], "b": [0.0, 0.0]}),
        (lambda: mx.grad(mx.grad(lambda x: x * x * x))(mx.array(2.0)), 12.0),
        (lambda: mx.vjp(lambda x, y: [x * y, x], [X, X], [X, X]), ([[1.0, 4.0], [1.0, 2.0]], [[2.0, 6.0], [1.0, 4.0]])),
        (lambda: mx.jvp(lambda x: (x * 2, x), [X], [X]), ([[2.0, 4.0], [1.0, 2.0]], [[2.0, 4.0], [1.0, 2.0]])),
        (lambda: mx.vmap(lambda x, y: x + y, in_axes=(0, None))(X, mx.array(1.0)), [2.0, 3.0]),
        (lambda: mx.vmap(lambda d: d["a"] + d["b"], in_axes={"a": 0, "b": None})({"a": X, "b": X}), [[2.0, 3.0], [3.0, 4.0]]),
        (lambda: mx.vmap(lambda d, e: d["a"] + e, in_axes=({"a": 0}, None))({"a": X}, mx.array(1.0)), [2.0, 3.0]),
        (lambda: mx.vmap(lambda x: (x, x[None]), out_axes=(0, 1))(X), ([1.0, 2.0], [[1.0, 2.0]])),
        (lambda: mx.vmap(lambda x: x.sum(), in_axes=1)(mx.ones((2, 3))), [2.0, 2.0, 2.0]),
        (lambda: mx.vmap(mx.grad(lambda x: x * x))(X), [2.0, 4.0]),
        (lambda: mx.grad(lambda x: mx.vmap(lambda y: y * y)(x).sum())(X), [2.0, 4.0]),
        (lambda: mx.compile(lambda x, s: x + s)(X, 2), [3.0, 4.0]),
        (lambda: mx.compile(lambda x, *, k: {"a": x * k, "b": 3, "c": None})(X, k=2), {"a": [2.0, 4.0], "b": 3, "c": None}),
        (lambda: mx.grad(mx.compile(lambda x: (x * x).sum()))(X), [2.0, 4.0]),
        (lambda: mx.compile(mx.grad(lambda x: (x * x).sum()))(X), [2.0, 4.0]),
        (lambda: mx.checkpoint(lambda x, k=1: x * k)(X, k=2), [2.0, 4.0]),
        (lambda: mx.grad(mx.checkpoint(lambda x: (mx.exp(x) * 0 + x * x).sum()))(X), [2.0, 4.0]),
    ],
)
def test_values(make, expected):
    assert plain(make()) == expected


@pytest.mark.parametrize(
    "make,kind",
    [
        (lambda: mx.grad(lambda x: (x.sum(), x))(X), ValueError),
        (lambda: mx.grad(lambda x: 3)(X), ValueError),
        (lambda: mx.grad(lambda x: x * 2)(X), ValueError),
        (lambda: mx.grad(lambda x: x.sum(), argnums=1)(X), ValueError),
        (lambda: mx.grad(lambda x: x.sum(), argnums=-1)(X), ValueError),
        (lambda: mx.grad(lambda x: x)(1.0), ValueError),
        (lambda: mx.grad(lambda d: d["a"].sum())({"a": X, "b": 3}), ValueError),
        (lambda: mx.grad(3), TypeError),
        (lambda: mx.compile(3), TypeError),
        (lambda: mx.value_and_grad(lambda x: [x.sum()])(X), ValueError),
        (lambda: mx.compile(lambda x: x.item())(mx.array(1.0)), ValueError),
        (lambda: mx.vmap(lambda x: x if x > 0 else -x)(X), ValueError),
        (lambda: mx.vmap(lambda x: x)(mx.array(1.0)), ValueError),
        (lambda: mx.vmap(lambda x, y: x)(X, mx.ones(3)), ValueError),
        (lambda: mx.grad(lambda x: {}["key"])(X), KeyError),
        (lambda: mx.compile(lambda x: 1 / 0)(X), ZeroDivisionError),
        (lambda: mx.vmap(lambda x: (_ for _ in ()).throw(KeyboardInterrupt))(X), KeyboardInterrupt),
        (lambda: mx.vjp(lambda x: x, [X], [X, X]), ValueError),
    ],
)
def test_errors(make, kind):
    with pytest.raises(kind):
        make()


def test_named_tuples_stay_named_tuples():
    Point = namedtuple("Point", "x y")
    gradient = mx.grad(lambda p: (p.x * p.y).sum())(Point(X, X + 1))
    assert isinstance(gradient, Point) and plain(gradient.x) == [2.0, 3.0]
    assert isinstance(mx.compile(lambda p: Point(p.y, p.x))(Point(X, X)), Point)


def test_arguments_hold_what_they_held():
    kept = []

    def loss(x):
        kept.append(x)
        return (x * x).sum()

    mx.grad(loss)(X)
    mx.compile(loss)(X)
    assert [k.tolist() for k in kept] == [[1.0, 2.0]] * 2


def test_a_function_is_called_once_for_its_shapes_and_constants():
    calls = []

    @mx.compile
    def g(x, scale, name="a"):
        calls.append(x.shape)
        return x * scale

    for x in (X, X + 1, mx.ones(3), X):
        g(x, 2)
    g(X, 3)
    g(X, 2, name="b")
    g(X.astype(mx.float16), 2)
    assert len(calls) == 5
    calls.clear()
    shapeless = mx.compile(lambda x: (calls.append(0), x - x.mean())[1], shapeless=True)
    for n in range(2, 30):
        assert abs(shapeless(mx.arange(float(n))).sum().item()) < 1e-3
    assert len(calls) == 3


def test_methods_are_compiled_as_methods():
    class Scaled:
        factor = 3

        @mx.compile
        def __call__(self, x):
            return x * self.factor

        @partial(mx.grad, argnums=1)
        def slope(self, x):
            return (x * self.factor).sum()

    assert Scaled()(X).tolist() == [3.0, 6.0]
    assert Scaled().slope(X).tolist() == [3.0, 3.0]


def test_state_is_captured():
    state = {"count": mx.array(0), "list": [mx.array(1.0)]}
    old = state["count"]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x):
        state["count"] = state["count"] + 1
        state["list"][0] = state["list"][0] * x
        return state["count"] * 10

    assert [step(mx.array(2.0)).item() for _ in range(3)] == [10, 20, 30]
    assert plain(state) == {"count": 3, "list": [8.0]} and old.item() == 0
    state["count"] = mx.array(100)
    assert step(mx.array(1.0)).item() == 1010


def test_random_numbers_are_new_in_every_call():
    draw = mx.compile(lambda x: x + mx.random.uniform(shape=(3,)))
    assert draw(mx.zeros(3)).tolist() != draw(mx.zeros(3)).tolist()
    captured = partial(mx.compile, inputs=mx.random.state, outputs=mx.random.state)(
        lambda: mx.random.normal((3,))
    )
    mx.random.seed(5)
    first = [captured().tolist() for _ in range(2)]
    mx.random.seed(5)
    assert [mx.random.normal((3,)).tolist() for _ in range(2)] == first
    mx.random.seed(5)
    assert [captured().tolist() for _ in range(2)] == first


def test_compiled_training_is_training():
    def losses(compiled):
        mx.random.seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
        optimizer = optim.AdamW(optim.cosine_decay(1e-2, 20))
        mx.eval(model.parameters())
        x = mx.random.normal((32, 4))
        y = x.sum(1, keepdims=True)
        both = nn.value_and_grad(model, lambda x, y: nn.losses.mse_loss(model(x), y))
        state = [model.state, optimizer.state, mx.random.state]

        def step(x, y):
            loss, gradients = both(x, y)
            gradients, _ = optim.clip_grad_norm(gradients, 1.0)
            optimizer.update(model, gradients)
            return loss

        if compiled:
            step = mx.compile(step, inputs=state, outputs=state)
        out = []
        for _ in range(10):
            out.append(step(x, y))
            mx.eval(state, out[-1])
        return [v.item() for v in out]

    plainly, compiled = losses(False), losses(True)
    assert compiled == pytest.approx(plainly, rel=1e-4)
    assert compiled[-1] < compiled[0]


def test_custom_functions():
    @mx.custom_function
    def g(x, y):
        return mx.sin(x) * y

    @g.vjp
    def g_vjp(primals, cotangent, output):
        x, y = primals
        return cotangent * 100, cotangent * output

    assert plain(mx.grad(g, argnums=(0, 1))(mx.array(0.0), mx.array(2.0))) == (100.0, 0.0)
    assert g(mx.array(0.0), mx.array(2.0)).item() == 0.0

    @g.jvp
    def g_jvp(primals, tangents):
        return tangents[0] * 7

    assert plain(mx.jvp(g, [X, X], [X, X])[1]) == [[7.0, 14.0]]

    @g.vmap
    def g_vmap(inputs, axes):
        return inputs[0] + inputs[1] * 1000, 0

    assert mx.vmap(g)(X, X).tolist() == [1001.0, 2002.0]

    @mx.custom_function
    def wrong(x):
        return x

    @wrong.vjp
    def wrong_vjp(primals, cotangent, output):
        return cotangent, cotangent

    with pytest.raises(ValueError, match="vjp"):
        mx.grad(wrong)(mx.array(1.0))


def test_compile_can_be_turned_off():
    g = mx.compile(lambda x: x * x.item())
    mx.disable_compile()
    assert g(mx.array(3.0)).item() == 9.0
    mx.enable_compile()
    with pytest.raises(ValueError):
        g(mx.array(3.0))


def test_functions_in_files(tmp_path):
    path = str(tmp_path / "f.mlxfn")
    w = mx.array([[1.0], [2.0]])
    mx.export_function(path, lambda x, *, scale: [x @ w * scale, x], X[None], scale=X[0], metadata="hello")
    again, text = mx.import_function(path, return_metadata=True)
    assert text == "hello" and plain(again(X[None], scale=mx.array(2.0))) == ([[10.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError):
        again(mx.ones((5, 2)), scale=mx.array(2.0))
    mx.export_function(path, lambda x: x @ w, mx.ones((3, 2)), shapeless=True)
    assert mx.import_function(path)(mx.ones((7, 2)))[0].shape == (7, 1)
    with mx.exporter(path, lambda x: x + 1) as exporter:
        exporter(mx.ones(2))
        exporter(mx.ones(3))
    both = mx.import_function(path)
    assert both(mx.ones(3))[0].tolist() == [2.0] * 3 and both(mx.ones(2))[0].tolist() == [2.0] * 2
    with pytest.raises(FileNotFoundError):
        mx.import_function(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "transform", [mx.grad, mx.vmap, mx.checkpoint, mx.compile, mx.custom_function], ids=lambda t: t.__name__
)
def test_transforms_are_nested_so_deep_only(transform):
    """Each level takes native stack: hundreds of them ended the process."""

    def nested(depth):
        if depth == 0:
            return mx.array(0.0)
        x = mx.ones(1) if transform is mx.vmap else mx.array(1.0)
        return transform(lambda v: (nested(depth - 1) + v * v).sum())(x).sum()

    assert nested(64).ndim == 0
    with pytest.raises(RecursionError, match="nested deeper"):
        nested(65)
    assert nested(64).ndim == 0


def test_a_training_step_that_draws_is_compiled():
    """The first trace shows that random numbers are drawn; the second found its placeholders in the state."""
    mx.random.seed(3)
    model = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 1))
    optimizer = optim.Adam(1e-2)
    loss_and_grad = nn.value_and_grad(model, lambda x, y: nn.losses.mse_loss(model(x), y))
    state = [model.state, optimizer.state]

    def step(x, y):
        loss, gradients = loss_and_grad(x, y)
        optimizer.update(model, gradients)
        return loss

    compiled = mx.compile(step, inputs=state, outputs=state)
    x = mx.random.normal((64, 4))
    y = x.sum(axis=1, keepdims=True)
    losses = [compiled(x, y).item() for _ in range(60)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert optimizer.step.item() == 60


@pytest.mark.parametrize("shapeless", [False, True])
def test_a_trace_that_fails_leaves_the_state(shapeless):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(0.1, momentum=0.9)
    held = [mx.array(1.0)]
    state = [model.state, optimizer.state, held]
    before, handle = model.weight.tolist(), held[0]
    fail = [True]

    def step(x):
        loss, gradients = nn.value_and_grad(model, lambda v: model(v).sum())(x)
        optimizer.update(model, gradients)
        held[0] = held[0] + loss
        held.append(loss)
        if fail[0]:
            raise KeyError("no")
        held.pop()
        return loss

    compiled = mx.compile(step, inputs=state, outputs=state, shapeless=shapeless)
    x = mx.ones((3, 2))
    with pytest.raises(KeyError):
        compiled(x)
    assert held == [handle] and held[0] is handle and held[0].item() == 1.0
    assert model.weight.tolist() == before and sorted(optimizer.state) == ["learning_rate", "step"]
    fail[0] = False
    compiled(x)
    assert model.weight.tolist() != before and optimizer.step.item() == 1


def test_draws_of_other_threads_are_not_the_functions():
    """A trace counts its own draws: with another thread's a function was traced again."""
    calls, stop = [], threading.Event()

    def draw():
        while not stop.is_set():
            mx.random.normal((2,))

    def f(x):
        calls.append(1)
        time.sleep(0.05)
        return x + 1

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        mx.compile(f)(mx.array(1.0))
    finally:
        stop.set()
        thread.join()
    assert len(calls) == 1


def test_cycles_through_functions_are_freed():
    """A trainer that keeps its compiled step was never freed."""

    class Trainer:
        def __init__(self, transform):
            self.step = transform(self._step)

        def _step(self, x):
            return x.sum()

    for transform in (mx.compile, mx.grad, mx.vmap, mx.checkpoint, mx.custom_function):
        trainer = Trainer(transform)
        trainer.step(mx.ones((2, 2)))
        gone = weakref.ref(trainer)
        del trainer
        gc.collect()
        assert gone() is None, transform
    state = []
    f = mx.compile(lambda x: x, inputs=state, outputs=state)
    state.append({"f": f})
    rule = mx.custom_function(lambda x: x)
    rule.vjp(rule)
    gone = [weakref.ref(f), weakref.ref(rule)]
    del state, f, rule
    gc.collect()
    assert [g() for g in gone] == [None, None]


def test_garbage_is_collected_while_functions_are_made():
    """The collector looked into a function whose fields were not there yet, which ended the process."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for transform in (mx.compile, mx.grad, mx.vmap, mx.checkpoint, mx.custom_function):
            assert len([transform(lambda x: x) for _ in range(300)]) == 300
    finally:
        gc.set_threshold(*before)
