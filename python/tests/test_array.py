"""The class: construction, handles, operators with weak scalars, indexing, printing, conversion."""

import copy
import gc
import pickle

import numpy as np
import pytest

import lazul.core as mx
import lazul.nn as nn

U8 = mx.array([250, 10], mx.uint8)
F32 = mx.array([1.0, 2.0, 3.0])
I32 = mx.array([7, -7])
B = mx.array([True, False])


def name(dtype):
    return repr(dtype).rpartition(".")[2]


# What MLX documents, expression by expression: values and dtype.
VALUES = [
    (lambda: U8 + 10, [4, 20], "uint8"),
    (lambda: U8 * 2.0, [500.0, 20.0], "float32"),
    (lambda: mx.array([1.5], mx.float16) * 2, [3.0], "float16"),
    (lambda: mx.array([1.5], mx.bfloat16) + mx.array([1.5], mx.float16), [3.0], "float32"),
    (lambda: I32 / 2, [3.5, -3.5], "float32"),
    (lambda: I32 // 2, [3, -4], "int32"),
    (lambda: I32 % 3, [1, 2], "int32"),
    (lambda: I32**2, [49, 49], "int32"),
    (lambda: I32**-1, [0, 0], "int32"),
    (lambda: B + B, [True, False], "bool"),
    (lambda: B + 1, [2, 1], "int32"),
    (lambda: B * 2.0, [2.0, 0.0], "float32"),
    (lambda: mx.array([1], mx.uint64) + mx.array([1], mx.int64), [2.0], "float32"),
    (lambda: mx.array([1 + 2j]) + 1, [2 + 2j], "complex64"),
    (lambda: mx.array([1.0], mx.float64) + 1.0, [2.0], "float64"),
    (lambda: I32 + 1j, [7 + 1j, -7 + 1j], "complex64"),
    (lambda: 2**I32[:1], [128], "int32"),
    (lambda: 1 - F32, [0.0, -1.0, -2.0], "float32"),
    (lambda: 6 / F32[:2], [6.0, 3.0], "float32"),
    (lambda: 7 // mx.array([2]), [3], "int32"),
    (lambda: 7 % mx.array([4]), [3], "int32"),
    (lambda: ~I32, [-8, 6], "int32"),
    (lambda: ~B, [False, True], "bool"),
    (lambda: I32 & 3, [3, 1], "int32"),
    (lambda: I32 | 8, [15, -7], "int32"),
    (lambda: I32 ^ 1, [6, -8], "int32"),
    (lambda: I32 << 1, [14, -14], "int32"),
    (lambda: I32 >> 1, [3, -4], "int32"),
    (lambda: -I32, [-7, 7], "int32"),
    (lambda: abs(I32), [7, 7], "int32"),
    (lambda: F32 @ F32, 14.0, "float32"),
    (lambda: F32 > 1.5, [False, True, True], "bool"),
    (lambda: F32 == F32, [True, True, True], "bool"),
    (lambda: F32 != 2, [True, False, True], "bool"),
    (lambda: mx.array(1), 1, "int32"),
    (lambda: mx.array(True), True, "bool"),
    (lambda: mx.array(2**40), 2**40, "int64"),
    (lambda: mx.array([1, 2.0]), [1.0, 2.0], "float32"),
    (lambda: mx.array([1, True]), [1, 1], "int32"),
    (lambda: mx.array(1j), 1j, "complex64"),
    (lambda: mx.array([]), [], "float32"),
    (lambda: mx.array([300], mx.uint8), [44], "uint8"),
    (lambda: mx.array([1.9, -1.9], mx.int32), [1, -1], "int32"),
    (lambda: mx.array([mx.array(1), 2]), [1, 2], "int32"),
    (lambda: mx.array([[mx.array(1.5, mx.float16)], [2]]), [[1.5], [2.0]], "float16"),
    (lambda: mx.array([mx.array([1, 2]), mx.array([3, 4])]), [[1, 2], [3, 4]], "int32"),
    (lambda: mx.array(np.zeros(2)), [0.0, 0.0], "float32"),
    (lambda: mx.array(np.zeros(2), mx.float64), [0.0, 0.0], "float64"),
    (lambda: mx.array(np.int64(3)), 3, "int64"),
    (lambda: mx.array(np.ones(1, np.complex128)), [1 + 0j], "complex64"),
    (lambda: mx.array(np.arange(6).reshape(2, 3).T), [[0, 3], [1, 4], [2, 5]], "int64"),
    (lambda: mx.sum(B), 1, "int32"),
    (lambda: mx.sum(U8), 260, "uint32"),
    (lambda: mx.cumsum(U8), [250, 4], "uint8"),
    (lambda: mx.round(mx.array([0.5, 1.5, 2.5])), [0.0, 2.0, 2.0], "float32"),
    (lambda: mx.array(1) // mx.array(0), 0, "int32"),
    (lambda: mx.arange(3.0), [0.0, 1.0, 2.0], "float32"),
    (lambda: mx.arange(0, 1, 0.25), [0.0, 0.25, 0.5, 0.75], "float32"),
    (lambda: mx.where(B, 1.0, 2), [1.0, 2.0], "float32"),
    (lambda: mx.clip(F32, None, 2), [1.0, 2.0, 2.0], "float32"),
    (lambda: F32[::-1], [3.0, 2.0, 1.0], "float32"),
    (lambda: F32[1:10], [2.0, 3.0], "float32"),
    (lambda: F32[mx.array([0, 2])], [1.0, 3.0], "float32"),
    (lambda: F32[[0, -1]], [1.0, 3.0], "float32"),
    (lambda: F32[F32 > 1], [2.0, 3.0], "float32"),
    (lambda: F32[[True, False, True]], [1.0, 3.0], "float32"),
    (lambda: F32[np.array([True, False, True])], [1.0, 3.0], "float32"),
    (lambda: F32[np.int64(1)], 2.0, "float32"),
    (lambda: F32[None], [[1.0, 2.0, 3.0]], "float32"),
    (lambda: F32[..., None], [[1.0], [2.0], [3.0]], "float32"),
    (lambda: F32[[]], [], "float32"),
]


@pytest.mark.parametrize("case", VALUES, ids=range(len(VALUES)))
def test_values_and_dtypes(case):
    make, value, dtype = case
    result = make()
    assert (result.tolist(), name(result.dtype)) == (value, dtype)


ERRORS = [
    (lambda: U8 + 300, ValueError, "300 to uint8 would result in overflow"),
    (lambda: U8 + (-1), ValueError, "overflow"),
    (lambda: -B, ValueError, "negative"),
    (lambda: F32 + "a", ValueError, "addition"),
    (lambda: F32 + [1, 2, 3], ValueError, "addition"),
    (lambda: F32 + None, TypeError, "unsupported operand"),
    (lambda: F32 == None, TypeError, "None"),  # noqa: E711
    (lambda: F32 < None, TypeError, "not supported"),
    (lambda: F32.item(), ValueError, "length-1"),
    (lambda: bool(F32), ValueError, "length-1"),
    (lambda: len(mx.array(1)), TypeError, "0-dimensional"),
    (lambda: iter(mx.array(1)), TypeError, "0-dimensional"),
    (lambda: F32[3], IndexError, "out of bounds"),
    (lambda: F32[-4], IndexError, "out of bounds"),
    (lambda: F32[mx.array([5])].tolist(), IndexError, "index"),
    (lambda: F32[1.0], ValueError, "Cannot index"),
    (lambda: F32["a"], ValueError, "Cannot index"),
    (lambda: F32[::0], ValueError, "zero"),
    (lambda: F32[0, 0], (IndexError, ValueError), "index"),
    (lambda: mx.array(1)[0], ValueError, "0-dimensional"),
    (lambda: mx.array("a"), ValueError, "Invalid type str"),
    (lambda: mx.array(None), TypeError, "None"),
    (lambda: mx.array([[1, 2], [3]]), ValueError, "non-uniform"),
    (lambda: mx.array([1, [2]]), ValueError, "non-uniform"),
    (lambda: mx.array(2**64), (ValueError, OverflowError), "64"),
    (lambda: mx.matmul(mx.ones((2, 3)), mx.ones((2, 3))), ValueError, "matmul"),
    (lambda: mx.ones((2, 3)) + mx.ones(2), ValueError, "broadcast"),
    (lambda: mx.max(mx.array([])), ValueError, "max"),
    (lambda: mx.sum(F32, axis=5), IndexError, "axis 5"),
    (lambda: mx.expand_dims(F32, 5), ValueError, "axis"),
    (lambda: mx.zeros(-1), ValueError, "negative"),
    (lambda: mx.zeros(2, dtype=3), TypeError, "Dtype"),
    (lambda: mx.ones(2, stream=mx.gpu) if not mx.is_available(mx.gpu) else 1 / 0, (ValueError, ZeroDivisionError), "."),
    (lambda: F32.at.add(1), ValueError, "indices"),
    (lambda: mx.array([1.5]).__index__(), TypeError, "index"),
    (lambda: F32.reshape(2), ValueError, "reshape"),
    (lambda: mx.split(F32, 2), ValueError, "split"),
    (lambda: mx.concatenate([]), ValueError, "concatenate"),
]


@pytest.mark.parametrize("case", ERRORS, ids=range(len(ERRORS)))
def test_errors(case):
    make, kind, text = case
    with pytest.raises(kind, match=text):
        make()


def test_in_place_changes_are_seen_by_whoever_has_the_handle():
    a = mx.array([1.0, 2.0])
    b, same = a, id(a)
    a += 1
    assert id(a) == same and b.tolist() == [2.0, 3.0]
    a[0] = 9
    assert b.tolist() == [9.0, 3.0]
    a *= mx.array([2, 2])
    a -= 1
    a /= 1
    a **= 1
    assert b.tolist() == [17.0, 5.0]
    c = mx.array([7], mx.uint8)
    c += 2.5
    assert c.dtype == mx.float32
    d = mx.array([6])
    d //= 4
    d <<= 3
    d |= 1
    d &= 9
    d ^= 3
    d >>= 1
    d %= 4
    assert d.tolist() == [1]
    e = mx.eye(2)
    e @= mx.ones((2, 2))
    assert e.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_slices_are_copies():
    x = mx.arange(4)
    v, w = x[:], x[1:3]
    v[0] = 9
    w += 100
    assert x.tolist() == [0, 1, 2, 3] and w.tolist() == [101, 102]


def test_assignment_in_all_forms():
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    rows, cols = np.array([0, 2]), np.array([1, 3])
    mask = rng.random(shape) > 0.5
    cases = [
        (1, 7), (-1, np.arange(5)), (slice(None, None, -2), 1.5), ((0, 1, 2), 3), ((slice(None), 2), np.arange(5)),
        ((Ellipsis, 0), np.arange(4)), ((None, 0), 2), ((rows,), 4), ((rows, cols), np.arange(10).reshape(2, 5)),
        ((rows[:, None], cols), 5), ((slice(None), rows, cols % 5), 6), ((rows, slice(None), cols), np.arange(4)),
        (mask, 8), (mask[:, 0, 0], np.arange(5)), ((slice(1), Ellipsis, slice(0, 3)), np.ones((1, 4, 3))),
        (slice(0, 0), 1), (Ellipsis, np.ones((1, 3, 4, 5))[0]),
    ]
    for index, value in cases:
        a = rng.standard_normal(shape).astype(np.float32)
        b = mx.array(a)
        c = mx.array(a)
        with np.errstate(all="ignore"):
            a[index] = value
        def ours(i):
            return mx.array(i) if isinstance(i, np.ndarray) else i
        words = tuple(map(ours, index)) if isinstance(index, tuple) else ours(index)
        b[words] = mx.array(value) if isinstance(value, np.ndarray) else value
        np.testing.assert_array_equal(np.array(b), a, err_msg=str(index))
        c[index] = value
        np.testing.assert_array_equal(np.array(c), a, err_msg=str(index))


def test_reading_in_all_forms():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((3, 4, 5)).astype(np.float32)
    b = mx.array(a)
    i, j = np.array([0, 2]), np.array([1, 3])
    for index in [
        0, -1, slice(1, None), slice(None, None, -1), slice(-2, 0, -1), Ellipsis, None, (0, 1), (0, slice(1, 3)),
        (slice(None), 1, slice(None, None, 2)), (Ellipsis, 1), (None, Ellipsis, None), (i,), (i, j), (i[:, None], j),
        (slice(None), i, j), (i, slice(None), j), (i, 0), (0, slice(None), j), a > 0, a[:, 0, 0] > 0, (slice(None), a[0, :, 0] > 0),
        (), (i.astype(np.int32)[None], 0, j),
    ]:
        np.testing.assert_array_equal(np.array(b[index]), a[index], err_msg=str(index))


def test_updates_count_every_index():
    x = mx.zeros(3)
    at = mx.array([0, 0, 2])
    assert x.at[at].add(1).tolist() == [2.0, 0.0, 1.0]
    assert x.at[at].subtract(mx.array([1.0, 2.0, 3.0])).tolist() == [-3.0, 0.0, -3.0]
    assert (x + 3).at[at].multiply(2).tolist() == [12.0, 3.0, 6.0]
    assert (x + 8).at[at].divide(2).tolist() == [2.0, 8.0, 4.0]
    assert x.at[1:].maximum(5).tolist() == [0.0, 5.0, 5.0]
    assert x.at[...].minimum(-1).tolist() == [-1.0] * 3
    assert x.at[1].set(4).tolist() == [0.0, 4.0, 0.0]
    assert x.tolist() == [0.0] * 3
    y = mx.zeros(3)
    y[at] += 1
    assert y.tolist() == [1.0, 0.0, 1.0]


def test_properties_and_conversions():
    x = mx.zeros((2, 3), mx.float16)
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes) == ((2, 3), 2, 6, 2, 12)
    assert x.T.shape == x.mT.shape == (3, 2)
    z = mx.array([1 + 2j])
    assert (z.real.tolist(), z.imag.tolist()) == ([1.0], [2.0])
    assert (int(mx.array(1.7)), float(mx.array([2])), complex(mx.array(3))) == (1, 2.0, 3 + 0j)
    assert [0, 1, 2][mx.array(1)] == 1 and len(F32) == 3 and 2 in F32 and 9 not in F32
    assert bytes(mx.array([1, 2])) == b"\x01\0\0\0\x02\0\0\0"
    assert [x.item() for x in F32] == [1.0, 2.0, 3.0]
    assert hash(F32) == hash(F32) and {F32: 1}[F32] == 1
    assert (F32 == "a") is False and (F32 != "a") is True


def test_printing():
    assert repr(F32) == str(F32) == "array([1, 2, 3], dtype=float32)"
    assert f"{mx.array(1.5):.2f}" == "1.50" and f"{F32}" == repr(F32)
    with pytest.raises(TypeError):
        format(F32, ".2f")
    assert repr(mx.arange(2000)) == "array([0, 1, 2, ..., 1997, 1998, 1999], dtype=int32)"
    with mx.printoptions(precision=2):
        assert repr(mx.array(1 / 3)) == "array(0.33, dtype=float32)"
    assert repr(mx.array(1 / 3)) == "array(0.333333, dtype=float32)"


def test_pickles_and_copies():
    for dtype in (mx.bool_, mx.uint8, mx.int64, mx.float16, mx.bfloat16, mx.float64, mx.complex64):
        x = mx.array([[1, 0], [3, 4]]).astype(dtype)
        for y in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x)):
            assert y is not x and y.dtype == dtype and mx.array_equal(x, y).item()
            y += y
            assert not mx.array_equal(x, y).item() or dtype == mx.bool_
        assert pickle.loads(pickle.dumps(dtype)) is dtype
    z = mx.zeros(2)
    z.__setstate__(mx.ones(3).__getstate__())
    assert z.tolist() == [1.0] * 3


