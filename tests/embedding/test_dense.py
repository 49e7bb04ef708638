"""Dense columns become tokens of the tables' width."""

import pytest
import torch

from c2al.embedding.dense import DenseTokens


@pytest.mark.parametrize("num_tokens", [1, 3])
def test_tokens_of_the_tables_width(num_tokens):
    tokens = DenseTokens(num_dense=5, dim=8, num_tokens=num_tokens)
    dense_BN = torch.randn(7, 5)
    out = tokens(dense_BN)
    assert out.shape == (7, num_tokens, 8)
    assert tokens.num_tokens == num_tokens
    torch.testing.assert_close(tokens(dense_BN[:2]), out[:2])
    assert tokens(dense_BN[:0]).shape == (0, num_tokens, 8)


def test_every_column_counts():
    dense_BN = torch.randn(16, 3, requires_grad=True)
    DenseTokens(num_dense=3, dim=4)(dense_BN).square().sum().backward()
    assert dense_BN.grad.abs().sum(0).gt(0).all()
