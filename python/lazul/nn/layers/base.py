"""The class of all layers and models."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import lazul.core as mx

from ...utils import tree_flatten, tree_unflatten

__all__ = ["Module"]


class Module(dict):
    """A layer or a model: a dict of its parameters and parts, which are its attributes too.

    What is assigned as an attribute and is an array, a dict, a list or a tuple (a module is a dict) becomes an entry
    of the dict; everything else is an ordinary attribute. Entries whose names begin with an underscore are no
    parameters.

    >>> class Affine(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = mx.array(2.0)
    ...     def __call__(self, x):
    ...         return x * self.scale
    >>> Affine()(mx.array(3.0)).item()
    6.0
    >>> list(Affine().parameters())
    ['scale']
    """

    __call__: Callable[..., Any]

    def __init__(self) -> None:
        # Names of parameters that are not trained.
        self._no_grad: set = set()
        self._training: bool = True

    @property
    def training(self) -> bool:
        """Whether the module is being trained, which changes what some layers do."""
        return self._training

    @property
    def state(self) -> "Module":
        """The module itself: what is captured by a compiled function that trains it."""
        return self

    # Attributes and entries.

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, (mx.array, dict, list, tuple)):
            # An ordinary attribute of that name would be found first.
            self.__dict__.pop(key, None)
            self[key] = value
        else:
            self.pop(key, None)
            super().__setattr__(key, value)

    def __delattr__(self, key: str) -> None:
        if key in self:
            del self[key]
        else:
            super().__delattr__(key)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def _extra_repr(self) -> str:
        """What stands in the parentheses of this layer's description."""
        return ""

    def __repr__(self) -> str:
        children = tree_flatten(self.children(), is_leaf=self.is_module)
        text = f"{type(self).__name__}({self._extra_repr()}"
        for name, child in children:
            inner = "\n".join("  " + line for line in f"({name}): {child!r}".split("\n"))
            text += "\n" + inner
        return text + ("\n)" if children else ")")

    # Weights in files.

    def load_weights(
        self, file_or_weights: Union[str, List[Tuple[str, mx.array]]], strict: bool = True
    ) -> "Module":
        """Takes weights from a file (safetensors or npz) or from pairs of names and arrays.

        Args:
            file_or_weights: the path, or the pairs.
            strict: whether names and shapes must be exactly those of the parameters.

        Raises:
            ValueError: for names or shapes that do not fit, if ``strict``.
        """
        if isinstance(file_or_weights, (list, tuple)):
            weights = dict(file_or_weights)
        else:
            weights = mx.load(file_or_weights)
        if strict:
            own = tree_flatten(self.parameters(), destination={})
            extra = sorted(set(weights) - set(own))
            if extra:
                raise ValueError(f"Received {len(extra)} parameters not in model: {', '.join(extra)}.")
            missing = sorted(set(own) - set(weights))
            if missing:
                raise ValueError(f"Missing {len(missing)} parameters: {', '.join(missing)}.")
            for name, array in weights.items():
                if not isinstance(array, mx.array):
                    raise ValueError(f"Expected an array for {name}, got {type(array).__name__}.")
                if array.shape != own[name].shape:
                    raise ValueError(
                        f"Expected shape {own[name].shape} but received shape {array.shape} "
                        f"for parameter {name}"
                    )
        if weights:
            self.update(tree_unflatten(list(weights.items())), strict=False)
        return self

    def save_weights(self, file: str) -> None:
        """Writes the parameters to a ``.safetensors`` or ``.npz`` file."""
        weights = tree_flatten(self.parameters(), destination={})
        name = str(file)
        if name.endswith(".npz"):
            mx.savez(name, **weights)
        elif name.endswith(".safetensors"):
            mx.save_safetensors(name, weights)
        else:
            raise ValueError(f"Unsupported file extension for {name}. Use '.npz' or '.safetensors'.")

    # What entries are.

    @staticmethod
    def is_module(value: Any) -> bool:
        """Whether a value is a module."""
        return isinstance(value, Module)

    @staticmethod
    def valid_child_filter(module: "Module", key: str, value: Any) -> bool:
        """Whether an entry may hold modules."""
        return isinstance(value, (dict, list, tuple))

    @staticmethod
    def valid_parameter_filter(module: "Module", key: str, value: Any) -> bool:
        """Whether an entry is or holds parameters."""
        return isinstance(value, (dict, list, tuple, mx.array)) and not key.startswith("_")

    @staticmethod
    def trainable_parameter_filter(module: "Module", key: str, value: Any) -> bool:
        """Whether an entry is or holds parameters that are trained."""
        return Module.valid_parameter_filter(module, key, value) and key not in module._no_grad

    def filter_and_map(
        self,
        filter_fn: Callable[["Module", str, Any], bool],
        map_fn: Optional[Callable[[Any], Any]] = None,
        is_leaf_fn: Optional[Callable[["Module", str, Any], bool]] = None,
    ) -> Dict[str, Any]:
        """Entries chosen by ``filter_fn(module, key, value)``, with ``map_fn`` applied to their leaves.

        Args:
            filter_fn: says which entries of a module are wanted.
            map_fn: what is made of a leaf; the leaf itself by default.
            is_leaf_fn: says what a leaf is; by default whatever is no module, dict, list or tuple.
        """
        made = map_fn if map_fn is not None else (lambda x: x)
        is_leaf = is_leaf_fn
        if is_leaf is None:

            def is_leaf(module: Module, key: str, value: Any) -> bool:
                return not isinstance(value, (Module, dict, list, tuple))

        def inner(module: Module, key: str, value: Any) -> Any:
            if is_leaf(module, key, value):
                return made(value)
            if isinstance(value, Module):
                return value.filter_and_map(filter_fn, map_fn, is_leaf_fn)
            if isinstance(value, dict):
                parts = {}
                for k, v in value.items():
                    below = f"{key}.{k}"
                    parts[k] = inner(module, below, v) if filter_fn(module, below, v) else {}
                return parts
            if isinstance(value, (list, tuple)):
                items = []
                for i, v in enumerate(value):
                    below = f"{key}.{i}"
                    items.append(inner(module, below, v) if filter_fn(module, below, v) else {})
                return items
            raise RuntimeError(f"filter_and_map: {key} is neither a leaf nor a container")

        return {k: inner(self, k, v) for k, v in self.items() if filter_fn(self, k, v)}

    def parameters(self) -> Dict[str, Any]:
        """All parameters, as a tree."""
        return self.filter_and_map(self.valid_parameter_filter)

    def trainable_parameters(self) -> Dict[str, Any]:
        """The parameters that are trained, as a tree."""
        return self.filter_and_map(self.trainable_parameter_filter)

    def children(self) -> Dict[str, Any]:
        """The modules that are directly in this one, as a tree."""
        return self.filter_and_map(
            self.valid_child_filter, is_leaf_fn=lambda _m, _k, v: isinstance(v, Module)
        )

    def leaf_modules(self) -> Dict[str, Any]:
        """The modules that hold no others, as a tree."""

        def has_none(module: Module, key: str, value: Any) -> bool:
            return isinstance(value, Module) and not tree_flatten(
                value.children(), is_leaf=self.is_module
            )

        return self.filter_and_map(self.valid_child_filter, is_leaf_fn=has_none)

    # Changing parameters and parts.

    def update(self, parameters: dict, strict: bool = True) -> "Module":  # type: ignore[override]
        """Replaces parameters by those of a tree, which may have a part of them only.

        Args:
            parameters: the tree.
            strict: whether a name that the module does not have is an error.
        """

        def apply(target: Any, new: Any, path: str) -> None:
            if isinstance(new, dict):
                for key, value in new.items():
                    if isinstance(target, dict) and key in target:
                        put(target, key, target[key], value, f"{path}.{key}")
                    elif strict:
                        raise ValueError(f'Module does not have parameter named "{f"{path}.{key}"[1:]}".')
            elif isinstance(new, (list, tuple)):
                for i, value in enumerate(new):
                    if isinstance(target, (list, tuple)) and i < len(target):
                        put(target, i, target[i], value, f"{path}.{i}")
                    elif strict and not (isinstance(value, dict) and not value):
                        raise ValueError(f'Module does not have parameter named "{f"{path}.{i}"[1:]}".')
            elif strict:
                raise ValueError(f"Received invalid type: {type(new).__name__} at {path[1:]}.")

        def put(target: Any, key: Any, held: Any, value: Any, path: str) -> None:
            if isinstance(held, mx.array):
                if isinstance(value, mx.array):
                    target[key] = value
                elif strict:
                    raise ValueError(
                        f"Received invalid type: {type(value).__name__} for the parameter {path[1:]}."
                    )
            else:
                apply(held, value, path)

        apply(self, parameters, "")
        return self

    def apply(
        self,
        map_fn: Callable[[mx.array], mx.array],
        filter_fn: Optional[Callable[["Module", str, Any], bool]] = None,
    ) -> "Module":
        """Replaces all parameters (or those that ``filter_fn`` chooses) by what ``map_fn`` makes of them."""
        chosen = filter_fn or Module.valid_parameter_filter
        self.update(self.filter_and_map(chosen, map_fn))
        return self

    def update_modules(self, modules: dict, strict: bool = True) -> "Module":
        """Replaces modules by those of a tree, which may have a part of them only.

        Args:
            modules: the tree.
            strict: whether a name that the module does not have is an error.
        """

        def apply(target: Any, new: Any, path: str) -> None:
            if isinstance(new, dict):
                for key, value in new.items():
                    if isinstance(target, dict) and key in target:
                        put(target, key, target[key], value, f"{path}.{key}")
                    elif strict:
                        raise ValueError(f'Module does not have sub-module named "{f"{path}.{key}"[1:]}".')
            elif isinstance(new, (list, tuple)):
                for i, value in enumerate(new):
                    if isinstance(target, (list, tuple)) and i < len(target):
                        put(target, i, target[i], value, f"{path}.{i}")
                    elif strict and not (isinstance(value, dict) and not value):
                        raise ValueError(f'Module does not have sub-module named "{f"{path}.{i}"[1:]}".')
            elif strict:
                raise ValueError(f"Received invalid type: {type(new).__name__} at {path[1:]}.")

        def put(target: Any, key: Any, held: Any, value: Any, path: str) -> None:
            if isinstance(held, Module) and isinstance(value, Module):
                target[key] = value
            elif isinstance(held, (dict, list, tuple)):
                apply(held, value, path)
            elif strict and not (isinstance(value, dict) and not value):
                raise ValueError(
                    f"Received invalid type: {type(value).__name__} for the sub-module {path[1:]}."
                )

        apply(self, modules, "")
        return self

    def apply_to_modules(self, apply_fn: Callable[[str, "Module"], Any]) -> "Module":
        """Calls ``apply_fn(name, module)`` for this module and all within it."""
        for name, module in self.named_modules():
            apply_fn(name, module)
        return self

    def modules(self) -> List["Module"]:
        """This module and all within it."""
        return [module for _, module in self.named_modules()]

    def named_modules(self) -> List[Tuple[str, "Module"]]:
        """This module and all within it, with their paths."""
        found: List[Tuple[str, Module]] = []
        stack: List[Tuple[str, Module]] = [("", self)]
        while stack:
            name, module = stack.pop()
            found.append((name, module))
            prefix = f".{name}" if name else ""
            stack.extend(
                tree_flatten(module.children(), prefix=prefix, is_leaf=self.is_module)
            )
        return found

    # Training.

    def _change_frozen(
        self,
        recurse: bool,
        keys: Optional[Union[str, List[str]]],
        strict: bool,
        change: Callable[["Module", List[str]], None],
    ) -> "Module":
        wanted = [keys] if isinstance(keys, str) else keys

        def one(_name: str, module: "Module") -> None:
            if wanted is None:
                # The module's own, in lists and dicts too; modules within come by themselves.
                own = module.filter_and_map(
                    lambda m, k, v: not isinstance(v, Module)
                    and Module.valid_parameter_filter(m, k, v)
                )
                change(module, [path for path, _ in tree_flatten(own)])
                return
            there = [k for k in wanted if k in module]
            if strict and len(there) < len(wanted):
                missing = [k for k in wanted if k not in module]
                raise KeyError(f"Module doesn't contain member {missing[0]}.")
            change(module, there)

        if recurse:
            self.apply_to_modules(one)
        else:
            one("", self)
        return self

    def freeze(
        self,
        *,
        recurse: bool = True,
        keys: Optional[Union[str, List[str]]] = None,
        strict: bool = False,
    ) -> "Module":
        """Takes parameters out of training: all, or those named by ``keys``, here and in the modules within.

        Args:
            recurse: whether modules within are frozen too.
            keys: names of parameters, without paths.
            strict: whether a module that lacks one of them is an error.
        """
        return self._change_frozen(
            recurse, keys, strict, lambda module, names: module._no_grad.update(names)
        )

    def unfreeze(
        self,
        *,
        recurse: bool = True,
        keys: Optional[Union[str, List[str]]] = None,
        strict: bool = False,
    ) -> "Module":
        """Takes parameters back into training; see :meth:`freeze`."""

        def change(module: "Module", names: List[str]) -> None:
            if keys is None:
                module._no_grad.clear()
            else:
                module._no_grad.difference_update(names)

        return self._change_frozen(recurse, keys, strict, change)

    def train(self, mode: bool = True) -> "Module":
        """Says whether this module and all within it are being trained."""
        return self.apply_to_modules(lambda _name, module: setattr(module, "_training", mode))

    def eval(self) -> "Module":
        """Says that this module and all within it are not being trained."""
        return self.train(False)

    def set_dtype(
        self,
        dtype: mx.Dtype,
        predicate: Optional[Callable[[mx.Dtype], bool]] = lambda x: mx.issubdtype(x, mx.floating),
    ) -> None:
        """Casts parameters to a dtype: those whose dtype the predicate is true for, floats by default."""
        chosen = predicate if predicate is not None else (lambda _dtype: True)
        self.apply(lambda x: x.astype(dtype) if chosen(x.dtype) else x)
