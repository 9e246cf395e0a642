"""Layers with quantized weights."""

from __future__ import annotations

import math
from typing import Callable, Optional, Union

import lazul.core as mx

from ...utils import tree_map_with_path
from .base import Module

_DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}


def _form(mode: str, group_size: Optional[int], bits: Optional[int]) -> tuple[int, int]:
    """Group size and bits, which every mode has defaults for."""
    if mode not in _DEFAULTS:
        raise ValueError(f"The mode '{mode}' is none of {', '.join(_DEFAULTS)}.")
    size, width = _DEFAULTS[mode]
    return group_size or size, bits or width


def quantize(
    model: Module,
    group_size: Optional[int] = None,
    bits: Optional[int] = None,
    *,
    mode: str = "affine",
    quantize_input: bool = False,
    class_predicate: Optional[Callable[[str, Module], Union[bool, dict]]] = None,
):
    """Quantizes the layers of a model that can be, in place.

    Args:
        model: the model.
        group_size, bits, mode: see :func:`lazul.core.quantize`.
        quantize_input: whether linear layers quantize their arguments too ("nvfp4" and "mxfp8" only).
        class_predicate: called with a path and a module; says whether to quantize it, or with what arguments. By
            default everything that has ``to_quantized``.
    """
    chosen = class_predicate or (lambda _path, module: hasattr(module, "to_quantized"))

    def one(path: str, module: Module):
        answer = chosen(path, module)
        if not answer:
            return module
        if not hasattr(module, "to_quantized"):
            raise ValueError(f"Unable to quantize model of type {type(module)}")
        if isinstance(answer, bool):
            words = {"group_size": group_size, "bits": bits, "mode": mode}
            if quantize_input:
                words["quantize_input"] = True
            return module.to_quantized(**words)
        if isinstance(answer, dict):
            return module.to_quantized(**answer)
        raise ValueError("``class_predicate`` must return a bool or a dict of parameters for ``to_quantized``")

    leaves = model.leaf_modules()
    leaves = tree_map_with_path(one, leaves, is_leaf=lambda _path, m: Module.is_module(m))
    model.update_modules(leaves)


class QuantizedEmbedding(Module):
    """Rows of a quantized matrix by their numbers."""

    def __init__(
        self,
        num_embeddings: int,
        dims: int,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
    ):
        super().__init__()
        self.group_size, self.bits = _form(mode, group_size, bits)
        self.mode = mode
        weight = mx.random.normal(shape=(num_embeddings, dims), scale=math.sqrt(1 / dims))
        self.weight, self.scales, *biases = mx.quantize(weight, group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        self.num_embeddings = num_embeddings
        self.dims = dims
        self.freeze()

    def __call__(self, x):
        biases = self.get("biases")
        return mx.dequantize(
            self["weight"][x],
            scales=self["scales"][x],
            biases=biases[x] if biases is not None else None,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )

    def as_linear(self, x):
        """``x @ weight.T``: the embedding as an output layer."""
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

    def _extra_repr(self) -> str:
        return (
            f"{self.num_embeddings}, {self.dims}, group_size={self.group_size}, "
            f"bits={self.bits}, mode={self.mode}"
        )

    @classmethod
    def from_embedding(
        cls,
        embedding_layer: Module,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
    ):
        """The layer of an :class:`Embedding`'s rows."""
        rows, dims = embedding_layer.weight.shape
        layer = cls(rows, dims, group_size, bits, mode=mode)
        layer.weight, layer.scales, *biases = mx.quantize(
            embedding_layer.weight, group_size, bits, mode=mode
        )
        if biases:
            layer.biases = biases[0]
        return layer


class QuantizedLinear(Module):
    """``x @ weight.T + bias`` with a quantized weight, which is not trained."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
    ):
        super().__init__()
        self.group_size, self.bits = _form(mode, group_size, bits)
        self.mode = mode
        bound = math.sqrt(1 / input_dims)
        weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims))
        self.weight, self.scales, *biases = mx.quantize(weight, group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        if bias:
            self.bias = mx.zeros((output_dims,))
        self.freeze()

    def _extra_repr(self) -> str:
        outputs, words = self.weight.shape
        return (
            f"input_dims={words * 32 // self.bits}, output_dims={outputs}, bias={'bias' in self}, "
            f"group_size={self.group_size}, bits={self.bits}, mode={self.mode}"
        )

    def __call__(self, x):
        x = mx.quantized_matmul(
            x,
            self["weight"],
            scales=self["scales"],
            biases=self.get("biases"),
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )
        return x + self["bias"] if "bias" in self else x

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
    ):
        """The layer of a :class:`Linear`'s weights."""
        outputs, inputs = linear_layer.weight.shape
        layer = cls(inputs, outputs, False, group_size, bits, mode=mode)
        layer.weight, layer.scales, *biases = mx.quantize(
            linear_layer.weight, group_size, bits, mode=mode
        )
        if biases:
            layer.biases = biases[0]
        if "bias" in linear_layer:
            layer.bias = linear_layer.bias
        return layer


class QQLinear(Module):
    """``x @ weight.T`` with both quantized: the weight while the layer is not trained, the argument always."""

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "nvfp4",
    ):
        super().__init__()
        if mode not in ("nvfp4", "mxfp8"):
            raise ValueError(f"QQLinear has the modes 'nvfp4' and 'mxfp8', not '{mode}'.")
        self.group_size, self.bits = _form(mode, group_size, bits)
        self.mode = mode
        bound = math.sqrt(1 / input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims))
        self._quantized = False

    def _extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        if self.weight.dtype == mx.uint32:
            inputs = inputs * 32 // self.bits
        return (
            f"input_dims={inputs}, output_dims={outputs}, group_size={self.group_size}, "
            f"bits={self.bits}, mode={self.mode}"
        )

    def quantize(self):
        """Quantizes the weight."""
        if not self._quantized:
            self.weight, self.scales = mx.quantize(
                self.weight, self.group_size, self.bits, mode=self.mode
            )
            self._quantized = True

    def dequantize(self):
        """Makes the weight one of numbers again."""
        if self._quantized:
            self.weight = mx.dequantize(
                self.weight,
                scales=self.scales,
                group_size=self.group_size,
                bits=self.bits,
                mode=self.mode,
            )
            self.pop("scales")
            self._quantized = False

    def train(self, mode: bool = True):
        """As :meth:`Module.train`: the weight is quantized while the layer is not trained."""
        super().train(mode)
        if mode:
            self.dequantize()
        else:
            self.quantize()
        return self

    def __call__(self, x):
        return mx.qqmm(
            x,
            self["weight"],
            scales=self.get("scales"),
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "nvfp4",
    ):
        """The layer of a :class:`Linear`'s weights, which has no bias."""
        if "bias" in linear_layer:
            raise NotImplementedError("QQLinear does not support bias")
        outputs, inputs = linear_layer.weight.shape
        layer = cls(inputs, outputs, group_size, bits, mode=mode)
        layer.weight = linear_layer.weight
        layer.train(linear_layer.training)
        return layer
