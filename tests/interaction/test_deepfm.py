import torch
from torch import nn

from c2al.interaction.deepfm import DeepFM
from c2al.interaction.fm import fm_terms


def test_equals_the_formula():
    """ReLU of linear layers over the embeddings, beside FM; the last column reaches FM alone."""
    model, x_BFD = DeepFM(num_tokens=5, dim=4, hidden=[6, 3], batch_norm=False), torch.randn(7, 5, 4 + 1)
    first, second = (layer for layer in model.deep if isinstance(layer, nn.Linear))
    deep = second(first(x_BFD[..., :4].reshape(7, 20)).relu()).relu()
    torch.testing.assert_close(model(x_BFD), torch.cat([deep, fm_terms(x_BFD)], 1))
    assert model.out_features == 3 + model.additive_features
