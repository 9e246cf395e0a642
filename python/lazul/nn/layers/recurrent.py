"""Recurrent layers, over ``(…, t, features)``."""

from __future__ import annotations

import math
from typing import Callable, Optional

import lazul.core as mx

from .activations import tanh
from .base import Module


def _uniform(bound: float, *shape: int) -> mx.array:
    return mx.random.uniform(low=-bound, high=bound, shape=shape)


class RNN(Module):
    """``h = f(x @ Wxh.T + h @ Whh.T + bias)``; gives all states.

    Args:
        input_size: features of the argument.
        hidden_size: features of the state.
        bias: whether there is a bias.
        nonlinearity: ``f``; the hyperbolic tangent by default.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Optional[Callable] = None,
    ):
        super().__init__()
        self.nonlinearity = nonlinearity or tanh
        if not callable(self.nonlinearity):
            raise ValueError(f"Nonlinearity must be callable. Current value: {nonlinearity}.")
        bound = 1.0 / math.sqrt(hidden_size)
        self.hidden_size = hidden_size
        self.Wxh = _uniform(bound, hidden_size, input_size)
        self.Whh = _uniform(bound, hidden_size, hidden_size)
        self.bias = _uniform(bound, hidden_size) if bias else None

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self.Wxh.shape[1]}, hidden_size={self.hidden_size}, "
            f"nonlinearity={self.nonlinearity}, bias={self.bias is not None}"
        )

    def __call__(self, x, hidden=None):
        if self.bias is not None:
            x = mx.addmm(self.bias, x, self.Wxh.T)
        else:
            x = x @ self.Wxh.T
        states = []
        for i in range(x.shape[-2]):
            step = x[..., i, :]
            if hidden is not None:
                step = step + hidden @ self.Whh.T
            hidden = self.nonlinearity(step)
            states.append(hidden)
        return mx.stack(states, axis=-2)


class GRU(Module):
    """A gated recurrent unit; gives all states. ``Wx (3 hidden, input)`` is for reset, update and new, in this order."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        self.hidden_size = hidden_size
        bound = 1.0 / math.sqrt(hidden_size)
        self.Wx = _uniform(bound, 3 * hidden_size, input_size)
        self.Wh = _uniform(bound, 3 * hidden_size, hidden_size)
        self.b = _uniform(bound, 3 * hidden_size) if bias else None
        self.bhn = _uniform(bound, hidden_size) if bias else None

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self.Wx.shape[1]}, hidden_size={self.hidden_size}, "
            f"bias={self.b is not None}"
        )

    def __call__(self, x, hidden=None):
        x = mx.addmm(self.b, x, self.Wx.T) if self.b is not None else x @ self.Wx.T
        n = self.hidden_size
        gates, news = x[..., : 2 * n], x[..., 2 * n :]
        states = []
        for i in range(x.shape[-2]):
            gate, new = gates[..., i, :], news[..., i, :]
            h_new = self.bhn
            if hidden is not None:
                h = hidden @ self.Wh.T
                gate = gate + h[..., : 2 * n]
                h_new = h[..., 2 * n :] if self.bhn is None else h[..., 2 * n :] + self.bhn
            r, z = mx.split(mx.sigmoid(gate), 2, axis=-1)
            new = mx.tanh(new if h_new is None else new + r * h_new)
            hidden = (1 - z) * new if hidden is None else (1 - z) * new + z * hidden
            states.append(hidden)
        return mx.stack(states, axis=-2)


class LSTM(Module):
    """A long short-term memory; gives all states and all cells. ``Wx (4 hidden, input)`` is for input, forget, cell and output gates."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        self.hidden_size = hidden_size
        bound = 1.0 / math.sqrt(hidden_size)
        self.Wx = _uniform(bound, 4 * hidden_size, input_size)
        self.Wh = _uniform(bound, 4 * hidden_size, hidden_size)
        self.bias = _uniform(bound, 4 * hidden_size) if bias else None

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self.Wx.shape[1]}, hidden_size={self.hidden_size}, "
            f"bias={self.bias is not None}"
        )

    def __call__(self, x, hidden=None, cell=None):
        x = mx.addmm(self.bias, x, self.Wx.T) if self.bias is not None else x @ self.Wx.T
        states, cells = [], []
        for i in range(x.shape[-2]):
            gates = x[..., i, :]
            if hidden is not None:
                gates = gates + hidden @ self.Wh.T
            take, keep, new, out = mx.split(gates, 4, axis=-1)
            new = mx.sigmoid(take) * mx.tanh(new)
            cell = new if cell is None else mx.sigmoid(keep) * cell + new
            hidden = mx.sigmoid(out) * mx.tanh(cell)
            states.append(hidden)
            cells.append(cell)
        return mx.stack(states, axis=-2), mx.stack(cells, axis=-2)
