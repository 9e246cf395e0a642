"""Gradients of models."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable, List, Optional, Tuple

import lazul.core as mx

from ..utils import tree_flatten, tree_map, tree_reduce, tree_unflatten
from .layers.base import Module

Group = mx.distributed.Group


def value_and_grad(model: Module, fn: Callable) -> Callable:
    """A function that gives the value of ``fn`` and its gradient by the model's trained parameters.

    >>> import lazul.nn as nn
    >>> model = nn.Linear(2, 1)
    >>> f = nn.value_and_grad(model, lambda x: model(x).sum())
    >>> loss, gradients = f(mx.ones((1, 2)))
    >>> gradients["weight"].tolist()
    [[1.0, 1.0]]
    """

    def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        model.update(parameters)
        return fn(*args, **kwargs)

    both = mx.value_and_grad(inner)

    @wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(model.trainable_parameters(), *args, **kwargs)

    return wrapped


def checkpoint(module: Module, fn: Optional[Callable] = None) -> Callable:
    """The module's call (or ``fn``), whose insides are computed again for its gradient."""
    call: Callable = fn if fn is not None else module.__call__

    def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        module.update(parameters)
        return call(*args, **kwargs)

    again = mx.checkpoint(inner)

    @wraps(call)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return again(module.trainable_parameters(), *args, **kwargs)

    return wrapped


def average_gradients(
    gradients: Any,
    group: Optional[Group] = None,
    all_reduce_size: int = 32 * 1024**2,
    communication_stream: Optional[mx.Stream] = None,
) -> Any:
    """Gradients averaged over the processes of a group, many of them in one exchange.

    Args:
        gradients: a tree of arrays of the same shapes on every process.
        group: the processes; all by default.
        all_reduce_size: bytes that are exchanged at once; with 0 every array alone.
        communication_stream: where the exchange runs.
    """
    group = group or mx.distributed.init()
    n = group.size()
    if n == 1:
        return gradients

    def average(x: mx.array) -> mx.array:
        return mx.distributed.all_sum(x, group=group, stream=communication_stream) / n

    flat = tree_flatten(gradients)
    if all_reduce_size <= 0 or len({x.dtype for _, x in flat}) != 1:
        return tree_map(average, gradients)
    averaged: List[Tuple[str, mx.array]] = []
    bucket: List[Tuple[str, mx.array]] = []
    size = 0

    def flush() -> None:
        nonlocal bucket, size
        if not bucket:
            return
        cuts, total = [], 0
        for _, x in bucket:
            total += x.size
            cuts.append(total)
        joined = average(mx.concatenate([x.reshape(-1) for _, x in bucket]))
        parts = mx.split(joined, cuts[:-1])
        averaged.extend((name, part.reshape(x.shape)) for (name, x), part in zip(bucket, parts))
        bucket, size = [], 0

    for name, x in flat:
        bucket.append((name, x))
        size += x.nbytes
        if size >= all_reduce_size:
            flush()
    flush()
    return tree_unflatten(averaged)


def clip_grad_norm_sharded(gradients: Any, max_norm: float, group: Optional[Group] = None) -> Any:
    """Gradients that are shared out, scaled so that their norm over all processes is at most ``max_norm``; and the norm."""
    group = group or mx.distributed.init()
    square = tree_reduce(lambda acc, g: acc + g.square().sum(), gradients, mx.array(0.0))
    norm = mx.sqrt(mx.distributed.all_sum(square, group=group))
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale, gradients), norm
