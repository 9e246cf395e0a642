"""What the tests share."""

import numpy as np
import pytest

import lazul.core as mx


@pytest.fixture(autouse=True)
def seeded():
    """Random numbers are the same whichever tests run."""
    mx.random.seed(1)
    np.random.seed(1)


@pytest.fixture
def rng():
    return np.random.default_rng(7)
