import pytest
import torch

from c2al.objectives.weighting import Weighting


def test_it_is_told_where_training_stands():
    weighting = Weighting([1.0, 0.5])
    weighting.at(3, 10)
    assert (weighting.step, weighting.num_steps) == (3, 10)


def test_nothing_is_added_unless_a_method_says_so():
    assert Weighting([1.0]).penalty(torch.ones(1)).item() == 0


def test_weights_are_no_state():
    assert not Weighting([1.0, 0.5]).state_dict()


@pytest.mark.parametrize("weights", [[], [1.0, -1.0], [float("nan")]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="finite and not negative"):
        Weighting(weights)
