import math

import pytest
import torch

from c2al.objectives.uncertainty import Uncertainty

LOSSES_H = torch.tensor([0.9, 0.3, 0.2])


def total(objective, losses_H=LOSSES_H):
    return (objective(losses_H) * losses_H).sum() + objective.penalty(losses_H)


def test_the_formula_and_its_gradients():
    """Σ exp(-s) L + s / 2: ∂/∂s = -exp(-s) L + 1/2, ∂/∂L = exp(-s)."""
    objective = Uncertainty(weights=[1.0, 0.5, 0.1])
    losses_H = LOSSES_H.clone().requires_grad_()
    loss = total(objective, losses_H)
    loss.backward()
    s = [0.0, math.log(2), math.log(10)]
    assert loss.item() == pytest.approx(0.9 + 0.15 + 0.02 + sum(s) / 2)
    assert losses_H.grad.tolist() == pytest.approx([1.0, 0.5, 0.1])
    assert objective.log_variance_H.grad.tolist() == pytest.approx([0.5 - 0.9, 0.5 - 0.15, 0.5 - 0.02])


def test_at_rest_a_weight_is_half_the_inverse_loss():
    objective = Uncertainty(weights=[1.0, 0.5, 0.1])
    steps = torch.optim.SGD(objective.parameters(), lr=0.5)
    for _ in range(400):
        steps.zero_grad()
        total(objective).backward()
        steps.step()
    torch.testing.assert_close(objective(LOSSES_H), 1 / (2 * LOSSES_H), rtol=1e-3, atol=0)


def test_a_weight_of_zero_is_refused():
    with pytest.raises(ValueError, match="no logarithm"):
        Uncertainty(weights=[1.0, 0.0])
