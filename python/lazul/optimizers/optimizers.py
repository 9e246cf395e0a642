"""Optimizers: rules that make parameters of parameters, gradients and a state.

An optimizer's ``state`` is a tree of arrays with the step, the learning rate, and for each parameter what the rule
keeps. It can be saved, and captured by a compiled training step.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import lazul.core as mx

from ..nn.layers.base import Module
from ..utils import tree_flatten, tree_map, tree_merge, tree_reduce, tree_unflatten

Rate = Union[float, Callable[[mx.array], mx.array]]


class Optimizer:
    """What all optimizers have in common.

    A rule implements :meth:`init_single` and :meth:`apply_single`.
    """

    def __init__(self, schedulers: Optional[Dict[str, Callable]] = None):
        self._initialized = False
        self._state: Dict[str, Any] = {"step": mx.array(0, mx.uint64)}
        self._schedulers = dict(schedulers or {})

    def update(self, model: Module, gradients: dict) -> None:
        """Changes the parameters of a model by gradients, which may be for a part of them."""
        model.update(self.apply_gradients(gradients, model))

    def init(self, parameters: dict) -> None:
        """Makes the state of parameters; :meth:`update` does it by itself where it was not done.

        >>> import lazul.nn as nn
        >>> optimizer = Adam(1e-3)
        >>> optimizer.init(nn.Linear(2, 1).trainable_parameters())
        >>> sorted(optimizer.state["weight"])
        ['m', 'v']
        """

        def begin(parameter: mx.array, held: dict) -> None:
            if not held:
                self.init_single(parameter, held)

        # A place for every parameter, with what is there already.
        # The dict stays the one that a compiled function may have captured.
        _fill(self._state, tree_map(lambda _x: {}, parameters))
        tree_map(begin, parameters, self._state)
        self._initialized = True

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Puts what the rule keeps for one parameter into its state."""
        raise NotImplementedError()

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """The parameters after a step, for those that have a gradient."""
        # A compiled function that failed has put its state back to what it was before.
        if not self._initialized or any(name not in self.state for name in gradients):
            self.init(gradients)
        for name, schedule in self._schedulers.items():
            self.state[name] = schedule(self.step)
        self.state["step"] = self.step + 1
        return tree_map(self.apply_single, gradients, parameters, self.state)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """One parameter after a step; its state is changed."""
        raise NotImplementedError()

    @property
    def state(self) -> dict:
        """The state, a tree of arrays."""
        return self._state

    @state.setter
    def state(self, state: dict) -> None:
        self._initialized = False
        self._state = state

    @property
    def step(self) -> mx.array:
        """The number of steps so far."""
        return self.state["step"]

    @property
    def learning_rate(self) -> mx.array:
        """The learning rate of the last step."""
        return self.state["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, learning_rate: Union[float, mx.array]) -> None:
        self.state["learning_rate"] = mx.array(learning_rate)

    def _maybe_schedule(self, name: str, value: Any) -> None:
        """Puts a number, or the first one of a schedule, into the state."""
        if callable(value):
            self._schedulers[name] = value
            self.state[name] = value(self.step)
        else:
            self.state[name] = mx.array(value)

    def _rate(self, like: mx.array) -> mx.array:
        return self.learning_rate.astype(like.dtype)


def _fill(held: dict, blank: dict) -> None:
    """Gives a tree every place of ``blank`` that it lacks; what it has stays."""

    def merged(own: Any, part: Any) -> Any:
        if isinstance(part, dict):
            own = own if isinstance(own, dict) else {}
            _fill(own, part)
            return own
        if isinstance(part, (list, tuple)):
            items = own if isinstance(own, (list, tuple)) else []
            return [merged(items[i] if i < len(items) else None, p) for i, p in enumerate(part)]
        return own

    for key, part in blank.items():
        held[key] = merged(held.get(key), part)


class MultiOptimizer(Optimizer):
    """Several optimizers, each for a part of the parameters.

    Args:
        optimizers: the optimizers.
        filters: one less than there are optimizers: functions of path and gradient. A parameter goes to the first
            optimizer whose filter is true, or else to the last one.
    """

    def __init__(self, optimizers: List[Optimizer], filters: list = []):
        super().__init__({})
        self._state = {}
        if len(filters) != len(optimizers) - 1:
            raise ValueError(
                f"Given {len(filters)} filters but {len(optimizers) - 1} needed."
            )
        self.optimizers = optimizers
        self.filters = list(filters) + [lambda *_args, **_kwargs: True]

    def _split(self, gradients: dict) -> List[Any]:
        parts: List[List[Tuple[str, Any]]] = [[] for _ in self.optimizers]
        for path, gradient in tree_flatten(gradients):
            for part, chosen in zip(parts, self.filters):
                if chosen(path, gradient):
                    part.append((path, gradient))
                    break
        return [tree_unflatten(part) if part else {} for part in parts]

    def init(self, parameters: dict) -> None:
        for optimizer, part in zip(self.optimizers, self._split(parameters)):
            optimizer.init(part)

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        tree: Any = {}
        for optimizer, part in zip(self.optimizers, self._split(gradients)):
            tree = tree_merge(tree, optimizer.apply_gradients(part, parameters))
        return tree

    @property
    def state(self) -> dict:
        return {"states": [optimizer.state for optimizer in self.optimizers]}

    @state.setter
    def state(self, state: dict) -> None:
        if "states" not in state or len(state["states"]) != len(self.optimizers):
            raise ValueError("Invalid state provided")
        for optimizer, part in zip(self.optimizers, state["states"]):
            optimizer.state = part

    @property
    def learning_rate(self) -> mx.array:
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Union[float, mx.array]) -> None:
        for optimizer in self.optimizers:
            optimizer.learning_rate = learning_rate


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if that is above 0.

    Args:
        learning_rate: a number or a schedule.
        momentum: what is kept of the last direction.
        weight_decay: added to gradients, times the parameter.
        dampening: what a new gradient loses in the direction.
        nesterov: whether to look ahead.
    """

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening.")
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.dampening = dampening
        self.nesterov = nesterov

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        if self.weight_decay != 0:
            gradient = gradient + self.weight_decay * parameter
        if self.momentum <= 0:
            return parameter - self._rate(gradient) * gradient
        v = self.momentum * state["v"]
        v = v + ((1 - self.dampening) * gradient if self.dampening > 0 else gradient)
        state["v"] = v
        direction = gradient + self.momentum * v if self.nesterov else v
        return parameter - self._rate(gradient) * direction


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square of them (Tieleman and Hinton, 2012)."""

    def __init__(self, learning_rate: Rate, alpha: float = 0.99, eps: float = 1e-8):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.alpha = alpha
        self.eps = eps
        if alpha < 0.0:
            raise ValueError(f"RMSprop alpha should be >=0, {alpha} was provided instead")
        if eps < 0.0:
            raise ValueError(f"RMSprop epsilon should be >0, {eps} was provided instead")

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        v = self.alpha * state["v"] + (1 - self.alpha) * mx.square(gradient)
        state["v"] = v
        return parameter - self._rate(gradient) * gradient / (mx.sqrt(v) + self.eps)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares so far (Duchi et al., 2011)."""

    def __init__(self, learning_rate: Rate, eps: float = 1e-8):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.eps = eps
        if eps < 0.0:
            raise ValueError(f"Adagrad epsilon should be >0, {eps} was provided instead")

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        v = state["v"] + mx.square(gradient)
        state["v"] = v
        return parameter - self._rate(gradient) * gradient / (mx.sqrt(v) + self.eps)


class AdaDelta(Optimizer):
    """Steps of the size that steps had, by running figures of both (Zeiler, 2012)."""

    def __init__(self, learning_rate: Rate, rho: float = 0.9, eps: float = 1e-6):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.rho = rho
        self.eps = eps
        if rho < 0.0:
            raise ValueError(f"AdaDelta rho should be >=0, {rho} was provided instead")
        if eps < 0.0:
            raise ValueError(f"AdaDelta epsilon should be >0, {eps} was provided instead")

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)
        state["u"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        rho, eps = self.rho, self.eps
        v = rho * state["v"] + (1 - rho) * mx.square(gradient)
        step = mx.sqrt(state["u"] + eps) / mx.sqrt(v + eps) * gradient
        state["v"] = v
        state["u"] = rho * state["u"] + (1 - rho) * mx.square(step)
        return parameter - self._rate(gradient) * step


class Adam(Optimizer):
    """Running means of gradients and of their squares (Kingma and Ba, 2015), without bias correction by default."""

    def __init__(
        self,
        learning_rate: Rate,
        betas: List[float] = [0.9, 0.999],
        eps: float = 1e-8,
        bias_correction: bool = False,
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.betas = betas
        self.eps = eps
        self.bias_correction = bias_correction

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["m"] = mx.zeros_like(parameter)
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        rate = self._rate(gradient)
        b1, b2 = self.betas
        m = b1 * state["m"] + (1 - b1) * gradient
        v = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        state["m"], state["v"] = m, v
        if self.bias_correction:
            step = self.step
            c1 = (rate / (1 - b1**step)).astype(gradient.dtype)
            c2 = mx.rsqrt(1 - b2**step).astype(gradient.dtype)
            return parameter - c1 * m / (mx.sqrt(v) * c2 + self.eps)
        return parameter - rate * m / (mx.sqrt(v) + self.eps)


class AdamW(Adam):
    """:class:`Adam` with decay of the weights themselves (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        learning_rate: Rate,
        betas: List[float] = [0.9, 0.999],
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        bias_correction: bool = False,
    ):
        super().__init__(learning_rate, betas, eps, bias_correction)
        self.weight_decay = weight_decay

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        keep = 1 - self._rate(gradient) * self.weight_decay
        return super().apply_single(gradient, parameter * keep, state)


