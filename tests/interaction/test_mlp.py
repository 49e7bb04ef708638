import torch
from torch import nn

from c2al.interaction.mlp import mlp


def test_layers():
    layers = mlp(3, [5, 4], 2)
    shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(5, 3), (4, 5), (2, 4)]
    assert isinstance(layers[-1], nn.Linear)
    assert len(mlp(3, [], 2)) == 1


def test_keeps_the_second_moment_and_scales_the_output():
    torch.manual_seed(0)
    layers = mlp(512, [512, 512], 512, out_scale=0.3)
    x = torch.randn(512, 512)
    assert 0.9 < layers[:2](x).square().mean() < 1.1
    assert 0.27 < layers(x).std() < 0.33
    assert layers[-1].bias.abs().max() == 0
    assert 0.4 < mlp(8, [], 512, bias_scale=0.5)[-1].bias.std() < 0.6
