"""Normalizations."""

from __future__ import annotations

from typing import Tuple

import lazul.core as mx

from .base import Module


class InstanceNorm(Module):
    """Mean 0 and variance 1 over the axes between the first and the last, for each example and feature."""

    def __init__(self, dims: int, eps: float = 1e-5, affine: bool = False):
        super().__init__()
        if affine:
            self.weight = mx.ones((dims,))
            self.bias = mx.zeros((dims,))
        self.dims = dims
        self.eps = eps

    def _extra_repr(self) -> str:
        return f"{self.dims}, eps={self.eps}, affine={'weight' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        axes = tuple(range(1, x.ndim - 1))
        mean = mx.mean(x, axis=axes, keepdims=True)
        var = mx.var(x, axis=axes, keepdims=True)
        x = (x - mean) * mx.rsqrt(var + self.eps)
        return self.weight * x + self.bias if "weight" in self else x


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axis, times a weight, plus a bias."""

    def __init__(self, dims: int, eps: float = 1e-5, affine: bool = True, bias: bool = True):
        super().__init__()
        if affine:
            self.weight = mx.ones((dims,))
            if bias:
                self.bias = mx.zeros((dims,))
        self.eps = eps
        self.dims = dims

    def _extra_repr(self) -> str:
        return f"{self.dims}, eps={self.eps}, affine={'weight' in self}"

    def __call__(self, x):
        return mx.fast.layer_norm(x, self.get("weight"), self.get("bias"), self.eps)


class RMSNorm(Module):
    """The last axis divided by its root mean square, times a weight."""

    def __init__(self, dims: int, eps: float = 1e-5):
        super().__init__()
        self.weight = mx.ones((dims,))
        self.eps = eps

    def _extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"

    def __call__(self, x):
        return mx.fast.rms_norm(x, self["weight"], self.eps)


class GroupNorm(Module):
    """Mean 0 and variance 1 over groups of features of each example.

    Args:
        num_groups: groups of features.
        dims: features.
        eps: added to the variance.
        affine: whether there are a weight and a bias for each feature.
        pytorch_compatible: whether groups are of features side by side, as in PyTorch, or ``num_groups`` apart.
    """

    def __init__(
        self,
        num_groups: int,
        dims: int,
        eps: float = 1e-5,
        affine: bool = True,
        pytorch_compatible: bool = False,
    ):
        super().__init__()
        if affine:
            self.bias = mx.zeros((dims,))
            self.weight = mx.ones((dims,))
        self.num_groups = num_groups
        self.dims = dims
        self.eps = eps
        self.pytorch_compatible = pytorch_compatible

    def _extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.dims}, eps={self.eps}, affine={'weight' in self}, "
            f"pytorch_compatible={self.pytorch_compatible}"
        )

    def __call__(self, x):
        n, *rest, dims = x.shape
        groups = self.num_groups
        if self.pytorch_compatible:
            # (n, positions, groups, size) -> (n, groups, positions * size)
            size = dims // groups
            y = x.reshape(n, -1, groups, size).swapaxes(1, 2).reshape(n, groups, -1)
            y = mx.fast.layer_norm(y, None, None, self.eps)
            y = y.reshape(n, groups, -1, size).swapaxes(1, 2).reshape(n, *rest, dims)
        else:
            # Features of a group stand `groups` apart.
            y = x.reshape(n, -1, groups)
            mean = mx.mean(y, axis=1, keepdims=True)
            var = mx.var(y, axis=1, keepdims=True)
            y = ((y - mean) * mx.rsqrt(var + self.eps)).reshape(n, *rest, dims)
        return self.weight * y + self.bias if "weight" in self else y


class BatchNorm(Module):
    """Mean 0 and variance 1 of each feature over the batch while training, by running figures otherwise.

    Args:
        num_features: features, the last axis.
        eps: added to the variance.
        momentum: the weight of a new batch in the running figures.
        affine: whether there are a weight and a bias for each feature.
        track_running_stats: whether there are running figures.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = mx.ones((num_features,))
            self.bias = mx.zeros((num_features,))
        if track_running_stats:
            self.running_mean = mx.zeros((num_features,))
            self.running_var = mx.ones((num_features,))
            self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def unfreeze(self, *args, **kwargs):
        """As :meth:`Module.unfreeze`; running figures are never trained."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={'weight' in self}, track_running_stats={self.track_running_stats}"
        )

    @staticmethod
    def _figures(x: mx.array) -> Tuple[mx.array, mx.array]:
        axes = tuple(range(x.ndim - 1))
        return mx.mean(x, axis=axes), mx.var(x, axis=axes)

    def __call__(self, x: mx.array) -> mx.array:
        if x.ndim < 2 or x.ndim > 4:
            raise ValueError(f"Expected input tensor to have 2, 3 or 4 dimensions, but got {x.ndim}")
        if self.training or not self.track_running_stats:
            mean, var = self._figures(x)
        else:
            mean, var = self.running_mean, self.running_var
        if self.training and self.track_running_stats:
            keep = 1 - self.momentum
            self.running_mean = keep * self.running_mean + self.momentum * mean
            # The running figure is of the population that the batch is a sample of.
            n = x.size // x.shape[-1]
            unbiased = var * (n / (n - 1)) if n > 1 else var
            self.running_var = keep * self.running_var + self.momentum * unbiased
        x = (x - mean) * mx.rsqrt(var + self.eps)
        return self.weight * x + self.bias if "weight" in self else x
