from torch import nn

from c2al.interaction.batch_norm import BatchNorm
from c2al.interaction.dnn import dnn


def test_every_layer_has_its_activation():
    assert [type(layer) for layer in dnn(3, [5, 4])] == [nn.Linear, nn.ReLU] * 2
    assert [type(layer) for layer in dnn(3, [5], batch_norm=True)] == [nn.Linear, BatchNorm, nn.ReLU]
    assert [tuple(layer.weight.shape) for layer in dnn(3, [5, 4]) if isinstance(layer, nn.Linear)] == [(5, 3), (4, 5)]
    assert len(dnn(3, [])) == 0
