import pytest
import torch

from c2al.objectives.fixed import Fixed


def test_weights_are_what_was_given_and_no_state():
    fixed = Fixed(weights=[1.0, 0.1, 0.0])
    torch.testing.assert_close(fixed(torch.rand(3)), torch.tensor([1.0, 0.1, 0.0]))
    assert not fixed.state_dict()
    assert not list(fixed.parameters())
    assert Fixed()(torch.rand(1)).tolist() == [1.0]


@pytest.mark.parametrize("weights", [[], [1.0, -0.1], [float("nan")], [1.0, float("inf")]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="finite and not negative"):
        Fixed(weights=weights)
