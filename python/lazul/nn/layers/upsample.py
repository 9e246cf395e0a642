"""Enlarging images, with channels last: ``(n, spatial…, c)``."""

from __future__ import annotations

import math
from typing import Callable, Literal, Tuple, Union

import lazul.core as mx

from .base import Module


def _positions(n: int, scale: float, align_corners: bool) -> Tuple[mx.array, int]:
    """Where the elements of the larger axis stand in the smaller one, and their number."""
    m = int(n * scale)
    at = mx.arange(m, dtype=mx.float32)
    if align_corners:
        return at * ((n - 1) / max(m - 1, 1)), m
    return (at + 0.5) * (n / m if m else 1.0) * (m / (scale * n) if n else 1.0) - 0.5, m


def _resampled(
    x: mx.array, axis: int, scale: float, align_corners: bool, kernel: Callable, width: float, antialias: bool
) -> mx.array:
    """One axis resampled by a kernel: ``kernel(distance)`` is zero beyond ``width``."""
    n = x.shape[axis]
    at, m = _positions(n, scale, align_corners)
    # Elements that are left out would fold over: the kernel is made as wide as they are apart.
    stretch = max(1.0, 1 / scale) if antialias else 1.0
    reach = math.ceil(width * stretch)
    first = mx.floor(at).astype(mx.int32) - reach + 1
    taps = first[:, None] + mx.arange(2 * reach, dtype=mx.int32)[None]
    distance = (at[:, None] - taps.astype(mx.float32)) / stretch
    weight = kernel(mx.abs(distance))
    if antialias:
        inside = mx.logical_and(taps >= 0, taps < n)
        weight = mx.where(inside, weight, 0.0)
        weight = weight / mx.sum(weight, axis=1, keepdims=True)
    taps = mx.clip(taps, 0, n - 1)
    # A row of weights for every new element: (m, n).
    matrix = mx.zeros((m, n)).at[mx.arange(m)[:, None], taps].add(weight)
    moved = mx.moveaxis(x, axis, -1)
    return mx.moveaxis(moved @ matrix.T.astype(x.dtype), -1, axis)


def _triangle(t: mx.array) -> mx.array:
    return mx.maximum(1 - t, 0.0)


def _cubic(a: float) -> Callable[[mx.array], mx.array]:
    """Keys' cubic convolution kernel."""

    def kernel(t: mx.array) -> mx.array:
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return mx.where(t <= 1, near, mx.where(t < 2, far, 0.0))

    return kernel


def upsample_nearest(x: mx.array, scale_factor: Tuple) -> mx.array:
    """Every new element is the one whose middle is nearest to its own; of fewer, the one where it begins."""
    spatial = x.ndim - 2
    if spatial != len(scale_factor):
        raise ValueError("A scale needs to be provided for each spatial dimension")
    for axis, scale in enumerate(scale_factor, start=1):
        n = x.shape[axis]
        if float(scale).is_integer():
            x = mx.repeat(x, int(scale), axis=axis)
        else:
            m = int(n * scale)
            at = mx.arange(m, dtype=mx.float32)
            ratio = n / max(m, 1)
            at = mx.round((at + 0.5) * ratio - 0.5) if m > n else mx.floor(at * ratio)
            x = mx.take(x, at.astype(mx.int32), axis=axis)
    return x


def upsample_linear(
    x: mx.array, scale_factor: Tuple, align_corners: bool = False, antialias: bool = False
) -> mx.array:
    """Linear interpolation along each axis."""
    for axis, scale in enumerate(scale_factor, start=1):
        x = _resampled(x, axis, scale, align_corners, _triangle, 1, antialias)
    return x


def upsample_cubic(
    x: mx.array, scale_factor: Tuple, align_corners: bool = False, antialias: bool = False
) -> mx.array:
    """Cubic interpolation along each axis."""
    kernel = _cubic(-0.5 if antialias else -0.75)
    for axis, scale in enumerate(scale_factor, start=1):
        x = _resampled(x, axis, scale, align_corners, kernel, 2, antialias)
    return x


class Upsample(Module):
    """Enlarges the axes between the first and the last.

    Args:
        scale_factor: one for all axes, or one for each.
        mode: ``"nearest"``, ``"linear"`` or ``"cubic"``.
        align_corners: whether first and last elements stay where they are (linear and cubic).
        antialias: whether to smooth where the factor is below 1 (linear and cubic).
    """

    def __init__(
        self,
        scale_factor: Union[float, Tuple],
        mode: Literal["nearest", "linear", "cubic"] = "nearest",
        align_corners: bool = False,
        antialias: bool = False,
    ):
        super().__init__()
        if mode not in ("nearest", "linear", "cubic"):
            raise ValueError(f"[Upsample] Got unsupported upsampling algorithm: {mode}")
        if isinstance(scale_factor, (list, tuple)):
            self.scale_factor: Union[float, Tuple] = tuple(map(float, scale_factor))
        else:
            self.scale_factor = float(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.antialias = antialias

    def _extra_repr(self) -> str:
        return (
            f"scale_factor={self.scale_factor}, mode={self.mode!r}, "
            f"align_corners={self.align_corners}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        spatial = x.ndim - 2
        if spatial <= 0:
            raise ValueError(
                f"[Upsample] The input should have at least 1 spatial dimension but it has {x.ndim} dimensions"
            )
        scales = self.scale_factor
        if isinstance(scales, tuple):
            if len(scales) != spatial:
                raise ValueError(
                    f"[Upsample] One scale per spatial dimension is required but scale_factor={scales} and there are {spatial}"
                )
        else:
            scales = (scales,) * spatial
        if self.mode == "nearest":
            return upsample_nearest(x, scales)
        f = upsample_linear if self.mode == "linear" else upsample_cubic
        return f(x, scales, self.align_corners, self.antialias)
