"""Arrays: what ``mlx.core`` is to MLX.

>>> import lazul.core as mx
>>> (mx.arange(4) * 2).sum()
array(12, dtype=int32)
"""


from .. import _core
from .._core import *  # noqa: F403
from .._core import __version__  # noqa: F401
from ._namespace import NamespaceInfo as _NamespaceInfo


class ArrayLike:
    """An object that stands for an array: anything with ``__mlx_array__``, ``__dlpack__`` or a buffer."""

    def __init__(self, value, /):
        self.value = value

    def __mlx_array__(self):
        return _core.array(self.value)


#: The array API standard's name of :data:`bool_`.
bool = _core.bool_
newaxis = None
__array_api_version__ = "2024.12"


def __array_namespace_info__():
    """What this module says of itself in the array API standard.

    >>> mx.__array_namespace_info__().capabilities()["boolean indexing"]
    True
    """
    return _NamespaceInfo()
