"""Calls functions with arguments of all kinds; run in a process of its own by test_fuzz.py.

Any exception will do but a panic, and nothing may end the process. Usage: ``fuzz_child.py CALLS SEED``.
"""

import faulthandler
import inspect
import random
import sys

import numpy as np

import lazul.core as mx

faulthandler.enable()

#: Those that change the process or its files, or wait.
LEFT_OUT = {
    "save", "savez", "savez_compressed", "save_safetensors", "save_gguf", "load", "export_function", "exporter",
    "import_function", "export_to_dot", "set_memory_limit", "set_cache_limit", "set_default_device",
    "set_default_stream", "set_wired_limit", "metal.set_memory_limit", "metal.set_cache_limit",
    "metal.set_wired_limit", "disable_compile", "random.seed", "set_printoptions",
}
DTYPES = [getattr(mx, n) for n in "bool_ uint8 uint32 uint64 int8 int32 int64 float16 bfloat16 float32 float64 complex64".split()]
SHAPES = [(), (0,), (1,), (3,), (2, 3), (3, 3), (1, 3), (0, 4), (2, 0, 3), (2, 3, 4), (1, 4, 4, 2), (2, 64), (1,) * 12]


def functions():
    for name in dir(mx):
        item = getattr(mx, name)
        if inspect.isbuiltin(item) and not name.startswith("__") and name not in LEFT_OUT:
            yield name, item
    for space in ("random", "linalg", "fft", "fast", "distributed", "metal", "cuda"):
        module = getattr(mx, space)
        for name in dir(module):
            item = getattr(module, name)
            if inspect.isbuiltin(item) and not name.startswith("__") and f"{space}.{name}" not in LEFT_OUT:
                yield f"{space}.{name}", item
    for name in dir(mx.array):
        if name not in ("__class__", "__init__", "__new__", "__init_subclass__", "__subclasshook__", "__del__",
                        "__getattribute__", "__setattr__", "__delattr__", "__class_getitem__", "__sizeof__"):
            item = getattr(mx.array, name)
            if callable(item):
                yield f"array.{name}", item
    yield "array", mx.array
    yield "finfo", mx.finfo
    yield "iinfo", mx.iinfo
    yield "Device", mx.Device


def an_array(r):
    shape, dtype = r.choice(SHAPES), r.choice(DTYPES)
    values = np.random.default_rng(r.randrange(1 << 30)).normal(size=shape) * r.choice([1, 3, 1000])
    x = mx.array(values.astype(np.float32)).astype(dtype)
    return x.T if r.random() < 0.2 else x[::-1] if shape and r.random() < 0.2 else x


class Odd:
    def __init__(self, r):
        self.r = r

    def __index__(self):
        return self.r.choice([0, -1, 1 << 70])

    def __len__(self):
        return self.r.choice([0, 1, 3])

    def __iter__(self):
        return iter([self.r.choice([0, None, "a"])])

    def __float__(self):
        raise RuntimeError("no")


def anything(r, depth=0):
    kind = r.randrange(24)
    if kind < 7:
        return an_array(r)
    if kind < 11:
        return r.choice([0, 1, -1, 2, 3, 5, 64, -7, 127, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**64, 2**200])
    if kind == 11:
        return r.choice([0.0, 1.0, -0.5, 1e300, float("nan"), float("inf"), -float("inf"), 1e-300])
    if kind == 12:
        return r.choice([True, False, None, ..., NotImplemented, 1j, complex("nan")])
    if kind == 13:
        return r.choice(["", "a", "constant", "causal", "ij,jk->ik", "affine", "nvfp4", "fro", "full", "right", "\ud800", "é" * 300])
    if kind == 14:
        return r.choice(DTYPES)
    if kind == 15:
        return r.choice([mx.cpu, mx.gpu, mx.Device(mx.cpu), mx.default_stream(mx.cpu), mx.floating])
    if kind == 16:
        return slice(*(r.choice([None, 0, 1, -1, 5, -(2**63), 2**70]) for _ in range(3)))
    if kind == 17:
        return np.random.default_rng(0).normal(size=r.choice(SHAPES[:10])).astype(r.choice([np.float32, np.int64, np.bool_, np.complex128, np.uint16]))
    if kind == 18:
        return r.choice([np.float64(2), np.int8(-3), np.bool_(True), np.array("x"), np.array([object()])])
    if kind == 19:
        return r.choice([lambda *a, **k: a[0] if a else None, lambda *a: mx.array(1.0), len, abs, object(), Odd(r), b"ab", memoryview(b"abcd"), range(3)])
    if depth > 3:
        return ()
    if kind == 20:
        return {r.choice(["a", "b", 3]): anything(r, depth + 1) for _ in range(r.randrange(3))}
    items = [anything(r, depth + 1) for _ in range(r.randrange(4))]
    return tuple(items) if kind == 21 else items


