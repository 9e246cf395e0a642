"""Convolutions, with channels last."""

from __future__ import annotations

import math
from typing import Union

import lazul.core as mx

from .base import Module


def _axes(value, n: int) -> tuple:
    """A number for every axis."""
    return (value,) * n if isinstance(value, int) else tuple(value)


class _Conv(Module):
    """What convolutions of one, two and three axes have in common."""

    _rank = 1

    def _set_up(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias):
        if in_channels % groups != 0:
            raise ValueError(
                f"The number of input channels ({in_channels}) must be divisible by the number of groups ({groups})"
            )
        kernel = _axes(kernel_size, self._rank)
        bound = math.sqrt(1 / (in_channels * math.prod(kernel)))
        self.weight = mx.random.uniform(
            low=-bound, high=bound, shape=(out_channels, *kernel, in_channels // groups)
        )
        if bias:
            self.bias = mx.zeros((out_channels,))
        if self._rank == 1:
            self.padding, self.stride, self.dilation = padding, stride, dilation
        else:
            self.padding = _axes(padding, self._rank)
            self.stride = _axes(stride, self._rank)
            self.dilation = dilation
        self.groups = groups

    def _extra_repr(self) -> str:
        return (
            f"{self.weight.shape[-1] * self.groups}, {self.weight.shape[0]}, "
            f"kernel_size={self.weight.shape[1:-1]}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={'bias' in self}"
        )

    def __call__(self, x):
        f = (mx.conv1d, mx.conv2d, mx.conv3d)[self._rank - 1]
        y = f(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        return y + self.bias if "bias" in self else y


class Conv1d(_Conv):
    """Convolution of ``(n, l, c)`` with ``weight (out, k, c / groups)``."""

    _rank = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


class Conv2d(_Conv):
    """Convolution of ``(n, h, w, c)`` with ``weight (out, kh, kw, c / groups)``."""

    _rank = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Union[int, tuple],
        stride: Union[int, tuple] = 1,
        padding: Union[int, tuple] = 0,
        dilation: Union[int, tuple] = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


class Conv3d(_Conv):
    """Convolution of ``(n, d, h, w, c)`` with ``weight (out, kd, kh, kw, c)``."""

    _rank = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Union[int, tuple],
        stride: Union[int, tuple] = 1,
        padding: Union[int, tuple] = 0,
        dilation: Union[int, tuple] = 1,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, 1, bias)
