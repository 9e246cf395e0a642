"""Schedules: functions of the number of steps so far, which optimizers take for a learning rate."""

from __future__ import annotations

import math
from typing import Callable, List

import lazul.core as mx

Schedule = Callable[[mx.array], mx.array]


def exponential_decay(init: float, decay_rate: float) -> Schedule:
    """``init * decay_rate ** step``.

    >>> exponential_decay(1e-1, 0.9)(mx.array(0)).item() == mx.array(1e-1).item()
    True
    """
    return lambda step: init * decay_rate**step


def step_decay(init: float, decay_rate: float, step_size: int) -> Schedule:
    """``init``, times ``decay_rate`` every ``step_size`` steps."""
    return lambda step: init * decay_rate ** (step // step_size)


def cosine_decay(init: float, decay_steps: int, end: float = 0.0) -> Schedule:
    """Half a cosine from ``init`` to ``end`` in ``decay_steps`` steps, and ``end`` from then on."""

    def schedule(step):
        done = mx.minimum(step, decay_steps)
        return end + 0.5 * (1.0 + mx.cos((math.pi / decay_steps) * done)) * (init - end)

    return schedule


def join_schedules(schedules: List[Callable], boundaries: List[int]) -> Schedule:
    """One schedule after the other, each of which counts from the boundary that it begins at."""
    if len(schedules) == 0:
        raise ValueError("Must provide at least 1 schedule to join.")
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"Received {len(boundaries)} boundaries but expected {len(schedules) - 1}."
        )

    def schedule(step):
        rate = schedules[0](step)
        for boundary, later in zip(boundaries, schedules[1:]):
            rate = mx.where(step < boundary, rate, later(step - boundary))
        return rate

    return schedule


def linear_schedule(init: float, end: float, steps: int) -> Schedule:
    """From ``init`` to ``end`` in ``steps`` steps, and ``end`` from then on."""
    if steps < 1:
        raise ValueError(f"steps must be greater than 0, but got {steps}.")
    return lambda step: mx.minimum(step, steps) * ((end - init) / steps) + init