def test_dtypes():
    assert mx.float32 == mx.float32 != mx.float16 and mx.zeros(1).dtype is mx.float32
    assert mx.float32.size == 4 and repr(mx.bool_) == "lazul.core.bool"
    assert mx.issubdtype(mx.int8, mx.integer) and not mx.issubdtype(mx.float16, mx.integer)
    assert mx.issubdtype(mx.floating, mx.inexact)
    assert mx.result_type(mx.uint64, mx.int64) == mx.float32
    assert repr(mx.finfo(mx.bfloat16)) == "finfo(min=-3.38953e+38, max=3.38953e+38, dtype=bfloat16)"
    assert repr(mx.iinfo(mx.int8)) == "iinfo(min=-128, max=127, dtype=int8)"


def test_devices_and_streams():
    assert repr(mx.cpu) == "DeviceType.cpu" and mx.default_device() == mx.cpu == mx.Device(mx.cpu)
    assert repr(mx.default_stream(mx.cpu)) == "Stream(Device(cpu, 0), 0)"
    s = mx.new_stream(mx.cpu)
    assert s.device == mx.cpu and s != mx.default_stream(mx.cpu)
    with mx.stream(s):
        x = mx.add(F32, 1, stream=mx.cpu)
    assert mx.exp(x, stream=s).shape == (3,)
    mx.synchronize()
    mx.synchronize(s)
    assert mx.device_count(mx.cpu) == 1 and "device_name" in mx.device_info()


