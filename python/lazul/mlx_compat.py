"""Offers this package under MLX's names: after ``import lazul.mlx_compat``, ``import mlx.core`` is
:mod:`lazul.core`, and so on for ``mlx.nn``, ``mlx.optimizers`` and ``mlx.utils``.

Import it before anything that imports ``mlx``. If MLX itself is loaded already that is an error, because two
kinds of arrays would meet.

>>> import lazul.mlx_compat
>>> import mlx.core as mx
>>> mx.array([1, 2]).sum()
array(3, dtype=int32)
"""

from __future__ import annotations

import importlib
import importlib.machinery
import pkgutil
import sys
import types

import lazul.core
import lazul.nn
import lazul.optimizers
import lazul.utils

#: The version of MLX whose API this is.
MLX_VERSION = "0.32.4"

_PARTS = ("core", "nn", "optimizers", "utils")


def _submodules(module: types.ModuleType) -> list[str]:
    """The names of a package's modules, all the way down."""
    if not hasattr(module, "__path__"):
        return []
    found = []
    for info in pkgutil.iter_modules(module.__path__, module.__name__ + "."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        found.append(info.name)
        found.extend(_submodules(importlib.import_module(info.name)))
    return found


def install() -> None:
    """Puts the modules into ``sys.modules``. Importing this module does it."""
    there = sys.modules.get("mlx.core")
    if there is lazul.core:
        return
    if there is not None:
        raise ImportError("mlx is imported already; import lazul.mlx_compat before it")
    package = types.ModuleType("mlx", "MLX's names, by Lazul.")
    package.__path__ = []
    setattr(package, "__version__", MLX_VERSION)
    package.__spec__ = importlib.machinery.ModuleSpec("mlx", None, is_package=True)
    sys.modules["mlx"] = package
    for part in _PARTS:
        module = importlib.import_module(f"lazul.{part}")
        sys.modules[f"mlx.{part}"] = module
        setattr(package, part, module)
        for name in _submodules(module):
            sys.modules["mlx" + name[len("lazul"):]] = importlib.import_module(name)
    for name in ("random", "linalg", "fft", "fast", "distributed", "metal", "cuda"):
        sys.modules[f"mlx.core.{name}"] = getattr(lazul.core, name)


install()
