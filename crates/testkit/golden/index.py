"""index.json: what indices select and update, by NumPy.

    pip install numpy
    python index.py

Arrays are `arange(size)` of the case's `shape`, as int32. An index is a list of words: an integer,
`{"slice": [start, stop, step]}`, `"new"`, `"ellipsis"`, `{"ints": [..], "shape": [..]}` or
`{"mask": [..], "shape": [..]}`. `read` is what it selects, with its shape, or null where NumPy refuses. `writes`
are updates by name: the `values` that broadcast to the selection, and the whole array afterwards.

Some indices are written out below, more are drawn: words of every kind, in every order that fits.
"""

import numpy as np

from golden import numbers, write_json

rng = np.random.default_rng(77)
CASES = []
UFUNC = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}


def word(w):
    if isinstance(w, slice):
        return {"slice": [w.start, w.stop, w.step]}
    if w is None:
        return "new"
    if w is Ellipsis:
        return "ellipsis"
    if isinstance(w, np.ndarray):
        kind = "mask" if w.dtype == bool else "ints"
        return {kind: numbers(w), "shape": list(w.shape)}
    return int(w)


def values_for(shape):
    """Values that broadcast to a shape: all of it, or with ones or missing axes."""
    dims = list(shape)
    kind = rng.integers(4)
    if kind == 1 and dims:
        dims[rng.integers(len(dims))] = 1
    elif kind == 2:
        dims = dims[rng.integers(len(dims) + 1) :]
    elif kind == 3:
        dims = [1] + dims
    return rng.integers(-20, 60, dims).astype(np.int32)


def case(shape, index, writes=True):
    x = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    c = {"id": f"index-{len(CASES)}", "shape": list(shape), "index": [word(w) for w in index]}
    try:
        got = x[tuple(index)]
    except (IndexError, ValueError):
        c["read"] = None
        CASES.append(c)
        return
    c["read"], c["read_shape"] = numbers(got), list(got.shape)
    c["writes"] = {}
    if writes:
        for name in ["set", *UFUNC]:
            v, out = values_for(got.shape), x.copy()
            if name == "set":
                # Which of several values stays is not defined unless they are equal.
                v = v.reshape(-1)[:1].reshape(()) if repeats(x, index) and v.size else v
                out[tuple(index)] = v
            else:
                # `at` knows no leading axes of length one.
                own = v.reshape(v.shape[max(0, v.ndim - got.ndim) :])
                UFUNC[name].at(out, tuple(index), np.broadcast_to(own, got.shape))
            c["writes"][name] = {"values": numbers(v), "shape": list(v.shape), "out": numbers(out)}
    CASES.append(c)


def repeats(x, index):
    count = np.zeros(x.shape, int)
    np.add.at(count, tuple(index), 1)
    return count.max(initial=0) > 1


def drawn_slice(n):
    def bound():
        return None if rng.random() < 0.3 else int(rng.integers(-n - 2, n + 3))

    step = rng.choice([None, 1, 2, 3, -1, -2])
    return slice(bound(), bound(), None if step is None else int(step))


def drawn(shape):
    """Words for an array of `shape`."""
    rank = len(shape)
    words, axis = [], 0
    block = [(), (1,), (2,), (2, 1), (2, 3)]
    sizes = block[rng.integers(len(block))]
    left = int(rng.integers(0, rank + 1))
    dots = rng.random() < 0.4
    while axis < left:
        n = shape[axis]
        kind = rng.random()
        if kind < 0.2 and n:
            words.append(int(rng.integers(-n, n)))
        elif kind < 0.5:
            words.append(drawn_slice(n))
        elif kind < 0.8 and n:
            own = [d if rng.random() < 0.7 else 1 for d in sizes][int(rng.integers(len(sizes) + 1)) :]
            words.append(rng.integers(-n, n, own).astype(np.int64))
        elif kind < 0.87:
            words.append(rng.random(n) < 0.5)
        elif axis + 2 <= left and kind < 0.93:
            words.append(rng.random(shape[axis : axis + 2]) < 0.4)
            axis += 1
        else:
            words.append(slice(None))
        axis += 1
    if dots and left == rank:
        words.insert(int(rng.integers(len(words) + 1)), Ellipsis)
    elif rng.random() < 0.3:
        words.append(Ellipsis)
    for _ in range(int(rng.choice([0, 0, 0, 1, 2]))):
        words.insert(int(rng.integers(len(words) + 1)), None)
    return words


def main():
    a = np.array
    full = slice(None)
    t3 = [
        [],
        [0],
        [-1, 2],
        [Ellipsis, -1],
        [0, Ellipsis, 1],
        [None, Ellipsis, None],
        [slice(None, None, -1), slice(1, None, 2)],
        [slice(3, 1), slice(None)],
        [slice(-100, 100), slice(100, -100, -3)],
        [slice(2**40, None), full, slice(None, -(2**40), -(2**40))],
        [a([0, 3, 0])],
        [a([[0], [3]]), a([1, 2, -1])],
        [a([0, 1]), full, a([1, 0])],
        [full, a([0, 1]), a([1, 0])],
        [full, 0, a([1, 0])],
        [0, full, a([1, 0])],
        [a([0, 1]), None, a([1, 0])],
        [full, a([0, 1]), Ellipsis, a([1, 0])],
        [a([0, 1]), Ellipsis, 0],
        [full, None, a([0, 1]), 0],
        [full, a([0, 1]), None, a([0, 1])],
        [a([], dtype=np.int32)],
        [a([], dtype=np.int32), full, 1],
        [a(2)],
        [a(True)],
        [a(False)],
        [full, a(True)],
        [full, a(True), 0],
        [a(True), a([0, 1])],
        [a(True), None, a([0, 1])],
        [rng.random((4, 5, 3)) < 0.5],
        [rng.random((4, 5)) < 0.5],
        [full, rng.random((5, 3)) < 0.5],
        [a([True, False, True, True]), 0],
        [a([True, False, True, True]), full, a([0, 2, 1])],
        [a([True, False, True, True]), full, a([True, False, True])],
        [np.zeros((4,), bool)],
        [np.zeros((4, 5, 3), bool)],
        # Refused: too many axes, two ellipses, out of bounds, shapes that do not fit.
        [0, 0, 0, 0],
        [Ellipsis, Ellipsis],
        [4],
        [-5],
        [full, full, 3],
        [a([0, 1]), a([0, 1, 2])],
        [a([True, False])],
        [rng.random((4, 4)) < 0.5],
        [a([4])],
        [full, a([-6])],
        [slice(None, None, 0)],
    ]
    for index in t3:
        case((4, 5, 3), index)
    case((), [])
    case((), [None])
    case((), [Ellipsis])
    case((), [0])
    case((), [a(True)])
    case((0, 3), [full, 1])
    case((0, 3), [a([], dtype=np.int32)])
    case((0, 3), [0])
    case((3, 0), [a([0, 2])])
    for shape in [(6,), (4, 3), (3, 4, 2), (2, 3, 2, 3)]:
        for _ in range(60):
            case(shape, drawn(shape), writes=len(CASES) % 3 == 0)
    write_json("index.json", {"by": "python index.py", "numpy": np.__version__}, CASES)


main()
