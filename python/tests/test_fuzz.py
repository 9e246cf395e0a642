"""No call ends the interpreter. ``LAZUL_FUZZ_CALLS`` says how many are made; 100000 take minutes."""

import os
import pathlib
import subprocess
import sys

CHILD = pathlib.Path(__file__).with_name("fuzz_child.py")
CALLS = os.environ.get("LAZUL_FUZZ_CALLS", "2000")


def test_random_calls_never_end_the_process():
    run = [sys.executable, str(CHILD), CALLS, os.environ.get("LAZUL_FUZZ_SEED", "1")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert f"{CALLS} calls" in done.stdout
