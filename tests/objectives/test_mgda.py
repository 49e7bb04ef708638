import pytest
import torch
from torchjd import aggregation

from c2al.objectives.mgda import MGDA
from tests.objectives.jacobians import gramian, jacobian


def test_two_heads_by_hand():
    """Orthogonal gradients of length 1 and 2: α = (4/5, 1/5), inversely to the squares."""
    weights_H = MGDA(weights=[1.0, 1.0])(torch.ones(2), torch.diag(torch.tensor([1.0, 4.0])))
    assert weights_H.tolist() == pytest.approx([0.8, 0.2], abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_that_of_torchjd_on_the_jacobian(seed):
    objective, jacobian_HX = MGDA(weights=[1.0, 0.3, 0.2]), jacobian(seed)
    weights_H = objective(torch.ones(3), gramian(jacobian_HX))
    expected = aggregation.MGDA()(objective.weights_H[:, None] * jacobian_HX)
    torch.testing.assert_close(weights_H @ jacobian_HX, expected, rtol=1e-3, atol=1e-7)
    assert (weights_H / objective.weights_H).sum().item() == pytest.approx(1)


def test_a_small_lambda_makes_its_head_heavy():
    alike = MGDA(weights=[1.0, 1.0])(torch.ones(2), torch.eye(2))
    small = MGDA(weights=[1.0, 0.1])(torch.ones(2), torch.eye(2))
    assert small[0] < alike[0]
