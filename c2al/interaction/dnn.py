"""The deep part of click models: fully connected layers, each with its activation, the last one too."""

from collections.abc import Sequence

from torch import nn

from c2al.interaction.batch_norm import BatchNorm


def dnn(in_features: int, hidden: Sequence[int], *, batch_norm: bool = False) -> nn.Sequential:
    """``[B, in_features] -> [B, hidden[-1]]``: linear, batch norm where wanted, ReLU, for every width of ``hidden``.

    He et al. 2015 (arXiv 1502.01852) for the weights, zero for the biases.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(in_features, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, *([BatchNorm(width)] if batch_norm else []), nn.ReLU()]
        in_features = width
    return nn.Sequential(*layers)
