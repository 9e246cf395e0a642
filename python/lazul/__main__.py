"""``python -m lazul …`` is the ``lazul`` program."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig


def program() -> str | None:
    """Where the program is: named by LAZUL_PROGRAM, beside this package, among the interpreter's scripts, or on the path."""
    here = os.path.dirname(os.path.abspath(__file__))
    places = [
        os.environ.get("LAZUL_PROGRAM", ""),
        os.path.join(here, "bin", "lazul"),
        os.path.join(sysconfig.get_path("scripts"), "lazul"),
        shutil.which("lazul") or "",
    ]
    return next((p for p in places if p and os.access(p, os.X_OK) and os.path.isfile(p)), None)


def main() -> None:
    """Becomes the program."""
    found = program()
    if found is None:
        print(
            "error: the program `lazul` is not installed; build it with "
            "`cargo install --path crates/cli`, or name it with LAZUL_PROGRAM",
            file=sys.stderr,
        )
        sys.exit(1)
    os.execv(found, ["lazul", *sys.argv[1:]])


if __name__ == "__main__":
    main()
