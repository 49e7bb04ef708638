import pytest
import torch
from torchjd import aggregation

from c2al.objectives.cagrad import CAGrad
from tests.objectives.jacobians import gramian, jacobian


def test_two_orthogonal_heads_by_hand():
    """g_0 = (1, 0), g_1 = (0, 1): w = (1/2, 1/2) by symmetry, so d = 2 (1 + c) (1/2, 1/2), twice the paper's."""
    weights_H = CAGrad(weights=[1.0, 1.0], c=0.4)(torch.ones(2), torch.eye(2))
    assert weights_H.tolist() == pytest.approx([1.4, 1.4], rel=1e-4)


def test_c_of_zero_is_the_plain_sum():
    objective = CAGrad(weights=[1.0, 0.1, 0.2], c=0.0)
    torch.testing.assert_close(objective(torch.ones(3), gramian(jacobian(0))), objective.weights_H)


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_that_of_torchjd_on_the_jacobian(seed):
    objective, jacobian_HX = CAGrad(weights=[1.0, 0.3, 0.2], c=0.4), jacobian(seed)
    found = objective(torch.ones(3), gramian(jacobian_HX)) @ jacobian_HX
    unit = 1 / (objective.weights_H[:, None] * jacobian_HX).norm()  # TorchJD takes gradients this small for zero
    expected = 3 * aggregation.CAGrad(c=0.4)(objective.weights_H[:, None] * jacobian_HX * unit) / unit
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_it_stays_in_the_ball_and_serves_the_worst_off_better_than_the_mean():
    jacobian_HX = jacobian(1, scale=1.0)
    mean = jacobian_HX.mean(0)
    direction = CAGrad(weights=[1.0] * 3, c=0.4)(torch.ones(3), gramian(jacobian_HX)) @ jacobian_HX / 3
    assert (direction - mean).norm() <= 0.4 * mean.norm() * (1 + 1e-3)
    assert (jacobian_HX @ direction).min() > (jacobian_HX @ mean).min()


@pytest.mark.parametrize("c", [-0.1, 1.0])
def test_an_impossible_radius(c):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        CAGrad(c=c)
