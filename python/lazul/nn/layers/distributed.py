"""Layers whose weights are shared out among the processes of a group."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Callable, Optional, Union

import lazul.core as mx

from ...utils import tree_map, tree_map_with_path
from .base import Module
from .quantized import QuantizedLinear

Group = mx.distributed.Group


@lru_cache
def sum_gradients(group: Group) -> Callable[[mx.array], mx.array]:
    """The identity, whose gradient is summed over the group."""
    if group.size() == 1:
        return lambda x: x

    @mx.custom_function
    def f(x):
        return x

    @f.vjp
    def f_vjp(_x, gradient, _y):
        return mx.distributed.all_sum(gradient, group=group)

    return f


def _group(group: Optional[Group]) -> Group:
    return group or mx.distributed.init()


def _parts(weight: mx.array, segments: Union[int, list], axis: int) -> list:
    """The segments of an axis, each of which is shared out alone: a number of equal ones, or where they end (as fractions or indices)."""
    if isinstance(segments, int):
        return mx.split(weight, segments, axis=axis)
    n = weight.shape[axis]
    cuts = [int(n * s) if isinstance(s, float) else int(s) for s in segments]
    return mx.split(weight, cuts, axis=axis)


def _share(parameters: Any, choose: Callable, group: Group) -> Any:
    """The part of this process of every parameter."""
    size, rank = group.size(), group.rank()

    def one(path: str, weight: Any) -> Any:
        if not isinstance(weight, mx.array):
            return weight
        how = choose(path, weight)
        if how is None:
            return weight
        axis, segments = how if isinstance(how, tuple) else (how, 1)
        pieces = [mx.split(part, size, axis=axis)[rank] for part in _parts(weight, segments, axis)]
        return mx.contiguous(mx.concatenate(pieces, axis=axis))

    return tree_map_with_path(one, parameters)


def _all_to_sharded(segments):
    """Outputs are shared out: the first axis of matrices, and biases."""
    return lambda _path, weight: (max(weight.ndim - 2, 0), segments)


def _sharded_to_all(segments):
    """Inputs are shared out: the last axis of matrices; biases stay whole."""
    return lambda path, _weight: None if path.endswith("bias") else (-1, segments)


def _chooser(sharding: Union[str, Callable], segments) -> Callable:
    if callable(sharding):
        return sharding
    if sharding == "all-to-sharded":
        return _all_to_sharded(segments)
    if sharding == "sharded-to-all":
        return _sharded_to_all(segments)
    raise ValueError(
        f"Sharding type {sharding=} not supported, choose one of 'all-to-sharded' or 'sharded-to-all'"
    )


def shard_inplace(
    module: Module,
    sharding: Union[str, Callable],
    *,
    segments: Union[int, list] = 1,
    group: Optional[Group] = None,
) -> None:
    """Leaves a module its process's part of its parameters.

    Args:
        module: the module.
        sharding: ``"all-to-sharded"``, ``"sharded-to-all"``, or a function of path and weight that gives the axis.
        segments: parts of the axis that are shared out one by one, such as fused queries, keys and values.
        group: the processes.
    """
    module.update(_share(module.parameters(), _chooser(sharding, segments), _group(group)))


def shard_linear(
    module: Module,
    sharding: str,
    *,
    segments: Union[int, list] = 1,
    group: Optional[Group] = None,
) -> Module:
    """A linear layer, quantized or not, as one that is shared out."""
    quantized = isinstance(module, QuantizedLinear)
    if sharding == "all-to-sharded":
        cls: Any = QuantizedAllToShardedLinear if quantized else AllToShardedLinear
    elif sharding == "sharded-to-all":
        cls = QuantizedShardedToAllLinear if quantized else ShardedToAllLinear
    else:
        _chooser(sharding, segments)
        raise ValueError("shard_linear: sharding is a text")
    make = cls.from_quantized_linear if quantized else cls.from_linear
    return make(module, segments=segments, group=group)


def _divided(n: int, group: Group, what: str) -> int:
    if n % group.size() != 0:
        raise ValueError(
            f"Cannot shard the {what} of size {n} across {group.size()} devices."
        )
    return n // group.size()


class AllToShardedLinear(Module):
    """A linear layer that computes its process's part of the outputs from all inputs."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group: Optional[Group] = None,
    ):
        super().__init__()
        self.group = _group(group)
        own = _divided(output_dims, self.group, "output")
        bound = math.sqrt(1.0 / input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(own, input_dims))
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(own,))

    def _extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        n = self.group.size()
        return f"input_dims={inputs}, output_dims={outputs * n}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        # Gradients of the inputs come from all parts of the outputs.
        x = sum_gradients(self.group)(x)
        if "bias" in self:
            return mx.addmm(self["bias"], x, self["weight"].T)
        return x @ self["weight"].T

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        *,
        segments: Union[int, list] = 1,
        group: Optional[Group] = None,
    ):
        """The layer of a :class:`Linear`'s weights."""
        group = _group(group)
        outputs, inputs = linear_layer.weight.shape
        layer = cls(inputs, outputs, "bias" in linear_layer, group)
        layer.update(_share(linear_layer.parameters(), _all_to_sharded(segments), group))
        return layer


