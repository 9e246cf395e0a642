"""Writes the stubs of the extension module, `python/lazul/_core.pyi`, from the module itself.

Names, order and kinds of parameters are those of the module; annotations follow from parameters' names by the table
below. Usage, where the package is installed: `python scripts/python-stubs.py`. A test fails if the file is not what
this writes.
"""

import inspect
import pathlib

import lazul._core as core

TARGET = pathlib.Path(__file__).parents[1] / "python" / "lazul" / "_core.pyi"
SPACES = ["random", "linalg", "fft", "fast", "distributed", "metal", "cuda"]

HEAD = '''\
# Written by scripts/python-stubs.py.
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Literal, ParamSpec, Protocol, Sequence, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
scalar: TypeAlias = int | float | bool | complex
Value: TypeAlias = Any  # An array, a scalar, or anything that an array can be made of.
Ints: TypeAlias = int | Sequence[int]
S: TypeAlias = Stream | ThreadLocalStream | Device | DeviceType | None

class DLPackCompatible(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self, *args: Any, **kwargs: Any) -> Any: ...

__version__: str
e: float
pi: float
euler_gamma: float
inf: float
nan: float
newaxis: None
cpu: DeviceType
gpu: DeviceType

class AxisError(ValueError, IndexError): ...
'''

# By the parameter's name; `function.name` says otherwise for one.
KINDS = {
    "stream": "S", "s": "Sequence[int] | int | None", "axis": "Ints | None", "axes": "Any", "dtype": "Dtype | None",
    "keepdims": "bool", "shape": "Ints", "a": "Value", "b": "Value", "x": "Value", "y": "Value", "key": "Value | None",
    "fun": "Callable[..., Any]", "f": "Callable[..., Any]", "stride": "Ints", "padding": "Any", "dilation": "Ints",
    "groups": "int", "num": "int | None", "n": "Any", "k": "Any", "mode": "str", "norm": "str | None",
    "group": "_Group | None", "metadata": "Any", "arrays": "Any", "upper": "bool", "limit": "int", "precision": "int",
    "bits": "int | None", "group_size": "int | None", "transpose": "bool", "reverse": "bool", "inclusive": "bool",
    "decimals": "int", "equal_nan": "bool", "rtol": "float", "atol": "float", "shapeless": "bool",
}

RETURNS = {
    "meshgrid": "tuple[array, ...]", "broadcast_arrays": "tuple[array, ...]", "unstack": "tuple[array, ...]",
    "split": "list[array]", "divmod": "tuple[array, array]", "minmax": "tuple[array, array]",
    "histogram": "tuple[array, array]", "nonzero": "tuple[array, ...]", "where": "Any", "unique": "Any",
    "broadcast_shapes": "tuple[int, ...]", "einsum_path": "tuple[list[tuple[int, ...]], str]",
    "quantize": "tuple[array, ...]", "atleast_1d": "Any", "atleast_2d": "Any", "atleast_3d": "Any",
    "load": "Any", "save": "None", "savez": "None", "savez_compressed": "None", "save_safetensors": "None",
    "save_gguf": "None", "export_to_dot": "None", "export_function": "None", "exporter": "FunctionExporter",
    "import_function": "Any", "eval": "None", "async_eval": "None", "get_array_buffer_size": "int", "depends": "Any",
    "grad": "Callable[P, Any]", "value_and_grad": "Callable[P, tuple[R, Any]]", "vmap": "Callable[P, R]",
    "checkpoint": "Callable[P, R]", "compile": "Callable[P, R]", "vjp": "tuple[list[array], list[array]]",
    "jvp": "tuple[list[array], list[array]]", "enable_compile": "None", "disable_compile": "None",
    "issubdtype": "bool", "isdtype": "bool", "can_cast": "bool", "result_type": "Dtype", "_dtype_by_name": "Dtype",
    "stream": "StreamContext", "default_device": "Device", "set_default_device": "None", "is_available": "bool",
    "device_count": "int", "device_info": "dict[str, Any]", "default_stream": "Stream", "set_default_stream": "None",
    "new_stream": "Stream", "new_thread_unsafe_stream": "Stream", "new_thread_local_stream": "ThreadLocalStream",
    "clear_streams": "None", "synchronize": "None", "set_printoptions": "None", "get_printoptions": "PrintOptions",
    "printoptions": "_PrintOptionsContext", "get_active_memory": "int", "get_peak_memory": "int",
    "reset_peak_memory": "None", "get_cache_memory": "int", "get_memory_limit": "int", "set_memory_limit": "int",
    "set_cache_limit": "int", "set_wired_limit": "int", "clear_cache": "None", "start_capture": "None",
    "stop_capture": "None", "random.seed": "None", "random.split": "array", "linalg.svd": "Any",
    "linalg.lu": "tuple[array, array, array]", "linalg.lu_factor": "tuple[array, array]",
    "linalg.slogdet": "tuple[array, array]", "linalg.eig": "tuple[array, array]", "linalg.eigh": "tuple[array, array]",
    "linalg.qr": "tuple[array, array]", "distributed.init": "_Group", "fast.gated_delta_update": "list[array]",
    "fast.metal_kernel": "Any", "fast.cuda_kernel": "Any", "fast.precompiled_cuda_kernel": "Any",
    "array.tolist": "Any", "array.item": "Any", "array.split": "list[array]", "Group.rank": "int",
    "Group.size": "int", "Group.split": "_Group", "FunctionExporter.close": "None",
}

