"""Linear layers."""

from __future__ import annotations

import math
from typing import Any, Optional

import lazul.core as mx

from .base import Module


class Identity(Module):
    """Gives its argument back, whatever it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __call__(self, x: mx.array) -> mx.array:
        return x


class Linear(Module):
    """``x @ weight.T + bias`` with ``weight (output_dims, input_dims)``.

    Args:
        input_dims: features of the argument.
        output_dims: features of the result.
        bias: whether there is a bias.
    """

    def __init__(self, input_dims: int, output_dims: int, bias: bool = True) -> None:
        super().__init__()
        bound = math.sqrt(1.0 / input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims))
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(output_dims,))

    def _extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"input_dims={inputs}, output_dims={outputs}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        if "bias" in self:
            return mx.addmm(self["bias"], x, self["weight"].T)
        return x @ self["weight"].T

    def to_quantized(
        self,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ):
        """The layer with quantized weights; with ``quantize_input`` one that quantizes its arguments too."""
        from .quantized import QQLinear, QuantizedLinear

        if quantize_input:
            if mode not in ("nvfp4", "mxfp8"):
                raise ValueError(f"Quantized activations are only supported for 'nvfp4' and 'mxfp8', got {mode}.")
            return QQLinear.from_linear(self, group_size, bits, mode=mode)
        return QuantizedLinear.from_linear(self, group_size, bits, mode=mode)


class Bilinear(Module):
    """``x1 @ weight @ x2`` for each output, plus a bias; ``weight (output, input2, input1)``."""

    def __init__(
        self, input1_dims: int, input2_dims: int, output_dims: int, bias: bool = True
    ) -> None:
        super().__init__()
        bound = math.sqrt(1.0 / input1_dims)
        self.weight = mx.random.uniform(
            low=-bound, high=bound, shape=(output_dims, input2_dims, input1_dims)
        )
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(output_dims,))

    def _extra_repr(self) -> str:
        outputs, second, first = self.weight.shape
        return (
            f"input1_dims={first}, input2_dims={second}, output_dims={outputs}, "
            f"bias={'bias' in self}"
        )

    def __call__(self, x1: mx.array, x2: mx.array) -> mx.array:
        outputs, second, first = self.weight.shape
        lead = x1.shape[:-1]
        a, b = x1.reshape(-1, first), x2.reshape(-1, second, 1)
        # (n, first) · (first, outputs * second)
        y = (a @ self.weight.reshape(outputs * second, first).T).reshape(-1, outputs, second)
        y = (y @ b).squeeze(-1).reshape(*lead, outputs)
        return y + self.bias if "bias" in self else y