class ShardedToAllLinear(Module):
    """A linear layer that computes all outputs from its process's part of the inputs, and sums over processes."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group: Optional[Group] = None,
    ):
        super().__init__()
        self.group = _group(group)
        own = _divided(input_dims, self.group, "input")
        bound = math.sqrt(1.0 / input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, own))
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(output_dims,))

    def _extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        n = self.group.size()
        return f"input_dims={inputs * n}, output_dims={outputs}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.distributed.all_sum(x @ self["weight"].T, group=self.group)
        return y + self["bias"] if "bias" in self else y

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        *,
        segments: Union[int, list] = 1,
        group: Optional[Group] = None,
    ):
        """The layer of a :class:`Linear`'s weights."""
        group = _group(group)
        outputs, inputs = linear_layer.weight.shape
        layer = cls(inputs, outputs, "bias" in linear_layer, group)
        layer.update(_share(linear_layer.parameters(), _sharded_to_all(segments), group))
        return layer


class _QuantizedSharded(Module):
    """What quantized layers that are shared out have in common."""

    def _set_up(self, inputs, outputs, full_outputs, bias, group_size, bits, mode, group, fan_in):
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.group = group
        bound = math.sqrt(1.0 / fan_in)
        weight = mx.random.uniform(low=-bound, high=bound, shape=(outputs, inputs))
        self.weight, self.scales, *biases = mx.quantize(weight, group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        if bias:
            self.bias = mx.zeros((full_outputs,))
        self.freeze()

    def unfreeze(self, *args, **kwargs):
        """As :meth:`Module.unfreeze`; the layer's own parameters are never trained."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(recurse=False)

    def _product(self, x: mx.array) -> mx.array:
        return mx.quantized_matmul(
            x,
            self["weight"],
            scales=self["scales"],
            biases=self.get("biases"),
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )


class QuantizedAllToShardedLinear(_QuantizedSharded):
    """:class:`AllToShardedLinear` with quantized weights."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group_size: int = 64,
        bits: int = 4,
        mode: str = "affine",
        group: Optional[Group] = None,
    ):
        super().__init__()
        group = _group(group)
        own = _divided(output_dims, group, "output")
        self._set_up(input_dims, own, own, bias, group_size, bits, mode, group, input_dims)

    def _extra_repr(self) -> str:
        outputs, words = self.weight.shape
        return (
            f"input_dims={words * 32 // self.bits}, output_dims={outputs * self.group.size()}, "
            f"bias={'bias' in self}, group_size={self.group_size}, bits={self.bits}, mode={self.mode}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        y = self._product(sum_gradients(self.group)(x))
        return y + self["bias"] if "bias" in self else y

    @classmethod
    def from_quantized_linear(
        cls,
        quantized_linear_layer: Module,
        *,
        segments: Union[int, list] = 1,
        group: Optional[Group] = None,
    ):
        """The layer of a :class:`QuantizedLinear`'s weights."""
        group, q = _group(group), quantized_linear_layer
        outputs, words = q.weight.shape
        inputs = words * 32 // q.bits
        layer = cls(inputs, outputs, "bias" in q, q.group_size, q.bits, q.mode, group)
        layer.update(_share(q.parameters(), _all_to_sharded(segments), group))
        return layer


class QuantizedShardedToAllLinear(_QuantizedSharded):
    """:class:`ShardedToAllLinear` with quantized weights."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group_size: int = 64,
        bits: int = 4,
        mode: str = "affine",
        group: Optional[Group] = None,
    ):
        super().__init__()
        group = _group(group)
        own = _divided(input_dims, group, "input")
        self._set_up(own, output_dims, output_dims, bias, group_size, bits, mode, group, input_dims)

    def _extra_repr(self) -> str:
        outputs, words = self.weight.shape
        inputs = words * 32 // self.bits * self.group.size()
        return (
            f"input_dims={inputs}, output_dims={outputs}, bias={'bias' in self}, "
            f"group_size={self.group_size}, bits={self.bits}, mode={self.mode}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.distributed.all_sum(self._product(x), group=self.group)
        return y + self["bias"] if "bias" in self else y

    @classmethod
    def from_quantized_linear(
        cls,
        quantized_linear_layer: Module,
        *,
        segments: Union[int, list] = 1,
        group: Optional[Group] = None,
    ):
        """The layer of a :class:`QuantizedLinear`'s weights."""
        group, q = _group(group), quantized_linear_layer
        outputs, words = q.weight.shape
        inputs = words * 32 // q.bits
        layer = cls(inputs, outputs, "bias" in q, q.group_size, q.bits, q.mode, group)
        layer.update(_share(q.parameters(), _sharded_to_all(segments), group))
        return layer


class FullyShardedModule(Module):
    """A module each process of the group keeps a part of the parameters of; they are gathered when it is called."""

    def __init__(
        self,
        module: Module,
        group: Optional[Group] = None,
        compute_dtype: Optional[mx.Dtype] = None,
    ):
        super().__init__()
        self.group = _group(group)
        self.compute_dtype = compute_dtype
        self.module = module
        n, rank = self.group.size(), self.group.rank()
        # Axes whose length is not a multiple stay whole.
        self._whole = tree_map(lambda x: x.ndim == 0 or x.shape[0] % n != 0, module.parameters())
        if n > 1:
            own = tree_map(
                lambda x, whole: x if whole else mx.contiguous(mx.split(x, n, axis=0)[rank]),
                module.parameters(),
                self._whole,
            )
            module.update(own)

    def _gathered(self) -> Any:
        group, dtype = self.group, self.compute_dtype

        def one(x: mx.array, whole: bool) -> mx.array:
            if dtype is not None and mx.issubdtype(x.dtype, mx.floating):
                x = x.astype(dtype)
            return x if whole or group.size() == 1 else mx.distributed.all_gather(x, group=group)

        return tree_map(one, self.module.parameters(), self._whole)

    def _call(self, f: Callable, args: tuple, kwargs: dict) -> Any:
        own = self.module.parameters()
        self.module.update(self._gathered())
        try:
            return f(*args, **kwargs)
        finally:
            self.module.update(own)

    def __call__(self, *args, **kwargs):
        return self._call(self.module, args, kwargs)

    def as_linear(self, *args, **kwargs):
        """The module's ``as_linear``."""
        return self._call(self.module.as_linear, args, kwargs)


def fully_shard(
    module: Module,
    *,
    group: Optional[Group] = None,
    compute_dtype: Optional[mx.Dtype] = None,
) -> Module:
    """The module with its parameters shared out; see :class:`FullyShardedModule`."""
    return FullyShardedModule(module, group, compute_dtype)


__all__ = [
    "AllToShardedLinear",
    "FullyShardedModule",
    "QuantizedAllToShardedLinear",
    "QuantizedShardedToAllLinear",
    "ShardedToAllLinear",
    "fully_shard",
    "shard_inplace",
    "shard_linear",
    "sum_gradients",
]
