"""Every name of MLX's that docs/src/parity.md lists is here: names that are missing are in the page or in a failed test."""

import pathlib
import re

import pytest

import lazul.core as mx

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "src" / "parity.md"

#: Names that are here and raise NotImplementedError, with the reason that they give.
NOT_OFFERED = {
    "fast.metal_kernel": "there are no kernels of Metal here.",
    "fast.cuda_kernel": "Rust has it (fast::cuda_kernel); this package does not offer it yet.",
    "fast.precompiled_cuda_kernel": "Rust has it (fast::precompiled_cuda_kernel); this package does not offer it yet.",
}


def names():
    found = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("## Beyond"):
            break
        row = re.match(r"\| `([A-Za-z_.0-9]+)` \|", line)
        if row:
            found.append(row.group(1))
    return found


@pytest.mark.skipif(not PAGE.exists(), reason="the page is part of the repository, not of the wheel")
def test_every_name_is_here():
    listed = names()
    assert len(listed) > 500
    missing = []
    for name in listed:
        part = mx
        for word in name.split("."):
            part = type(mx.array(0).at) if word == "at" and part is mx.array else getattr(part, word, None)
        if part is None and name != "newaxis":
            missing.append(name)
    assert missing == []


def test_what_is_not_offered_says_so():
    for name, why in NOT_OFFERED.items():
        space, _, function = name.partition(".")
        with pytest.raises(NotImplementedError) as raised:
            getattr(getattr(mx, space), function)("name", [], [], "source")
        assert str(raised.value) == f"{function}: {why}"
