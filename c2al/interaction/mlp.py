"""The multi-layer perceptron that attention, blocks and towers share."""

from collections.abc import Sequence

from torch import nn


def mlp(
    in_features: int, hidden: Sequence[int], out_features: int, *, out_scale: float = 1.0, bias_scale: float = 0.0
) -> nn.Sequential:
    """Linear layers with ReLU between them, none after the last.

    Input of unit second moment keeps it through every hidden layer (He et al. 2015, arXiv 1502.01852) and leaves with
    standard deviation ``out_scale``. Biases start at zero, the last layer's with standard deviation ``bias_scale``.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(in_features, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
        in_features = width
    last = nn.Linear(in_features, out_features)
    nn.init.normal_(last.weight, std=out_scale / in_features**0.5)
    nn.init.normal_(last.bias, std=bias_scale)
    return nn.Sequential(*layers, last)
