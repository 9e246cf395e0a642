"""Memory shared with numpy and others, by address; both forms of DLPack; the array API's namespace."""

import array as arrays
import copy
import ctypes
import gc
import pickle
import weakref

import numpy as np
import pytest

import lazul.core as mx

DTYPES = "bool_ uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 complex64".split()


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_sees_the_memory(name):
    x = mx.array([[1, 0], [3, 4]]).astype(getattr(mx, name))
    views = [np.asarray(x), np.asarray(memoryview(x)), np.from_dlpack(x), np.array(x, copy=False)]
    assert len({address(v) for v in views}) == 1
    assert all(v.tolist() == x.tolist() and v.dtype == np.dtype(name.rstrip("_")) for v in views)
    back = mx.from_dlpack(views[2])
    assert address(np.asarray(back)) == address(views[0]) and back.dtype == x.dtype
    assert address(np.asarray(x.T)) == address(views[0]) and np.asarray(x.T).strides == views[0].strides[::-1]
    assert address(np.array(x)) != address(views[0])


@pytest.mark.parametrize("name", DTYPES)
def test_arrays_over_numpy_memory(name):
    a = np.arange(12).astype(name.rstrip("_")).reshape(3, 4)
    for view in (a, a.T, a[:, ::2], a[1:], a[::-1]):
        x = mx.asarray(view)
        assert address(np.asarray(x)) == address(view)
        assert x.tolist() == view.tolist()
    x = mx.asarray(a)
    y = x + x
    mx.eval(y)
    x += 1
    mx.eval(x)
    assert a.tolist() == np.arange(12).astype(a.dtype).reshape(3, 4).tolist()
    assert address(np.asarray(mx.array(a))) != address(a)
    assert address(np.asarray(mx.asarray(a, copy=True))) != address(a)


def test_lent_memory_lives_as_long_as_its_arrays():
    a = np.arange(1000.0, dtype=np.float32)
    gone = weakref.ref(a)
    x = mx.asarray(a)
    y = x[10:20] * 2
    del a
    gc.collect()
    assert gone() is not None
    assert y.tolist() == [2.0 * i for i in range(10, 20)]
    del x, y
    gc.collect()
    # Dropped on a thread without the interpreter's lock, an owner goes when it is next held.
    mx.array(1).item()
    gc.collect()
    assert gone() is None


def test_views_keep_an_array_as_it_was():
    x = mx.arange(4.0)
    view = np.asarray(x)
    x += 100
    mx.eval(x)
    assert view.tolist() == [0.0, 1.0, 2.0, 3.0]
    del x
    gc.collect()
    assert view.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_both_forms_of_dlpack():
    x = mx.arange(3)
    assert x.__dlpack_device__() == (1, 0)
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(x.__dlpack__())
    for capsule in (x.__dlpack__(), x.__dlpack__(max_version=(2, 0)), x.__dlpack__(copy=True)):
        del capsule

    class Old:
        def __dlpack__(self, stream=None):
            return x.__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    assert address(np.asarray(mx.from_dlpack(Old()))) == address(np.asarray(x))

    class Used(Old):
        capsule = x.__dlpack__()

        def __dlpack__(self, stream=None):
            return self.capsule

    used = Used()
    assert mx.from_dlpack(used).tolist() == [0, 1, 2]
    with pytest.raises(TypeError):
        mx.from_dlpack(used)
    with pytest.raises(TypeError):
        mx.from_dlpack(3)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(2, 0))
    read_only = np.arange(3)
    read_only.flags.writeable = False
    assert mx.from_dlpack(read_only).tolist() == [0, 1, 2]


def test_copies_that_are_refused():
    with pytest.raises(ValueError):
        mx.asarray([1, 2], copy=False)
    with pytest.raises(ValueError):
        mx.asarray(np.arange(2), mx.float32, copy=False)
    with pytest.raises(ValueError):
        np.array(mx.arange(2), dtype=np.float32, copy=False)
    assert mx.asarray(np.arange(2), mx.float32).tolist() == [0.0, 1.0]


