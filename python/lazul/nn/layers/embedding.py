"""Embeddings."""

from __future__ import annotations

import math
from typing import Optional

import lazul.core as mx

from .base import Module


class Embedding(Module):
    """Rows of ``weight (num_embeddings, dims)`` by their numbers."""

    def __init__(self, num_embeddings: int, dims: int):
        super().__init__()
        scale = math.sqrt(1 / dims)
        self.weight = mx.random.normal(shape=(num_embeddings, dims), scale=scale)

    def _extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"

    def __call__(self, x):
        return self["weight"][x]

    def as_linear(self, x):
        """``x @ weight.T``: the embedding as an output layer."""
        return x @ self["weight"].T

    def to_quantized(
        self,
        group_size: Optional[int] = None,
        bits: Optional[int] = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ):
        """The layer with quantized rows."""
        from .quantized import QuantizedEmbedding

        if quantize_input:
            raise ValueError("Quantized input is not supported for embeddings.")
        return QuantizedEmbedding.from_embedding(self, group_size, bits, mode=mode)