class Adamax(Adam):
    """:class:`Adam` with the greatest gradient in place of the mean square (Kingma and Ba, 2015)."""

    def __init__(self, learning_rate: Rate, betas: List[float] = [0.9, 0.999], eps: float = 1e-8):
        super().__init__(learning_rate, betas, eps)
        if eps < 0.0:
            raise ValueError(f"Epsilon value should be >=0, {eps} was provided instead")

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        b1, b2 = self.betas
        m = b1 * state["m"] + (1 - b1) * gradient
        v = mx.maximum(b2 * state["v"], mx.abs(gradient))
        state["m"], state["v"] = m, v
        return parameter - self._rate(gradient) * m / (v + self.eps)


class Lion(Optimizer):
    """The sign of a running mean of gradients (Chen et al., 2023)."""

    def __init__(
        self, learning_rate: Rate, betas: List[float] = [0.9, 0.99], weight_decay: float = 0.0
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.betas = betas
        self.weight_decay = weight_decay

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["m"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        rate = self._rate(gradient)
        b1, b2 = self.betas
        m = state["m"]
        direction = b1 * m + (1 - b1) * gradient
        state["m"] = b2 * m + (1 - b2) * gradient
        if self.weight_decay > 0:
            parameter = (1 - rate * self.weight_decay) * parameter
        return parameter - rate * mx.sign(direction)


class Adafactor(Optimizer):
    """Mean squares by rows and columns of matrices only, and steps by the size of parameters (Shazeer and Stern, 2018).

    Args:
        learning_rate: a number or a schedule, unless ``relative_step``.
        eps: added to squares of gradients; the least size of a parameter.
        clip_threshold: the most that the root mean square of a step may be.
        decay_rate: the power of the step by which old squares count less.
        beta_1: what is kept of the last step; without it nothing.
        weight_decay: of the parameters, times the rate.
        scale_parameter: whether steps go with the size of parameters.
        relative_step: whether the rate follows from the step.
        warmup_init: whether that one begins small.
    """

    def __init__(
        self,
        learning_rate: Optional[Rate] = None,
        eps: Tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta_1: Optional[float] = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ):
        super().__init__()
        if learning_rate is not None:
            self._maybe_schedule("learning_rate", learning_rate)
        self.eps = eps
        self.clip_threshold = clip_threshold
        self.decay_rate = decay_rate
        self.beta_1 = beta_1
        self.weight_decay = weight_decay
        self.scale_parameter = scale_parameter
        self.relative_step = relative_step
        self.warmup_init = warmup_init

    def init_single(self, parameter: mx.array, state: dict) -> None:
        shape, dtype = parameter.shape, parameter.dtype
        if parameter.ndim >= 2:
            state["exp_avg_sq_row"] = mx.zeros(shape[:-1], dtype=dtype)
            state["exp_avg_sq_col"] = mx.zeros(shape[:-2] + shape[-1:], dtype=dtype)
        else:
            state["exp_avg_sq"] = mx.zeros_like(parameter)
        if self.beta_1 is not None:
            state["exp_avg"] = mx.zeros_like(parameter)

    @staticmethod
    def _rms(x: mx.array) -> mx.array:
        return mx.sqrt(mx.mean(mx.square(x)))

    def _step_size(self, step: mx.array, size: mx.array) -> mx.array:
        if self.relative_step:
            least = 1e-6 * step if self.warmup_init else 1e-2
            rate = mx.minimum(least, mx.rsqrt(step))
        else:
            rate = self.learning_rate
        rate = rate.astype(size.dtype)
        return rate * mx.maximum(self.eps[1], size) if self.scale_parameter else rate

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        step = self.step
        keep = (1.0 - step**self.decay_rate).astype(gradient.dtype)
        rate = self._step_size(step, self._rms(parameter))
        square = mx.square(gradient) + self.eps[0]
        if gradient.ndim >= 2:
            row = keep * state["exp_avg_sq_row"] + (1 - keep) * mx.mean(square, axis=-1)
            col = keep * state["exp_avg_sq_col"] + (1 - keep) * mx.mean(square, axis=-2)
            state["exp_avg_sq_row"], state["exp_avg_sq_col"] = row, col
            by_row = mx.rsqrt(row / mx.mean(row, axis=-1, keepdims=True))
            update = by_row[..., None] * mx.rsqrt(col)[..., None, :] * gradient
        else:
            mean = keep * state["exp_avg_sq"] + (1 - keep) * square
            state["exp_avg_sq"] = mean
            update = mx.rsqrt(mean) * gradient
        update = rate * update / mx.maximum(1.0, self._rms(update) / self.clip_threshold)
        if self.beta_1 is not None:
            update = self.beta_1 * state["exp_avg"] + (1 - self.beta_1) * update
            state["exp_avg"] = update
        if self.weight_decay != 0:
            parameter = parameter - parameter * (self.weight_decay * rate)
        return parameter - update


class Muon(Optimizer):
    """Directions made nearly orthogonal by Newton and Schulz's iteration (Jordan et al., 2024).

    For the matrices of hidden layers; others (embeddings, biases, the output) want another optimizer, which
    :class:`MultiOptimizer` can give them.
    """

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        nesterov: bool = True,
        ns_steps: int = 5,
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.ns_steps = ns_steps

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)

    def _orthogonal(self, x: mx.array) -> mx.array:
        """The singular values of a matrix brought near to 1."""
        a, b, c = 3.4445, -4.7750, 2.0315
        tall = x.shape[-2] > x.shape[-1]
        if tall:
            x = x.T
        x = x / (mx.linalg.norm(x, keepdims=True) + 1e-7)
        for _ in range(self.ns_steps):
            s = x @ x.T
            x = a * x + mx.addmm(b * s, s, s, beta=1.0, alpha=c) @ x
        return x.T if tall else x

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        if self.weight_decay != 0:
            gradient = gradient + self.weight_decay * parameter
        v = self.momentum * state["v"] + (1 - self.momentum) * gradient
        state["v"] = v
        update = gradient * (1 - self.momentum) + v * self.momentum if self.nesterov else v
        rate = self._rate(gradient)
        if update.ndim >= 2:
            shape = update.shape
            matrix = update.reshape(shape[0], -1) if update.ndim > 2 else update
            matrix = self._orthogonal(matrix)
            rate = rate * max(1, matrix.shape[-2] / matrix.shape[-1]) ** 0.5
            update = matrix.reshape(shape)
        return parameter - rate * update


def clip_grad_norm(grads: Any, max_norm: float) -> Tuple[Any, mx.array]:
    """Gradients scaled so that their norm together is at most ``max_norm``; and the norm that they had.

    >>> clip_grad_norm({"w": mx.array([3.0, 4.0])}, 1.0)[1]
    array(5, dtype=float32)
    """
    square = tree_reduce(lambda acc, g: acc + g.square().sum(), grads, 0.0)
    norm = mx.sqrt(square)
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale, grads), norm
