"""Layers, losses and initializers: what ``mlx.nn`` is to MLX.

>>> import lazul.core as mx, lazul.nn as nn
>>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
>>> model(mx.ones((2, 3))).shape
(2, 1)
"""

from . import init as init
from . import losses as losses
from .layers import *  # noqa: F403
from .layers import (
    activations as activations,
    base as base,
    containers as containers,
    convolution as convolution,
    convolution_transpose as convolution_transpose,
    distributed as distributed,
    dropout as dropout,
    embedding as embedding,
    linear as linear,
    normalization as normalization,
    pooling as pooling,
    positional_encoding as positional_encoding,
    quantized as quantized,
    recurrent as recurrent,
    transformer as transformer,
    upsample as upsample,
)
from .utils import (
    average_gradients as average_gradients,
    checkpoint as checkpoint,
    clip_grad_norm_sharded as clip_grad_norm_sharded,
    value_and_grad as value_and_grad,
)
