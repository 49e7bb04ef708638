import pytest
import torch
from torchjd import aggregation

from c2al.objectives.pcgrad import PCGrad
from tests.objectives.jacobians import gramian, jacobian


def test_two_heads_by_hand():
    """g_0 = (1, 0), g_1 = (-1, 1): g_0 loses its part along g_1, g_1 along g_0; d = (1/2, 1/2) + (0, 1)."""
    jacobian_HX = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    weights_H = PCGrad(weights=[1.0, 1.0])(torch.ones(2), gramian(jacobian_HX))
    assert weights_H.tolist() == pytest.approx([2.0, 1.5])
    assert (weights_H @ jacobian_HX).tolist() == pytest.approx([0.5, 1.5])


def test_without_conflict_the_weights_are_lambda():
    objective = PCGrad(weights=[1.0, 0.1, 0.2])
    torch.testing.assert_close(objective(torch.ones(3), torch.eye(3)), objective.weights_H)


@pytest.mark.parametrize("step", range(4))
def test_the_direction_is_that_of_torchjd_on_the_jacobian(step):
    objective, jacobian_HX = PCGrad(weights=[1.0, 0.3, 0.2], seed=7), jacobian(step)
    objective.at(step, 10)
    found = objective(torch.ones(3), gramian(jacobian_HX)) @ jacobian_HX
    torch.manual_seed(7 * 1_000_003 + step)
    expected = aggregation.PCGrad()(objective.weights_H[:, None] * jacobian_HX)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_the_order_changes_from_step_to_step():
    objective, found = PCGrad(weights=[1.0] * 4), set()
    for step in range(20):
        objective.at(step, 20)
        jacobian_HX = -torch.eye(4, 5) + torch.eye(5)[:4].roll(1, 0) + 0.3 * jacobian(0, heads=4, size=5, scale=1)
        found.add(tuple(objective(torch.ones(4), gramian(jacobian_HX)).tolist()))
    assert len(found) > 1
