"""The Gramian against a Jacobian; two ranks are in tests/parallel/test_methods_on_ranks.py."""

import torch
from torch import nn

from c2al.objectives.gramian import cosines, from_gramian, gramian, sum_over_ranks


def heads_of(z_BE: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return nn.Linear(z_BE.shape[1], 3)(z_BE.float()).square().mean(0)


def test_it_is_that_of_the_jacobian():
    z_BE = torch.randn(8, 4, requires_grad=True)
    jacobian_HX = torch.autograd.functional.jacobian(heads_of, z_BE).flatten(1)
    torch.testing.assert_close(gramian(heads_of(z_BE), z_BE), jacobian_HX @ jacobian_HX.T)


def test_by_hand():
    """L_0 = 3 z_0, L_1 = z_0 + 2 z_1."""
    z_BE = torch.tensor([[1.0, 1.0]], requires_grad=True)
    losses_H = torch.stack([3 * z_BE[0, 0], z_BE[0, 0] + 2 * z_BE[0, 1]])
    assert gramian(losses_H, z_BE).tolist() == [[9, 3], [3, 5]]


def test_nothing_is_accumulated_and_backward_is_still_possible():
    layer, x = nn.Linear(4, 4), torch.randn(8, 4)
    z_BE = layer(x)
    losses_H = heads_of(z_BE)
    gramian(losses_H, z_BE)
    assert layer.weight.grad is None
    losses_H.sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_float32_whatever_the_representation():
    z_BE = torch.randn(8, 4, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = gramian(heads_of(z_BE), z_BE)
    assert found.dtype == torch.float32
    exact = z_BE.detach().float().requires_grad_()
    torch.testing.assert_close(found, gramian(heads_of(exact), exact), rtol=0.03, atol=1e-3)


def test_the_method_sees_losses_times_lambda_at_unit_trace():
    seen = []

    def method(gramian_HH):
        seen.append(gramian_HH)
        return torch.tensor([1.0, 2.0])

    weights_H = from_gramian(method, 1e-9 * torch.tensor([[4.0, 1.0], [1.0, 9.0]]), torch.tensor([1.0, 0.5]))
    assert weights_H.tolist() == [1, 1]
    torch.testing.assert_close(seen[0], torch.tensor([[4.0, 0.5], [0.5, 2.25]]) / 6.25)


def test_cosines_of_each_two_heads():
    found = cosines(torch.tensor([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found.tolist() == [0.5, 0, 0]


def test_alone_nothing_is_summed():
    assert sum_over_ranks(torch.ones(1)) == 1
