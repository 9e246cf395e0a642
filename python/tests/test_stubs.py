"""The stubs are what scripts/python-stubs.py writes for the module as it is."""

import importlib.util
import pathlib

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "python-stubs.py"


def test_stubs_are_those_of_the_module():
    spec = importlib.util.spec_from_file_location("python_stubs", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text() == script.stubs(), "run scripts/python-stubs.py"