def test_other_buffers():
    assert mx.array(arrays.array("d", [1.5, 2.5])).tolist() == [1.5, 2.5]
    assert mx.array(b"ab").tolist() == [97, 98]
    assert mx.array(memoryview(b"abcd")[::2]).tolist() == [97, 99]
    assert memoryview(mx.ones((2, 3))).shape == (2, 3)
    with pytest.raises(ValueError):
        mx.array(np.array([1, 2], ">i4"))
    with pytest.raises(ValueError):
        mx.array(np.array(["a"]))


def test_bfloat16():
    x = mx.array([1.5, -2.0], mx.bfloat16)
    with pytest.raises((BufferError, TypeError)):
        memoryview(x)
    types = pytest.importorskip("ml_dtypes")
    a = np.asarray(x)
    assert a.dtype == types.bfloat16 and a.tolist() == [1.5, -2.0]
    back = mx.array(a)
    assert back.dtype == mx.bfloat16 and back.tolist() == [1.5, -2.0]


def test_objects_that_stand_for_arrays():
    class Mine:
        def __mlx_array__(self):
            return mx.array([1, 2])

    assert (mx.array([10, 20]) + Mine()).tolist() == [11, 22]
    assert mx.exp(mx.ArrayLike([0.0])).tolist() == [1.0]


def test_the_namespace_of_the_array_api():
    assert mx.array(1).__array_namespace__() is mx
    assert mx.array(1).__array_namespace__(api_version="2024.12") is mx
    with pytest.raises(ValueError):
        mx.array(1).__array_namespace__(api_version="1900.01")
    info = mx.__array_namespace_info__()
    assert info.capabilities()["data-dependent shapes"] and info.default_dtypes()["integral"] == mx.int32
    assert info.dtypes(kind="bool") == {"bool": mx.bool_} and info.devices()[0] == mx.cpu


def test_memory_that_may_only_be_read_is_copied(tmp_path):
    """Views of arrays may be written to: over a map of a file that was a crash, over bytes a change of them."""
    np.arange(8, dtype=np.float32).tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", np.float32, "r")
    text = b"abcd"
    for source in (mapped, np.frombuffer(text, np.uint8)):
        before = source.tolist()
        for x in (mx.asarray(source), mx.from_dlpack(source)):
            np.asarray(x)[0] = 7
            np.from_dlpack(x)[1] = 7
            assert x.tolist()[:2] == [7, 7] and source.tolist() == before
        for f in (mx.asarray, mx.from_dlpack):
            with pytest.raises(ValueError, match="only be read"):
                f(source, copy=False)
    assert text == b"abcd"


def test_bools_are_zero_or_one():
    """Other bytes in lent memory were taken for bools, which made reading them a panic."""
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    for x in (mx.asarray(odd), mx.from_dlpack(odd), mx.from_dlpack(odd, copy=True)):
        assert x.tolist() == [False, True, True, True]
        assert np.asarray(x).view(np.uint8).tolist() == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="bools"):
        mx.from_dlpack(odd, copy=False)
    fine = np.array([True, False])
    assert address(np.asarray(mx.from_dlpack(fine, copy=False))) == address(fine)


class Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


def strides(x, flags):
    """The strides of the buffer that an array gives for these flags."""
    view = Buffer()
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int]
    get(x, ctypes.byref(view), flags)
    found = view.strides[: view.ndim]
    release = ctypes.pythonapi.PyBuffer_Release
    release.argtypes, release.restype = [ctypes.POINTER(Buffer)], None
    release(ctypes.byref(view))
    return found


def test_buffers_are_as_contiguous_as_asked_for():
    rows, columns, any_order = 0x20 | 0x18, 0x40 | 0x18, 0x80 | 0x18
    x = mx.array([[1, 2, 3], [4, 5, 6]])
    mx.eval(x)
    assert strides(x, rows) == strides(x, any_order) == [12, 4]
    assert strides(x.T, columns) == strides(x.T, any_order) == [4, 12]
    assert strides(x.T, rows) == [8, 4]
    spread = mx.broadcast_to(mx.array([1, 2, 3]), (2, 3))
    assert strides(spread, any_order) == [12, 4]
    for other in (x, spread):
        with pytest.raises(BufferError):
            strides(other, columns)


def test_devices_are_copied_and_pickled():
    for device in (mx.cpu, mx.gpu, mx.Device(mx.gpu, 1)):
        for again in (pickle.loads(pickle.dumps(device)), copy.deepcopy(device), copy.copy(device)):
            assert again == device and type(again) is type(device)
