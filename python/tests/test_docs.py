"""Every public name has a docstring, every function an example, and the examples give what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import lazul
import lazul.core as mx
import lazul.nn
import lazul.optimizers
import lazul.utils

SPACES = ["random", "linalg", "fft", "fast", "distributed", "metal", "cuda"]

# No example shows them: they need a device, a second process or a file of their own, or only raise.
WITHOUT_EXAMPLE = {
    "cuda.is_available",
    "distributed.recv",
    "distributed.recv_like",
    "distributed.send",
    "fast.cuda_kernel",
    "fast.metal_kernel",
    "fast.precompiled_cuda_kernel",
    "import_function",
    "metal.start_capture",
    "metal.stop_capture",
}


def functions():
    for name in dir(mx):
        if not name.startswith("_") and inspect.isbuiltin(getattr(mx, name)):
            yield name, getattr(mx, name)
    for space in SPACES:
        module = getattr(mx, space)
        for name in dir(module):
            if not name.startswith("_") and inspect.isbuiltin(getattr(module, name)):
                yield f"{space}.{name}", getattr(module, name)


ALL = dict(functions())


def check(text, name, **names):
    """Runs the examples of a text."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    test = parser.get_doctest(text, {"mx": mx, **names}, name, None, 0)
    report = []
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    return len(test.examples)


@pytest.mark.parametrize("name", ALL)
def test_examples_of_functions(name):
    doc = ALL[name].__doc__
    assert doc and doc.strip(), f"{name} has no docstring"
    count = check(doc, name)
    assert count > 0 or name in WITHOUT_EXAMPLE, f"{name} has no example"


def test_methods_have_docstrings():
    for name in dir(mx.array):
        if not name.startswith("_"):
            doc = getattr(mx.array, name).__doc__
            assert doc and doc.strip(), name
    check(mx.array.__doc__, "array")
    for name in ("item", "tolist", "astype"):
        check(getattr(mx.array, name).__doc__, name)
    check(mx.custom_function.__doc__, "custom_function")
    check(mx.finfo.__doc__, "finfo")
    check(mx.iinfo.__doc__, "iinfo")


def modules():
    yield "lazul"
    for info in pkgutil.walk_packages(lazul.__path__, "lazul."):
        if info.name.rpartition(".")[2] not in ("__main__", "_core", "mlx_compat"):
            yield info.name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_modules(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for item in vars(module).values():
        if getattr(item, "__module__", None) != name or not inspect.isclass(item) and not inspect.isfunction(item):
            continue
        if not item.__name__.startswith("_"):
            assert item.__doc__, f"{name}.{item.__name__}"
    result = doctest.testmod(module, extraglobs={"mx": mx, "lazul": lazul})
    assert result.failed == 0