# What the class's slots take and give, which have no signatures.
SLOTS = '''\
    def __init__(self, val: Any, dtype: Dtype | None = ...) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[array]: ...
    def __getitem__(self, index: Any, /) -> array: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def __contains__(self, value: Any, /) -> bool: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __float__(self) -> float: ...
    def __complex__(self) -> complex: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __format__(self, spec: str, /) -> str: ...
    def __eq__(self, other: Any, /) -> Any: ...
    def __ne__(self, other: Any, /) -> Any: ...
    def __array__(self, dtype: Any = ..., copy: bool | None = ...) -> Any: ...
    def __array_namespace__(self, *, api_version: str | None = ...) -> ModuleType: ...
    def __dlpack__(self, *, stream: Any = ..., max_version: Any = ..., dl_device: Any = ..., copy: bool | None = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __copy__(self) -> array: ...
    def __deepcopy__(self, memo: Any, /) -> array: ...
    def __getstate__(self) -> tuple[Any, ...]: ...  # type: ignore[override]
    def __setstate__(self, state: tuple[Any, ...], /) -> None: ...
'''
UNARY = "neg pos invert abs".split()
BINARY = "add sub mul truediv floordiv mod matmul pow and or xor lshift rshift".split()
COMPARE = "lt le gt ge".split()
PROPERTIES = {
    "array": {"T": "array", "mT": "array", "at": "ArrayAt", "dtype": "Dtype", "imag": "array", "itemsize": "int",
              "nbytes": "int", "ndim": "int", "real": "array", "shape": "tuple[int, ...]", "size": "int"},
    "Dtype": {"size": "int"}, "Device": {"type": "DeviceType", "index": "int"},
    "Stream": {"device": "Device"}, "ThreadLocalStream": {"device": "Device"},
    "finfo": {"bits": "int", "min": "float", "max": "float", "eps": "float", "smallest_normal": "float", "dtype": "Dtype"},
    "iinfo": {"bits": "int", "min": "int", "max": "int", "dtype": "Dtype"},
}
MAKES = {
    "Device": "type: DeviceType, index: int = ...", "finfo": "dtype: Dtype, /", "iinfo": "dtype: Dtype, /",
    "custom_function": "f: Callable[..., Any]", "StreamContext": "s: S", "PrintOptions": "precision: int = ...",
}


