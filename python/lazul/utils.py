"""Trees: lists, tuples and dicts of anything, nested as one likes.

A leaf is whatever is no list, tuple or dict, and whatever ``is_leaf`` says is one. Named tuples stay named tuples.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

__all__ = [
    "tree_map",
    "tree_map_with_path",
    "tree_flatten",
    "tree_unflatten",
    "tree_reduce",
    "tree_merge",
]

_NOTHING = object()


def _tuple_like(tree: tuple, items: List[Any]) -> tuple:
    """A tuple of the class of another, which may be a named one."""
    return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)


def tree_map(
    fn: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Optional[Callable[[Any], bool]] = None,
) -> Any:
    """The tree with ``fn`` applied to its leaves.

    Args:
        fn: called with a leaf, and with the parts of ``rest`` that stand in the same place.
        tree: the tree.
        rest: trees that have at least this tree's structure.
        is_leaf: says which lists, tuples and dicts are leaves.

    >>> tree_map(lambda x, y: x + y, {"a": [1, 2]}, {"a": [10, 20]})
    {'a': [11, 22]}
    """
    if is_leaf is not None and is_leaf(tree):
        return fn(tree, *rest)
    if isinstance(tree, (list, tuple)):
        items = [
            tree_map(fn, part, *(r[i] for r in rest), is_leaf=is_leaf)
            for i, part in enumerate(tree)
        ]
        return items if isinstance(tree, list) else _tuple_like(tree, items)
    if isinstance(tree, dict):
        return {
            key: tree_map(fn, part, *(r[key] for r in rest), is_leaf=is_leaf)
            for key, part in tree.items()
        }
    return fn(tree, *rest)


def tree_map_with_path(
    fn: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Optional[Callable[..., bool]] = None,
    path: Optional[Any] = None,
) -> Any:
    """As :func:`tree_map`, with the leaf's path as first argument: keys and indices joined by dots.

    ``is_leaf`` is called with the path as well.

    >>> tree_map_with_path(lambda p, x: p, {"a": [1, 2]})
    {'a': ['a.0', 'a.1']}
    """

    def below(key: Any) -> str:
        return f"{path}.{key}" if path is not None else str(key)

    if is_leaf is not None and is_leaf(path, tree):
        return fn(path, tree, *rest)
    if isinstance(tree, (list, tuple)):
        items = [
            tree_map_with_path(fn, part, *(r[i] for r in rest), is_leaf=is_leaf, path=below(i))
            for i, part in enumerate(tree)
        ]
        return items if isinstance(tree, list) else _tuple_like(tree, items)
    if isinstance(tree, dict):
        return {
            key: tree_map_with_path(
                fn, part, *(r[key] for r in rest), is_leaf=is_leaf, path=below(key)
            )
            for key, part in tree.items()
        }
    return fn(path, tree, *rest)


def tree_flatten(
    tree: Any,
    prefix: str = "",
    is_leaf: Optional[Callable[[Any], bool]] = None,
    destination: Optional[Union[List[Tuple[str, Any]], Dict[str, Any]]] = None,
) -> Any:
    """The leaves of a tree with their paths.

    Args:
        tree: the tree.
        prefix: what every path begins with, with a dot before it.
        is_leaf: says which lists, tuples and dicts are leaves.
        destination: a list or a dict that takes the leaves; a new list by default.

    >>> tree_flatten([10, {"a": 20}])
    [('0', 10), ('1.a', 20)]
    """
    out: Any = [] if destination is None else destination

    def put(path: str, leaf: Any) -> None:
        if isinstance(out, dict):
            out[path[1:]] = leaf
        else:
            out.append((path[1:], leaf))

    def walk(part: Any, path: str) -> None:
        if is_leaf is None or not is_leaf(part):
            if isinstance(part, (list, tuple)):
                for i, item in enumerate(part):
                    walk(item, f"{path}.{i}")
                return
            if isinstance(part, dict):
                for key, item in part.items():
                    walk(item, f"{path}.{key}")
                return
        put(path, part)

    walk(tree, prefix)
    return out


def tree_unflatten(tree: Union[List[Tuple[str, Any]], Dict[str, Any]]) -> Any:
    """The tree of leaves with paths: levels whose keys are all numbers are lists, others are dicts.

    >>> tree_unflatten([("0", 10), ("1.a", 20)])
    [10, {'a': 20}]
    """
    entries = list(tree.items()) if isinstance(tree, dict) else list(tree)
    if len(entries) == 1 and entries[0][0] == "":
        return entries[0][1]
    levels: Dict[str, List[Tuple[str, Any]]] = {}
    for path, leaf in entries:
        key, _, rest = path.partition(".")
        levels.setdefault(key, []).append((rest, leaf))
    if levels and all(key.isdigit() for key in levels):
        # Places that no path names are empty.
        numbered = {int(key): tree_unflatten(part) for key, part in levels.items()}
        if max(numbered) > 2 * len(entries) + 1024:
            raise ValueError("tree_unflatten: an index far beyond the number of leaves")
        return [numbered.get(i, {}) for i in range(max(numbered) + 1)]
    return {key: tree_unflatten(part) for key, part in levels.items()}


def tree_reduce(
    fn: Callable[[Any, Any], Any],
    tree: Any,
    initializer: Any = None,
    is_leaf: Optional[Callable[[Any], bool]] = None,
) -> Any:
    """The leaves put together by ``fn``, beginning with ``initializer`` or the first leaf.

    >>> tree_reduce(lambda a, b: a + b, {"a": [1, 2], "b": 3})
    6
    """
    result = _NOTHING if initializer is None else initializer
    for _, leaf in tree_flatten(tree, is_leaf=is_leaf):
        result = leaf if result is _NOTHING else fn(result, leaf)
    return None if result is _NOTHING else result


def tree_merge(
    tree_a: Any, tree_b: Any, merge_fn: Optional[Callable[[Any, Any], Any]] = None
) -> Any:
    """One tree of two, which may have different parts of it.

    Where both have a leaf ``merge_fn`` makes one of them; without it that is an error.

    >>> tree_merge({"a": 1}, {"b": 2})
    {'a': 1, 'b': 2}
    """
    if tree_a is None or isinstance(tree_a, (dict, list, tuple)) and len(tree_a) == 0:
        return tree_b
    if tree_b is None or isinstance(tree_b, (dict, list, tuple)) and len(tree_b) == 0:
        return tree_a
    if isinstance(tree_a, (list, tuple)) and isinstance(tree_b, (list, tuple)):
        longer = max(len(tree_a), len(tree_b))
        items = []
        for i in range(longer):
            if i >= len(tree_a):
                items.append(tree_b[i])
            elif i >= len(tree_b):
                items.append(tree_a[i])
            else:
                items.append(tree_merge(tree_a[i], tree_b[i], merge_fn))
        return items if isinstance(tree_a, list) else _tuple_like(tree_a, items)
    if isinstance(tree_a, dict) and isinstance(tree_b, dict):
        merged = dict(tree_a)
        for key, part in tree_b.items():
            merged[key] = tree_merge(merged[key], part, merge_fn) if key in merged else part
        return merged
    if merge_fn is None:
        raise ValueError("tree_merge: both trees have a leaf in one place, and there is no merge_fn")
    return merge_fn(tree_a, tree_b)
