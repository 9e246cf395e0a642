"""Activation functions and the layers that apply them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import lazul.core as mx

from .base import Module


@partial(mx.compile, shapeless=True)
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    return mx.sigmoid(x)


@partial(mx.compile, shapeless=True)
def relu(x):
    """``max(x, 0)``."""
    return mx.maximum(x, 0)


@partial(mx.compile, shapeless=True)
def relu2(x):
    """``max(x, 0) ** 2``."""
    return mx.square(mx.maximum(x, 0))


@partial(mx.compile, shapeless=True)
def relu6(x):
    """``min(max(x, 0), 6)``."""
    return mx.minimum(mx.maximum(x, 0), 6.0)


@partial(mx.compile, shapeless=True)
def leaky_relu(x, negative_slope=0.01):
    """``x``, times ``negative_slope`` where it is negative."""
    return mx.maximum(negative_slope * x, x)


@partial(mx.compile, shapeless=True)
def log_softmax(x, axis=-1):
    """The logarithm of the softmax over an axis."""
    return x - mx.logsumexp(x, axis=axis, keepdims=True)


@partial(mx.compile, shapeless=True)
def elu(x, alpha=1.0):
    """``x``, or ``alpha * (exp(x) - 1)`` where it is negative."""
    return mx.where(x > 0, x, alpha * mx.expm1(mx.minimum(x, 0)))


@partial(mx.compile, shapeless=True)
def softmax(x, axis=-1):
    """The softmax over an axis."""
    return mx.softmax(x, axis=axis)


@partial(mx.compile, shapeless=True)
def softplus(x):
    """``log(1 + exp(x))``."""
    return mx.logaddexp(x, 0)


@partial(mx.compile, shapeless=True)
def softsign(x):
    """``x / (1 + abs(x))``."""
    return x / (1 + mx.abs(x))


@partial(mx.compile, shapeless=True)
def softshrink(x, lambd: float = 0.5):
    """``x`` moved towards 0 by ``lambd``, and 0 within it."""
    return mx.where(mx.abs(x) > lambd, x - mx.sign(x) * lambd, 0)


@partial(mx.compile, shapeless=True)
def celu(x, alpha=1.0):
    """``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return mx.maximum(x, 0.0) + alpha * mx.expm1(mx.minimum(x, 0.0) / alpha)


@partial(mx.compile, shapeless=True)
def silu(x):
    """``x * sigmoid(x)``, also called Swish."""
    return x * mx.sigmoid(x)


@partial(mx.compile, shapeless=True)
def log_sigmoid(x):
    """``log(sigmoid(x))``."""
    return -mx.logaddexp(-x, 0)


@partial(mx.compile, shapeless=True)
def gelu(x) -> mx.array:
    """``x * Φ(x)`` with the Gaussian distribution function Φ."""
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2


@partial(mx.compile, shapeless=True)
def gelu_approx(x):
    """:func:`gelu` by a tanh."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + mx.tanh(inner))


@partial(mx.compile, shapeless=True)
def gelu_fast_approx(x):
    """:func:`gelu` by a sigmoid: ``x * sigmoid(1.702 * x)``."""
    return x * mx.sigmoid(1.702 * x)


def glu(x: mx.array, axis: int = -1) -> mx.array:
    """The first half of an axis times the sigmoid of the second."""
    a, b = mx.split(x, 2, axis=axis)
    return a * mx.sigmoid(b)


@partial(mx.compile, shapeless=True)
def step(x: mx.array, threshold: float = 0.0):
    """1 above the threshold, else 0."""
    return mx.where(x > threshold, 1, 0)


@partial(mx.compile, shapeless=True)
def selu(x):
    """:func:`elu` with the constants that keep mean and variance."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@partial(mx.compile, shapeless=True)
def prelu(x: mx.array, alpha: mx.array) -> mx.array:
    """``x``, times ``alpha`` where it is negative."""
    return mx.maximum(0, x) + alpha * mx.minimum(0, x)


@partial(mx.compile, shapeless=True)
def mish(x: mx.array) -> mx.array:
    """``x * tanh(softplus(x))``."""
    return x * mx.tanh(mx.logaddexp(x, 0))


@partial(mx.compile, shapeless=True)
def hardswish(x):
    """``x * min(max(x + 3, 0), 6) / 6``."""
    return x * mx.minimum(mx.maximum(x + 3, 0), 6) / 6


