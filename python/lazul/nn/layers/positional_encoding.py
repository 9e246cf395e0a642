"""Positions."""

from __future__ import annotations

import math
from typing import Optional

import lazul.core as mx

from .base import Module


class RoPE(Module):
    """Rotary position embedding of ``(b, …, t, d)``; see :func:`lazul.core.fast.rope`."""

    def __init__(
        self, dims: int, traditional: bool = False, base: float = 10000, scale: float = 1.0
    ):
        super().__init__()
        self.dims = dims
        self.traditional = traditional
        self.base = base
        self.scale = scale

    def _extra_repr(self) -> str:
        return f"{self.dims}, traditional={self.traditional}"

    def __call__(self, x, offset: int = 0):
        return mx.fast.rope(
            x,
            self.dims,
            traditional=self.traditional,
            base=self.base,
            scale=self.scale,
            offset=offset,
        )


class SinusoidalPositionalEncoding(Module):
    """Sines and cosines of positions, of ``dims / 2`` frequencies between two in a geometric sequence."""

    def __init__(
        self,
        dims: int,
        min_freq: float = 0.0001,
        max_freq: float = 1,
        scale: Optional[float] = None,
        cos_first: bool = False,
        full_turns: bool = False,
    ):
        super().__init__()
        half = dims // 2
        one_to_zero = 1 - mx.arange(0, half) / (half - 1)
        low, high = math.log(min_freq), math.log(max_freq)
        sigmas = mx.exp(one_to_zero * (high - low) + low)
        # Begins with an underscore, so that it is no parameter.
        self._sigmas = sigmas * (2 * math.pi) if full_turns else sigmas
        self.scale = scale if scale is not None else (2 / dims) ** 0.5
        self.cos_first = cos_first

    def __call__(self, x):
        angles = x[..., None] * self._sigmas
        cos, sin = mx.cos(angles), mx.sin(angles)
        y = mx.concatenate([cos, sin] if self.cos_first else [sin, cos], axis=-1)
        return y * self.scale if self.scale != 1 else y


class ALiBi(Module):
    """Adds to attention scores ``(b, heads, tq, tk)`` what falls with the distance, head by head."""

    @staticmethod
    def create_alibi_matrix(
        q_sequence_length: int,
        k_sequence_length: int,
        num_heads: int,
        offset: int = 0,
        dtype: mx.Dtype = mx.float32,
    ):
        """The bias ``(1, heads, tq, tk)``."""
        queries = mx.arange(offset, q_sequence_length)
        keys = mx.arange(0, k_sequence_length)
        distance = -mx.abs(mx.expand_dims(queries[:, None] - keys[None, :], (0, 1)))
        slope = ALiBi.create_alibi_slope(num_heads=num_heads, dtype=dtype)
        return (distance * slope).astype(dtype)

    @staticmethod
    def create_alibi_slope(num_heads: int, dtype: mx.Dtype = mx.float32):
        """The slope of each head, ``(heads, 1, 1)``."""
        x = (2**8) ** (1 / num_heads)
        slopes = mx.power(x, -mx.arange(1, num_heads + 1, dtype=dtype))
        return mx.expand_dims(slopes, axis=(-1, -2))

    def __call__(
        self, attention_scores: mx.array, offset: int = 0, mask: Optional[mx.array] = None
    ) -> mx.array:
        bias = ALiBi.create_alibi_matrix(
            q_sequence_length=attention_scores.shape[-2] + offset,
            k_sequence_length=attention_scores.shape[-1],
            num_heads=attention_scores.shape[1],
            offset=offset,
            dtype=attention_scores.dtype,
        )
        return attention_scores + (bias if mask is None else bias + mask)