def test_memory_comes_back():
    mx.clear_cache()
    before = mx.get_active_memory()
    for _ in range(3):
        x = mx.ones((512, 512)) + 1
        mx.eval(x)
        assert mx.get_active_memory() >= before + (1 << 20)
        view = memoryview(x)
        f = mx.compile(lambda y: y * 2)
        mx.eval(f(x), mx.grad(lambda y: (y * y).sum())(x))
        del x, view, f
        gc.collect()
    mx.clear_cache()
    assert mx.get_active_memory() < before + (1 << 20)
    limit = mx.set_memory_limit(1 << 20)
    with pytest.raises(MemoryError):
        mx.eval(mx.ones((1024, 1024)) + mx.arange(1024.0))
    mx.set_memory_limit(limit)


def test_no_new_axes_change_nothing():
    x = mx.zeros((2, 3))
    assert mx.expand_dims(x, ()).shape == (2, 3)
    assert mx.expand_dims(x).shape == (1, 2, 3)
    assert mx.expand_dims(x, (0, 2)).shape == (1, 2, 1, 3)


def test_nearest_elements():
    """As MLX: the element whose middle is nearest, and the first ones of fewer."""
    x = mx.arange(3.0).reshape(1, 3, 1)
    assert nn.Upsample(1.7)(x).flatten().tolist() == [0, 0, 1, 2, 2]
    assert nn.Upsample(2.0)(x).flatten().tolist() == [0, 0, 1, 1, 2, 2]
    assert nn.Upsample(0.7)(x).flatten().tolist() == [0, 1]
