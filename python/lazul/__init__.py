"""Lazul: lazy arrays, composable transforms and neural networks, with MLX's API.

>>> import lazul.core as mx
>>> mx.grad(lambda x: x * x)(mx.array(3.0))
array(6, dtype=float32)

The parts are :mod:`lazul.core` (arrays), :mod:`lazul.nn` (layers and losses), :mod:`lazul.optimizers` and
:mod:`lazul.utils` (trees). Packages written for MLX run after ``import lazul.mlx_compat``.
"""

from ._core import __version__

__all__ = ["__version__"]
