"""Pooling, with channels last."""

from __future__ import annotations

from typing import Optional, Tuple, Union

import lazul.core as mx

from .base import Module
from .convolution import _axes


class _Pool(Module):
    """Reduces windows of the axes between the first and the last."""

    _rank = 1
    _fill = 0.0

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        for name, value in (("kernel_size", kernel_size), ("stride", stride), ("padding", padding)):
            if value is None and name == "stride":
                continue
            numbers = [value] if isinstance(value, int) else value
            if (
                not isinstance(numbers, (list, tuple))
                or (not isinstance(value, int) and len(numbers) != self._rank)
                or not all(isinstance(n, int) for n in numbers)
            ):
                raise ValueError(f"{name}: an integer or {self._rank} of them are expected, not {value!r}")
        self._kernel_size = _axes(kernel_size, self._rank)
        self._stride = _axes(stride, self._rank) if stride is not None else self._kernel_size
        self._padding = [(p, p) for p in _axes(padding, self._rank)]

    def _extra_repr(self) -> str:
        return f"kernel_size={self._kernel_size}, stride={self._stride}, padding={self._padding}"

    def _windows(self, x: mx.array) -> mx.array:
        """``(n, windows…, kernel…, c)``, a view of the memory."""
        if any(p[0] > 0 for p in self._padding):
            fill = self._fill if mx.issubdtype(x.dtype, mx.inexact) else self._least(x.dtype)
            x = mx.pad(x, [(0, 0), *self._padding, (0, 0)], constant_values=fill)
        n, *spatial, channels = x.shape
        if len(spatial) != self._rank:
            raise ValueError(f"Expected {self._rank + 2} dimensions, but got {x.ndim}")
        counts = [(d - k) // s + 1 for d, k, s in zip(spatial, self._kernel_size, self._stride)]
        if min(counts) < 1:
            raise ValueError(f"The window {self._kernel_size} is larger than the input {tuple(spatial)}")
        steps = [channels]
        for d in reversed(spatial):
            steps.insert(0, steps[0] * d)
        batch, *own = steps
        shape = (n, *counts, *self._kernel_size, channels)
        strides = (batch, *(o * s for o, s in zip(own, self._stride)), *own, 1)
        return mx.as_strided(x, shape, strides)

    def _least(self, dtype: mx.Dtype) -> int:
        return 0

    def _reduce(self, windows: mx.array, axes: tuple) -> mx.array:
        raise NotImplementedError

    def __call__(self, x):
        axes = tuple(range(-self._rank - 1, -1))
        return self._reduce(self._windows(x), axes)


class _Pool1d(_Pool):
    _rank = 1


class _Pool2d(_Pool):
    _rank = 2


class _Pool3d(_Pool):
    _rank = 3


class _Max:
    _fill = -float("inf")

    def _least(self, dtype: mx.Dtype) -> int:
        return 0 if dtype == mx.bool_ else mx.iinfo(dtype).min

    def _reduce(self, windows, axes):
        return mx.max(windows, axis=axes)


class _Mean:
    def _reduce(self, windows, axes):
        return mx.mean(windows, axis=axes)


class MaxPool1d(_Max, _Pool1d):
    """The greatest of windows of ``(n, l, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int]],
        stride: Optional[Union[int, Tuple[int]]] = None,
        padding: Union[int, Tuple[int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)


class AvgPool1d(_Mean, _Pool1d):
    """The mean of windows of ``(n, l, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int]],
        stride: Optional[Union[int, Tuple[int]]] = None,
        padding: Union[int, Tuple[int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)


class MaxPool2d(_Max, _Pool2d):
    """The greatest of windows of ``(n, h, w, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int, int]],
        stride: Optional[Union[int, Tuple[int, int]]] = None,
        padding: Union[int, Tuple[int, int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)


class AvgPool2d(_Mean, _Pool2d):
    """The mean of windows of ``(n, h, w, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int, int]],
        stride: Optional[Union[int, Tuple[int, int]]] = None,
        padding: Union[int, Tuple[int, int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)


class MaxPool3d(_Max, _Pool3d):
    """The greatest of windows of ``(n, d, h, w, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int, int, int]],
        stride: Optional[Union[int, Tuple[int, int, int]]] = None,
        padding: Union[int, Tuple[int, int, int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)


class AvgPool3d(_Mean, _Pool3d):
    """The mean of windows of ``(n, d, h, w, c)``."""

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int, int, int]],
        stride: Optional[Union[int, Tuple[int, int, int]]] = None,
        padding: Union[int, Tuple[int, int, int]] = 0,
    ):
        super().__init__(kernel_size, stride, padding)
