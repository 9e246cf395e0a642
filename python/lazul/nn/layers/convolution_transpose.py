"""Transposed convolutions, with channels last."""

from __future__ import annotations

import math
from typing import Union

import lazul.core as mx

from .base import Module
from .convolution import _axes


class _ConvTranspose(Module):
    """What transposed convolutions of one, two and three axes have in common."""

    _rank = 1

    def _set_up(
        self, in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, bias
    ):
        kernel = _axes(kernel_size, self._rank)
        bound = math.sqrt(1 / (in_channels * math.prod(kernel)))
        self.weight = mx.random.uniform(
            low=-bound, high=bound, shape=(out_channels, *kernel, in_channels)
        )
        if bias:
            self.bias = mx.zeros((out_channels,))
        if self._rank == 1:
            self.padding, self.stride, self.output_padding = padding, stride, output_padding
        else:
            self.padding = _axes(padding, self._rank)
            self.stride = _axes(stride, self._rank)
            self.output_padding = _axes(output_padding, self._rank)
        self.dilation = dilation

    def _extra_repr(self) -> str:
        return (
            f"{self.weight.shape[-1]}, {self.weight.shape[0]}, "
            f"kernel_size={self.weight.shape[1:-1]}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, "
            f"output_padding={self.output_padding}, bias={'bias' in self}"
        )

    def __call__(self, x):
        f = (mx.conv_transpose1d, mx.conv_transpose2d, mx.conv_transpose3d)[self._rank - 1]
        y = f(x, self.weight, self.stride, self.padding, self.dilation, self.output_padding)
        return y + self.bias if "bias" in self else y


class ConvTranspose1d(_ConvTranspose):
    """The transpose of :class:`Conv1d`, with ``weight (out, k, c)``."""

    _rank = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        output_padding: int = 0,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, bias
        )


class ConvTranspose2d(_ConvTranspose):
    """The transpose of :class:`Conv2d`, with ``weight (out, kh, kw, c)``."""

    _rank = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Union[int, tuple],
        stride: Union[int, tuple] = 1,
        padding: Union[int, tuple] = 0,
        dilation: Union[int, tuple] = 1,
        output_padding: Union[int, tuple] = 0,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, bias
        )


class ConvTranspose3d(_ConvTranspose):
    """The transpose of :class:`Conv3d`, with ``weight (out, kd, kh, kw, c)``."""

    _rank = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Union[int, tuple],
        stride: Union[int, tuple] = 1,
        padding: Union[int, tuple] = 0,
        dilation: Union[int, tuple] = 1,
        output_padding: Union[int, tuple] = 0,
        bias: bool = True,
    ):
        super().__init__()
        self._set_up(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, bias
        )
