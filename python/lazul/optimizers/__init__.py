"""Optimizers, schedules of learning rates, and clipping: what ``mlx.optimizers`` is to MLX.

>>> import lazul.core as mx, lazul.nn as nn, lazul.optimizers as optim
>>> model = nn.Linear(2, 1)
>>> optimizer = optim.SGD(learning_rate=0.1)
>>> loss, gradients = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))
>>> optimizer.update(model, gradients)
"""

from .optimizers import (
    SGD as SGD,
    AdaDelta as AdaDelta,
    Adafactor as Adafactor,
    Adagrad as Adagrad,
    Adam as Adam,
    Adamax as Adamax,
    AdamW as AdamW,
    Lion as Lion,
    MultiOptimizer as MultiOptimizer,
    Muon as Muon,
    Optimizer as Optimizer,
    RMSprop as RMSprop,
    clip_grad_norm as clip_grad_norm,
)
from .schedulers import (
    cosine_decay as cosine_decay,
    exponential_decay as exponential_decay,
    join_schedules as join_schedules,
    linear_schedule as linear_schedule,
    step_decay as step_decay,
)