def parameters(f, path, skip=0):
    """A signature's parameters with annotations."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return "*args: Any, **kwargs: Any"
    words, positional, starred = [], False, False
    listed = list(signature.parameters.values())[skip:]
    for i, p in enumerate(listed):
        kind = KINDS.get(f"{path}.{p.name}", KINDS.get(p.name, "Any"))
        if path in ("stream", "StreamContext") and p.name == "s":
            kind = "S"
        if path == "arange" and p.name in ("start", "stop", "step"):
            kind = "Any"
        if path in ("grad", "value_and_grad", "vmap", "checkpoint", "compile") and p.name == "fun":
            kind = "Callable[P, R]"
        if positional and p.kind is not p.POSITIONAL_ONLY:
            words.append("/")
            positional = False
        positional |= p.kind is p.POSITIONAL_ONLY
        if p.kind is p.VAR_POSITIONAL:
            words.append(f"*{p.name}: Any")
            starred = True
            continue
        if p.kind is p.VAR_KEYWORD:
            words.append(f"**{p.name}: Any")
            continue
        if p.kind is p.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        words.append(f"{p.name}: {kind}" + (" = ..." if p.default is not p.empty else ""))
    if positional:
        words.append("/")
    return ", ".join(words)


def function(name, f, path, indent=""):
    result = RETURNS.get(path, RETURNS.get(name, "array"))
    return f"{indent}def {name}({parameters(f, path)}) -> {result}: ..."


def a_class(cls):
    name = cls.__name__
    lines = [f"class {name}:"]
    if name == "array":
        lines += SLOTS.rstrip("\n").split("\n")
        lines += [f"    def __{o}__(self) -> array: ..." for o in UNARY]
        for o in BINARY:
            lines += [f"    def __{p}{o}__(self, other: Any, /) -> array: ..." for p in ("", "r", "i")]
        lines += [f"    def __{o}__(self, other: Any, /) -> array: ..." for o in COMPARE]
    elif name in MAKES:
        lines.append(f"    def __init__(self, {MAKES[name]}) -> None: ...")
    if name in ("DeviceType", "DtypeCategory"):
        lines += [f"    {m}: {name}" for m in dir(cls) if not m.startswith("_") and isinstance(getattr(cls, m), cls)]
    for word, kind in PROPERTIES.get(name, {}).items():
        lines += ["    @property", f"    def {word}(self) -> {kind}: ..."]
    if name == "PrintOptions":
        lines += ["    precision: int"]
    if name in ("StreamContext", "FunctionExporter", "_PrintOptionsContext"):
        gives = {"StreamContext": "None"}.get(name, name)
        lines += [f"    def __enter__(self) -> {gives}: ...", "    def __exit__(self, *args: Any) -> None: ..."]
    if hasattr(cls, "__call__") and name in ("FunctionExporter", "custom_function", "Transformed", "Compiled"):
        lines.append("    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...")
    if name == "ArrayAt":
        lines.append("    def __getitem__(self, indices: Any, /) -> ArrayAt: ...")
    if name == "ArrayIterator":
        lines += ["    def __iter__(self) -> ArrayIterator: ...", "    def __next__(self) -> array: ..."]
    if name in ("Device", "DeviceType", "Stream", "ThreadLocalStream", "Dtype", "DtypeCategory"):
        lines.append("    def __hash__(self) -> int: ...")
    for word in dir(cls):
        item = getattr(cls, word)
        if word.startswith("_") or word in PROPERTIES.get(name, {}) or not callable(item) or isinstance(item, cls):
            continue
        returns = RETURNS.get(f"{name}.{word}", "Any" if name == "custom_function" else "array")
        words = parameters(item, f"{name}.{word}", 1)
        lines.append(f"    def {word}(self{', ' + words if words else ''}) -> {returns}: ...")
    return lines + (["    ..."] if len(lines) == 1 else [])


def stubs():
    lines = [HEAD]
    for name in dir(core):
        item = getattr(core, name)
        if isinstance(item, core.Dtype):
            lines.append(f"{name}: Dtype")
        elif isinstance(item, core.DtypeCategory):
            lines.append(f"{name}: DtypeCategory")
    seen = {}
    for name in dir(core):
        item = getattr(core, name)
        if inspect.isclass(item) and name != "AxisError":
            lines += ["", *a_class(item)]
    lines.append("")
    classes = [getattr(core, n) for n in dir(core)]
    for cls in {type(core.compile(abs)), type(core.grad(abs))}:
        if cls not in classes:
            lines += a_class(cls)
    group = a_class(core.distributed.Group)
    lines += ["", "class _Group:", *group[1:], ""]
    for name in dir(core):
        item = getattr(core, name)
        if inspect.isbuiltin(item) and (not name.startswith("__")):
            own = item.__name__
            if own in seen and own != name and getattr(core, own, None) is item:
                lines.append(f"{name} = {own}")
            else:
                lines.append(function(name, item, name))
            seen[own] = name
    for space in SPACES:
        module = getattr(core, space)
        lines += ["", f"class {space}(ModuleType):"]
        if space == "random":
            lines.append("    state: list[array]")
        if space == "distributed":
            lines.append("    Group: TypeAlias = _Group")
        for name in dir(module):
            item = getattr(module, name)
            if inspect.isbuiltin(item):
                lines += ["    @staticmethod", function(name, item, f"{space}.{name}", "    ")]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(stubs())
    print(f"wrote {TARGET}")
