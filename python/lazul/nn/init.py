"""Initializers: each gives a function that makes an array of the shape of another.

>>> import lazul.core as mx
>>> constant(0.5)(mx.zeros(2))
array([0.5, 0.5], dtype=float32)
"""

from __future__ import annotations

import math
from typing import Callable, Literal, Tuple

import lazul.core as mx

Initializer = Callable[..., mx.array]


def constant(value: float, dtype: mx.Dtype = mx.float32) -> Initializer:
    """One value."""

    def initializer(a: mx.array) -> mx.array:
        return mx.full(a.shape, value, dtype=dtype)

    return initializer


def normal(mean: float = 0.0, std: float = 1.0, dtype: mx.Dtype = mx.float32) -> Initializer:
    """Normal numbers."""

    def initializer(a: mx.array) -> mx.array:
        return mx.random.normal(shape=a.shape, scale=std, loc=mean, dtype=dtype)

    return initializer


def uniform(low: float = 0.0, high: float = 1.0, dtype: mx.Dtype = mx.float32) -> Initializer:
    """Uniform numbers."""

    def initializer(a: mx.array) -> mx.array:
        return mx.random.uniform(low, high, a.shape, dtype=dtype)

    return initializer


def identity(dtype: mx.Dtype = mx.float32) -> Initializer:
    """The identity matrix."""

    def initializer(arr: mx.array) -> mx.array:
        if arr.ndim != 2 or arr.shape[0] != arr.shape[1]:
            raise ValueError(f"The input array must be a square matrix but got shape {arr.shape}.")
        return mx.eye(n=arr.shape[0], dtype=dtype)

    return initializer


def _fans(x: mx.array) -> Tuple[int, int]:
    """Inputs and outputs of a weight ``(out, …, in)``."""
    if x.ndim < 2:
        raise ValueError(
            f"Glorot / He initialization requires at least 2 dimensional input but input with {x.ndim} dimensions."
        )
    window = math.prod(x.shape[1:-1])
    return x.shape[-1] * window, x.shape[0] * window


def glorot_normal(dtype: mx.Dtype = mx.float32) -> Initializer:
    """Normal numbers of variance ``2 / (inputs + outputs)``, times a gain."""

    def initializer(a: mx.array, gain: float = 1.0) -> mx.array:
        inputs, outputs = _fans(a)
        std = gain * math.sqrt(2.0 / (inputs + outputs))
        return mx.random.normal(shape=a.shape, scale=std, dtype=dtype)

    return initializer


def glorot_uniform(dtype: mx.Dtype = mx.float32) -> Initializer:
    """Uniform numbers of variance ``2 / (inputs + outputs)``, times a gain."""

    def initializer(a: mx.array, gain: float = 1.0) -> mx.array:
        inputs, outputs = _fans(a)
        limit = gain * math.sqrt(6.0 / (inputs + outputs))
        return mx.random.uniform(-limit, limit, a.shape, dtype=dtype)

    return initializer


def _fan(a: mx.array, mode: str) -> int:
    inputs, outputs = _fans(a)
    if mode == "fan_in":
        return inputs
    if mode == "fan_out":
        return outputs
    raise ValueError(f"Invalid mode: {mode}. Valid modes are: fan_in, fan_out")


def he_normal(dtype: mx.Dtype = mx.float32) -> Initializer:
    """Normal numbers of variance ``1 / inputs`` (or outputs), times a gain."""

    def initializer(
        a: mx.array, mode: Literal["fan_in", "fan_out"] = "fan_in", gain: float = 1.0
    ) -> mx.array:
        std = gain / math.sqrt(_fan(a, mode))
        return mx.random.normal(shape=a.shape, scale=std, dtype=dtype)

    return initializer


def he_uniform(dtype: mx.Dtype = mx.float32) -> Initializer:
    """Uniform numbers of variance ``1 / inputs`` (or outputs), times a gain."""

    def initializer(
        a: mx.array, mode: Literal["fan_in", "fan_out"] = "fan_in", gain: float = 1.0
    ) -> mx.array:
        limit = gain * math.sqrt(3.0 / _fan(a, mode))
        return mx.random.uniform(-limit, limit, a.shape, dtype=dtype)

    return initializer


def sparse(
    sparsity: float, mean: float = 0.0, std: float = 1.0, dtype: mx.Dtype = mx.float32
) -> Initializer:
    """Normal numbers, with a fraction of every row of a matrix set to 0."""

    def initializer(a: mx.array) -> mx.array:
        if a.ndim != 2:
            raise ValueError("Only tensors with 2 dimensions are supported")
        rows, columns = a.shape
        zeros = int(math.ceil(sparsity * columns))
        # The places of the smallest of random numbers are a random choice.
        order = mx.argsort(mx.random.uniform(shape=a.shape), axis=1)
        values = mx.random.normal(shape=a.shape, scale=std, loc=mean, dtype=dtype)
        if zeros == 0 or rows == 0:
            return values
        nothing = mx.zeros((rows, zeros), dtype=dtype)
        return mx.put_along_axis(values, order[:, :zeros], nothing, axis=1)

    return initializer


def orthogonal(gain: float = 1.0, dtype: mx.Dtype = mx.float32) -> Initializer:
    """A matrix whose rows or columns are orthonormal, times a gain."""

    def initializer(a: mx.array) -> mx.array:
        if a.ndim != 2:
            raise ValueError(f"Orthogonal initialization requires a 2D array but got a {a.ndim}D array.")
        rows, columns = a.shape
        n = max(rows, columns)
        q, r = mx.linalg.qr(mx.random.normal(shape=(n, n)))
        # Signs that make the choice unique, so that all rotations are equally likely.
        q = q * mx.sign(mx.diag(r))
        return (gain * q[:rows, :columns]).astype(dtype)

    return initializer
