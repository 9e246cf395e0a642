"""print.json: the text that MLX prints for many small arrays. print.safetensors: those arrays.

    pip install "mlx[cpu]" numpy ml_dtypes safetensors
    python print.py

Numbers look as C++ streams write them (like %g with six significant digits); an axis longer than six
shows its first and last three. NaNs in the file have a positive sign, as MLX on Linux prints the
sign of a NaN.
"""

from importlib.metadata import version

import mlx.core as mx
import numpy as np

from golden import DTYPES, np_dtype, write_json, write_safetensors
from ops import to_mlx

TENSORS, CASES = {}, []
f32 = np.float32


def show(tag, a, precision=None):
    a = np.asarray(a)
    if tag not in TENSORS:
        TENSORS[tag] = a
    assert TENSORS[tag].tobytes() == a.tobytes()
    c = {"id": tag if precision is None else f"{tag}.precision{precision}", "tensor": tag}
    if precision is None:
        c["text"] = repr(to_mlx(a))
        assert str(to_mlx(a)) == c["text"]
    else:
        with mx.printoptions(precision=precision):
            c |= {"precision": precision, "text": repr(to_mlx(a))}
    CASES.append(c)


def main():
    for d in DTYPES:
        t = np_dtype(d)
        show(f"{d}.vector", np.array([0, 1, 2], t))
        show(f"{d}.scalar", np.array(1, t))
        show(f"{d}.matrix", np.array([[1, 0], [0, 1]], t))
        show(f"{d}.empty", np.zeros((0,), t))
        show(f"{d}.long", (np.arange(20) % 2).astype(t))
        if t.kind in "iu":
            i = np.iinfo(t)
            show(f"{d}.limits", np.array([i.min, i.max], t))
        elif d not in ("bool",):
            show(f"{d}.fractions", np.array([0.1, -0.25, 1 / 3, 2.5, 1e-3, 123.456], t))
            show(f"{d}.special", np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], t))
    magnitudes = [1e5, 123456, 1234567, 999999.5, 1e6, 1e10]
    for n, v in enumerate(
        (magnitudes, [1e-4, 1.5e-4, 1e-5, 1.234567e-5, 1e-10, 0.00012345678], [3.4028235e38, 1.17549435e-38, 1e-45, -3.4028235e38])
    ):
        show(f"float32.magnitudes{n}", f32(v))
        show(f"float64.magnitudes{n}", np.float64(v))
    show("float64.magnitudes3", np.float64([1e300, 1e-300, 5e-324, 1.7976931348623157e308]))
    show("float16.magnitudes", np.float16([65504, 6.1e-5, 6e-8, 1000.5, 2049, 0.1]))
    show("bfloat16.magnitudes", np.array([3.38e38, 1e-38, 9.2e-41, 1000.5, 257, 0.1], np_dtype("bfloat16")))
    show("float32.digits", f32([1.0, 10.0, 0.123456789, 12.3456789, 1234.56789, 99999.95]))
    show("float32.digits2", f32([999999.4, 9999995, 0.99999994, 1.0000001, 0.00099999997, 100000.5]))
    show("float32.negative", f32([-1.0, -0.5, -1e-7, -1e7]))
    show("complex64.signs", np.complex64([1 + 2j, 1 - 2j, -1 - 0.5j, complex(0, -0.0), complex(-0.0, 0.0)]))
    show("complex64.parts", np.array([complex(np.nan, 1), complex(np.inf, -np.inf), complex(1e10, 1e-10)], np.complex64))
    for shape in (
        (1,),
        (6,),
        (7,),
        (1001,),
        (1, 1),
        (2, 6),
        (2, 7),
        (6, 2),
        (7, 2),
        (7, 7),
        (40, 40),
        (1, 3, 1),
        (3, 1, 2),
        (2, 2, 2),
        (2, 3, 4),
        (1, 1, 1, 1),
        (2, 1, 2, 3),
        (7, 1, 7),
        (2, 8, 2),
    ):
        n = int(np.prod(shape))
        name = "x".join(map(str, shape))
        show(f"int32.{name}", np.arange(n, dtype=np.int32).reshape(shape))
        if n <= 24:
            show(f"float32.{name}", (np.arange(n, dtype=f32) * f32(0.5) - 1).reshape(shape))
    for shape in ((0, 3), (2, 0), (2, 0, 3), (0, 0), (2, 3, 0), (7, 0)):
        show(f"float32.empty.{'x'.join(map(str, shape))}", np.zeros(shape, f32))
    for p in (0, 1, 3, 8, 12):
        show("float32.digits", TENSORS["float32.digits"], p)
        show("float64.fractions", TENSORS["float64.fractions"], p)
        show("complex64.signs", TENSORS["complex64.signs"], p)
        show("int32.7", TENSORS["int32.7"], p)
    show("float16.fractions", TENSORS["float16.fractions"], 4)
    show("bfloat16.fractions", TENSORS["bfloat16.fractions"], 4)
    write_safetensors("print.safetensors", TENSORS)
    write_json("print.json", {"source": "mlx " + version("mlx"), "tensors": "print.safetensors"}, CASES)


if __name__ == "__main__":
    main()
