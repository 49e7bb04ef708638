import pytest
import torch
from torchjd import aggregation

from c2al.objectives.upgrad import UPGrad
from tests.objectives.jacobians import gramian, jacobian


def test_two_heads_by_hand():
    """g_0 = (1, 0), g_1 = (-1, 1): onto the cone of both, g_0 -> (1/2, 1/2), g_1 -> (0, 1); their sum."""
    jacobian_HX = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    weights_H = UPGrad(weights=[1.0, 1.0])(torch.ones(2), gramian(jacobian_HX))
    assert (weights_H @ jacobian_HX).tolist() == pytest.approx([0.5, 1.5], abs=2e-3)


def test_without_conflict_the_weights_are_lambda():
    objective = UPGrad(weights=[1.0, 0.1, 0.2])
    torch.testing.assert_close(objective(torch.ones(3), torch.eye(3)), objective.weights_H, rtol=1e-3, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_that_of_torchjd_on_the_jacobian_and_harms_nobody(seed):
    objective, jacobian_HX = UPGrad(weights=[1.0, 0.3, 0.2]), jacobian(seed)
    found = objective(torch.ones(3), gramian(jacobian_HX)) @ jacobian_HX
    scaled = objective.weights_H[:, None] * jacobian_HX
    unit = 1 / scaled.norm()  # TorchJD takes gradients this small for zero
    expected = aggregation.UPGrad(pref_vector=torch.ones(3))(scaled * unit) / unit
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)
    assert (scaled @ found).min() > -2e-3 * scaled.norm() * found.norm()