@partial(mx.compile, shapeless=True)
def hard_tanh(x, min_val=-1.0, max_val=1.0):
    """``x`` kept between two bounds."""
    return mx.minimum(mx.maximum(x, min_val), max_val)


@partial(mx.compile, shapeless=True)
def hard_shrink(x, lambd=0.5):
    """``x``, and 0 within ``lambd`` of it."""
    return mx.where(mx.abs(x) > lambd, x, 0)


@partial(mx.compile, shapeless=True)
def softmin(x, axis=-1):
    """The softmax of ``-x``."""
    return mx.softmax(-x, axis=axis)


def tanh(x):
    """The hyperbolic tangent."""
    return mx.tanh(x)


def _layer(name: str, fn, doc: str):
    """A layer without options that applies a function."""

    def __call__(self, x: mx.array) -> mx.array:
        return fn(x)

    words = {"__call__": __call__, "__doc__": doc, "__module__": __name__}
    return type(name, (Module,), words)


Sigmoid: Any = _layer("Sigmoid", sigmoid, "Applies :func:`sigmoid`.")
Mish: Any = _layer("Mish", mish, "Applies :func:`mish`.")
ReLU: Any = _layer("ReLU", relu, "Applies :func:`relu`.")
ReLU2: Any = _layer("ReLU2", relu2, "Applies :func:`relu2`.")
ReLU6: Any = _layer("ReLU6", relu6, "Applies :func:`relu6`.")
Softmax: Any = _layer("Softmax", softmax, "Applies :func:`softmax` to the last axis.")
Softplus: Any = _layer("Softplus", softplus, "Applies :func:`softplus`.")
Softsign: Any = _layer("Softsign", softsign, "Applies :func:`softsign`.")
SiLU: Any = _layer("SiLU", silu, "Applies :func:`silu`.")
LogSoftmax: Any = _layer("LogSoftmax", log_softmax, "Applies :func:`log_softmax` to the last axis.")
LogSigmoid: Any = _layer("LogSigmoid", log_sigmoid, "Applies :func:`log_sigmoid`.")
Tanh: Any = _layer("Tanh", tanh, "Applies :func:`tanh`.")
Hardswish: Any = _layer("Hardswish", hardswish, "Applies :func:`hardswish`.")
SELU: Any = _layer("SELU", selu, "Applies :func:`selu`.")
HardTanh: Any = _layer("HardTanh", hard_tanh, "Applies :func:`hard_tanh`.")
Softmin: Any = _layer("Softmin", softmin, "Applies :func:`softmin` to the last axis.")


class GLU(Module):
    """Applies :func:`glu` to an axis."""

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def __call__(self, x) -> Any:
        return glu(x=x, axis=self.axis)


class LeakyReLU(Module):
    """Applies :func:`leaky_relu`."""

    def __init__(self, negative_slope=1e-2):
        super().__init__()
        self._negative_slope = negative_slope

    def __call__(self, x):
        return leaky_relu(x, self._negative_slope)


class ELU(Module):
    """Applies :func:`elu`."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self._alpha = alpha

    def __call__(self, x):
        return elu(x, self._alpha)


class CELU(Module):
    """Applies :func:`celu`."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self._alpha = alpha

    def __call__(self, x):
        return celu(x, self._alpha)


class Softshrink(Module):
    """Applies :func:`softshrink`."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def __call__(self, x):
        return softshrink(x, self.lambd)


class HardShrink(Module):
    """Applies :func:`hard_shrink`."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def __call__(self, x):
        return hard_shrink(x, self.lambd)


class Step(Module):
    """Applies :func:`step`."""

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        self.threshold = threshold

    def __call__(self, x: mx.array):
        return step(x, self.threshold)


class PReLU(Module):
    """Applies :func:`prelu` with a slope that is learnt, one for all or one a feature."""

    def __init__(self, num_parameters=1, init=0.25):
        super().__init__()
        self.weight = mx.full([num_parameters], init)

    def __call__(self, x: mx.array):
        return prelu(x, self.weight)


class GELU(Module):
    """Applies :func:`gelu`, or an approximation: ``"precise"`` or ``"tanh"`` by a tanh, ``"fast"`` by a sigmoid."""

    def __init__(self, approx="none"):
        super().__init__()
        functions = {
            "none": gelu,
            "precise": gelu_approx,
            "tanh": gelu_approx,
            "fast": gelu_fast_approx,
        }
        if approx not in functions:
            raise ValueError(f"The approximation should be in {sorted(functions)} but '{approx}' was given")
        self._act = functions[approx]

    def __call__(self, x):
        return self._act(x)