def fitting(r, name, base):
    """An argument of the kind that a parameter of this name wants, mostly."""
    if name in ("axis", "axis1", "axis2", "axes", "source", "destination", "k", "offset", "kth", "start_axis", "end_axis"):
        return r.choice([0, 1, -1, None, (0, 1), (-1,), 2, 7])
    if name in ("shape", "reps", "slice_size", "shift", "repeats", "strides", "pad_width"):
        return r.choice([(), (2,), (2, 3), 3, (-1,), (0, 2), (1, 1)])
    if name in ("dtype", "to", "from_"):
        return r.choice(DTYPES)
    if name in ("stream", "s", "device", "d"):
        return r.choice([None, mx.cpu, mx.gpu])
    if name == "key":
        return r.choice([None, mx.random.key(3)])
    if name in ("keepdims", "reverse", "inclusive", "upper", "transpose", "sorted_indices", "flip", "traditional", "compute_uv"):
        return r.random() < 0.5
    if name in ("n", "M", "m", "num", "size", "decimals", "bits", "group_size", "groups", "stride", "padding", "dilation", "dims", "block_size", "num_samples"):
        return r.choice([0, 1, 2, 3, 4, 32, 64, -1])
    if name in ("indices", "lhs_indices", "rhs_indices", "start_indices", "targets", "segments"):
        return mx.array(r.choice([[0], [1, 0], [[0, 1]], [5], [-9], 0]), r.choice([mx.int32, mx.uint32, mx.int64]))
    if name in ("eps", "alpha", "beta", "scale", "base", "rtol", "atol", "d", "loc", "nan", "start", "stop", "step"):
        return r.choice([1.0, 0.5, 1e-5, 2, None])
    if name in ("arrays", "arys", "operands", "primals"):
        return [base, base]
    return base if r.random() < 0.7 else an_array(r) if r.random() < 0.7 else r.choice([1, 2.0, True, 3])


def parameters(f):
    try:
        return [p for p in inspect.signature(f).parameters.values() if p.name not in ("self", "args", "kwargs")]
    except (TypeError, ValueError):
        return []


def call_of(r, f, is_method):
    """Arguments of a call, sensible ones mostly."""
    base = an_array(r)
    args, kwargs = ([base] if is_method else []), {}
    known = parameters(f)
    if not known or r.random() < 0.1:
        args += [base if r.random() < 0.6 else anything(r) for _ in range(r.randrange(3))]
        return args, kwargs
    for p in known:
        value = fitting(r, p.name, base) if r.random() < 0.9 else anything(r)
        if p.kind == p.VAR_POSITIONAL:
            args += [value, value]
        elif p.default is not p.empty:
            if r.random() < 0.4:
                kwargs[p.name] = value
        elif p.kind == p.KEYWORD_ONLY:
            kwargs[p.name] = value
        else:
            args.append(value)
    if any(p.kind == p.POSITIONAL_ONLY and p.name in kwargs for p in known):
        kwargs = {k: v for k, v in kwargs.items() if not any(p.name == k and p.kind == p.POSITIONAL_ONLY for p in known)}
    return args, kwargs


def main(calls, seed):
    r = random.Random(seed)
    table = list(functions())
    mx.set_memory_limit(1 << 28)
    raised = 0
    for i in range(calls):
        name, f = r.choice(table)
        args, kwargs = call_of(r, f, name.startswith("array."))
        # The last words before an end, for whoever looks for its cause.
        if "-v" in sys.argv:
            print(i, name, file=sys.stderr, flush=True)
        try:
            result = f(*args, **kwargs)
            if callable(result) and not isinstance(result, (type, mx.Dtype)):
                result = result(an_array(r))
            mx.eval(result)
            repr(result)
            if isinstance(result, mx.array) and result.size < 100:
                result.tolist()
                bytes(result)
        except Exception:
            raised += 1
        except BaseException as e:  # A panic.
            print(f"{name}({args!r}, {kwargs!r}): {type(e).__name__}: {e}", flush=True)
            sys.exit(3)
    print(f"{calls} calls, {raised} raised")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
