import torch

from c2al.interaction.fm import FM


def test_equals_the_formula():
    """Weights, and the dot products of all pairs, one by one."""
    x_BFD = torch.randn(3, 5, 4 + 1)
    v, w = x_BFD[..., :4], x_BFD[..., 4]
    pairs = sum((v[:, i] * v[:, j]).sum(1) for i in range(5) for j in range(i))
    torch.testing.assert_close(FM(num_tokens=5, dim=4)(x_BFD), (w.sum(1) + pairs).unsqueeze(1))


def test_without_embeddings_it_is_logistic_regression():
    x_BFD = torch.randn(3, 5, 1)
    torch.testing.assert_close(FM(num_tokens=5, dim=0)(x_BFD), x_BFD.sum(1))
