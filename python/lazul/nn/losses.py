"""Losses. Each has a ``reduction``: ``"none"``, ``"mean"`` or ``"sum"``."""

from __future__ import annotations

import math
from typing import Literal, Optional

import lazul.core as mx

Reduction = Literal["none", "mean", "sum"]


def _reduce(loss: mx.array, reduction: str = "none") -> mx.array:
    if reduction == "mean":
        return mx.mean(loss)
    if reduction == "sum":
        return mx.sum(loss)
    if reduction == "none":
        return loss
    raise ValueError("Invalid reduction. Must be 'none', 'mean', or 'sum'.")


def _same(a: mx.array, b: mx.array, first: str, second: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{first} shape {a.shape} does not match {second} shape {b.shape}.")


def cross_entropy(
    logits: mx.array,
    targets: mx.array,
    weights: Optional[mx.array] = None,
    axis: int = -1,
    label_smoothing: float = 0.0,
    reduction: Reduction = "none",
) -> mx.array:
    """The negative log probability of targets.

    Args:
        logits: unnormalised log probabilities of the classes along ``axis``.
        targets: numbers of classes, or probabilities of all classes.
        weights: weights of the losses.
        axis: the axis of classes.
        label_smoothing: the part of the target that is spread over all classes.
        reduction: see the module.

    >>> cross_entropy(mx.array([[2.0, -1.0]]), mx.array([0]))
    array([0.0485873], dtype=float32)
    """
    if label_smoothing < 0 or label_smoothing >= 1:
        raise ValueError(f"Label smoothing must be in [0, 1), got {label_smoothing}.")
    probabilities = targets.ndim == logits.ndim
    dropped = list(logits.shape)
    del dropped[axis]
    if not probabilities and tuple(dropped) != targets.shape:
        raise ValueError(f"Targets shape {targets.shape} does not match logits shape {logits.shape}.")
    if probabilities and targets.shape != logits.shape:
        raise ValueError(f"Targets shape {targets.shape} does not match logits shape {logits.shape}.")
    whole = mx.logsumexp(logits, axis=axis)
    if probabilities:
        # Targets need not sum to one.
        score = mx.sum(logits * targets, axis=axis) - whole * mx.sum(targets, axis=axis)
    else:
        at = mx.expand_dims(targets, axis)
        score = mx.take_along_axis(logits, at, axis).squeeze(axis) - whole
    if label_smoothing > 0:
        spread = mx.mean(logits, axis=axis) - whole
        score = (1 - label_smoothing) * score + label_smoothing * spread
    loss = -score
    if weights is not None:
        if weights.shape != loss.shape:
            raise ValueError(f"Weights with shape {weights.shape} is not the same as output loss with shape {loss.shape}.")
        loss = loss * weights
    return _reduce(loss, reduction)


def binary_cross_entropy(
    inputs: mx.array,
    targets: mx.array,
    weights: Optional[mx.array] = None,
    with_logits: bool = True,
    reduction: Reduction = "mean",
) -> mx.array:
    """The negative log probability of targets that are 0 or 1; inputs are logits, or else probabilities.

    >>> binary_cross_entropy(mx.array([0.0]), mx.array([1.0]), reduction="none")
    array([0.693147], dtype=float32)
    """
    _same(inputs, targets, "Inputs", "targets")
    if with_logits:
        loss = mx.logaddexp(0.0, inputs) - inputs * targets
    else:
        # Logarithms of probabilities of 0 are limited, as elsewhere.
        log_p = mx.clip(mx.log(inputs), a_min=-100, a_max=None)
        log_q = mx.clip(mx.log(1 - inputs), a_min=-100, a_max=None)
        loss = -(targets * log_p + (1 - targets) * log_q)
    if weights is not None:
        if weights.shape != loss.shape:
            raise ValueError(f"Weights with shape {weights.shape} is not the same as output loss with shape {loss.shape}.")
        loss = loss * weights
    return _reduce(loss, reduction)


def l1_loss(predictions: mx.array, targets: mx.array, reduction: Reduction = "mean") -> mx.array:
    """``abs(predictions - targets)``."""
    _same(predictions, targets, "Predictions", "targets")
    return _reduce(mx.abs(predictions - targets), reduction)


def mse_loss(predictions: mx.array, targets: mx.array, reduction: Reduction = "mean") -> mx.array:
    """``(predictions - targets) ** 2``."""
    _same(predictions, targets, "Predictions", "targets")
    return _reduce(mx.square(predictions - targets), reduction)


def nll_loss(
    inputs: mx.array, targets: mx.array, axis: int = -1, reduction: Reduction = "none"
) -> mx.array:
    """The negative of the inputs, which are log probabilities, at the targets."""
    at = mx.expand_dims(targets, axis)
    return _reduce(-mx.take_along_axis(inputs, at, axis).squeeze(axis), reduction)


def gaussian_nll_loss(
    inputs: mx.array,
    targets: mx.array,
    vars: mx.array,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> mx.array:
    """The negative log density of targets under normal distributions of means ``inputs`` and variances ``vars``.

    Args:
        inputs, targets, vars: of one shape.
        full: whether the constant belongs to it.
        eps: the least variance.
        reduction: see the module.
    """
    _same(inputs, targets, "Inputs", "targets")
    _same(inputs, vars, "Inputs", "vars")
    vars = mx.maximum(vars, eps)
    loss = 0.5 * (mx.log(vars) + mx.square(targets - inputs) / vars)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _reduce(loss, reduction)


def kl_div_loss(
    inputs: mx.array, targets: mx.array, axis: int = -1, reduction: Reduction = "none"
) -> mx.array:
    """The divergence of ``inputs`` from ``targets``, both log probabilities, summed over an axis."""
    return _reduce(mx.sum(mx.exp(targets) * (targets - inputs), axis), reduction)


def smooth_l1_loss(
    predictions: mx.array, targets: mx.array, beta: float = 1.0, reduction: Reduction = "mean"
) -> mx.array:
    """Squared below a difference of ``beta``, absolute above."""
    _same(predictions, targets, "Predictions", "targets")
    diff = mx.abs(predictions - targets)
    loss = mx.where(diff < beta, 0.5 * mx.square(diff) / beta, diff - 0.5 * beta)
    return _reduce(loss, reduction)


def triplet_loss(
    anchors: mx.array,
    positives: mx.array,
    negatives: mx.array,
    axis: int = -1,
    p: int = 2,
    margin: float = 1.0,
    eps: float = 1e-6,
    reduction: Reduction = "none",
) -> mx.array:
    """How much further than ``margin`` anchors are from negatives than from positives, if they are not."""

    def distance(a: mx.array, b: mx.array) -> mx.array:
        return mx.sqrt(mx.power(a - b, p).sum(axis) + eps)

    loss = mx.maximum(distance(anchors, positives) - distance(anchors, negatives) + margin, 0)
    return _reduce(loss, reduction)


def hinge_loss(inputs: mx.array, targets: mx.array, reduction: Reduction = "none") -> mx.array:
    """``max(0, 1 - inputs * targets)`` with targets of -1 and 1."""
    return _reduce(mx.maximum(1 - inputs * targets, 0), reduction)


def huber_loss(
    inputs: mx.array, targets: mx.array, delta: float = 1.0, reduction: Reduction = "none"
) -> mx.array:
    """Squared up to a difference of ``delta``, absolute above."""
    diff = mx.abs(inputs - targets)
    loss = mx.where(diff <= delta, 0.5 * mx.square(diff), delta * (diff - 0.5 * delta))
    return _reduce(loss, reduction)


def log_cosh_loss(inputs: mx.array, targets: mx.array, reduction: Reduction = "none") -> mx.array:
    """``log(cosh(inputs - targets))``."""
    diff = inputs - targets
    return _reduce(mx.logaddexp(diff, -diff) - math.log(2), reduction)


def cosine_similarity_loss(
    x1: mx.array,
    x2: mx.array,
    axis: int = 1,
    eps: float = 1e-8,
    reduction: Reduction = "none",
) -> mx.array:
    """The cosine of the angle between vectors along an axis."""
    a, b = mx.linalg.norm(x1, axis=axis), mx.linalg.norm(x2, axis=axis)
    loss = mx.sum(x1 * x2, axis=axis) / mx.maximum(a * b, eps)
    return _reduce(loss, reduction)


def margin_ranking_loss(
    inputs1: mx.array,
    inputs2: mx.array,
    targets: mx.array,
    margin: float = 0.0,
    reduction: Reduction = "none",
) -> mx.array:
    """``max(0, margin - targets * (inputs1 - inputs2))`` with targets of -1 and 1."""
    if not inputs1.shape == inputs2.shape == targets.shape:
        raise ValueError(
            f"The shapes of the arguments do not match. The provided shapes are "
            f"inputs1.shape={inputs1.shape}, inputs2.shape={inputs2.shape}, and targets.shape={targets.shape}."
        )
    return _reduce(mx.maximum(0, -targets * (inputs1 - inputs2) + margin), reduction)
