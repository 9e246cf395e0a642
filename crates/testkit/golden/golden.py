"""What the golden scripts share: JSON on one line a case, numbers that survive the trip, dtype names.

Nothing here is run by itself. The scripts beside it import it; each says at its top how to run it.
"""

import json
import math
import os

import ml_dtypes
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))

# The fourteen dtypes, by the names that MLX prints, widest last within a kind.
DTYPES = ("bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64").split()


def np_dtype(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def number(x):
    """A JSON value for one scalar. NaN and infinities become strings.

    Floats are written with the fewest digits that name them in their own dtype; parsing them as
    f64 and rounding to the dtype gives the same bits back, which is checked here.
    """
    x = x[()] if isinstance(x, np.ndarray) else x
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if isinstance(x, (complex, np.complexfloating)):
        return [number(x.real), number(x.imag)]
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    if isinstance(x, float):  # Python's float and numpy's float64
        return float(x)
    kind = type(x)
    if kind is ml_dtypes.bfloat16 or kind is np.float16:
        x = np.float32(x)
    short = float(str(x))
    assert np.float32(short) == x and np.signbit(np.float32(short)) == np.signbit(x)
    return short


def numbers(a):
    """The values of an array in row-major order, flat."""
    return [number(x) for x in np.asarray(a).reshape(-1)]


def write_json(name, head, cases):
    """`head` (a dict of a few short facts) and then `cases`, one on each line."""
    path = os.path.join(HERE, name)
    with open(path, "w") as f:
        f.write("{\n")
        for k, v in head.items():
            f.write(f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)},\n")
        f.write(' "cases": [\n')
        lines = [json.dumps(c, separators=(",", ":"), allow_nan=False, ensure_ascii=True) for c in cases]
        f.write(",\n".join(lines))
        f.write("\n ]\n}\n")
    print(f"{name}: {len(cases)} cases, {os.path.getsize(path)} bytes")


def write_safetensors(name, tensors, metadata=None):
    """The tensors in the order of their names, written by the reference implementation."""
    from safetensors.numpy import save_file

    path = os.path.join(HERE, name)
    save_file({k: np.array(tensors[k], order="C") for k in sorted(tensors)}, path, metadata)
    os.chmod(path, 0o644)
    print(f"{name}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
