import pytest
import torch
from torch.nn import functional

from c2al.interaction.masked_attention import AttentionWeights, MaskedAttention

ROWS, QUERIES, PLACES, DIM = 3, 2, 5, 8


def inputs():
    random = torch.Generator().manual_seed(0)
    query, key = (torch.randn(ROWS, n, DIM, generator=random) for n in (QUERIES, PLACES))
    allowed = torch.rand(ROWS, QUERIES, PLACES, generator=random) < 0.6
    allowed[0, 0], allowed[1, 1] = False, torch.tensor([0, 0, 1, 0, 0]).bool()
    return query, key, allowed


def test_as_torchs_own_where_there_is_something_to_look_at():
    torch.manual_seed(0)
    attention, (query, key, allowed) = MaskedAttention(dim=DIM, num_heads=2), inputs()
    heads = [
        linear(x).unflatten(-1, (2, -1)).transpose(1, 2)
        for linear, x in (
            (attention.attention.query, query),
            (attention.attention.key, key),
            (attention.value, key),
        )
    ]
    mixed = functional.scaled_dot_product_attention(*heads, attn_mask=allowed.unsqueeze(1))
    expected = attention.project(mixed.transpose(1, 2).flatten(2))
    found = attention(query, key, allowed)
    some = allowed.any(-1)
    torch.testing.assert_close(found[some], expected[some])
    assert found[~some].eq(0).all()


def test_weights_sum_to_one_over_what_is_allowed_or_are_zeros():
    weights = AttentionWeights(dim=DIM, num_heads=4)(*inputs())
    allowed = inputs()[2]
    assert weights.shape == (ROWS, 4, QUERIES, PLACES)
    assert weights[(~allowed).unsqueeze(1).expand_as(weights)].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), allowed.any(-1).float().unsqueeze(1).expand(-1, 4, -1))
    assert weights[1, :, 1, 2].eq(1).all()


def test_a_query_without_anything_to_look_at_has_a_finite_gradient():
    attention, (query, key, allowed) = MaskedAttention(dim=DIM, num_heads=2), inputs()
    key.requires_grad_()
    attention(query, key, torch.zeros_like(allowed)).square().sum().backward()
    assert key.grad.eq(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters() if parameter.grad is not None)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not divide into 3"):
        AttentionWeights(dim=8, num_heads=3)
