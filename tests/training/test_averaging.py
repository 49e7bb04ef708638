"""The moving average against its formula, and that it leaves training alone."""

import pytest
import torch
from torch import nn

from c2al.training.averaging import WeightAverage, with_average


class Counter(nn.Module):
    """Weights that are set by hand; a buffer of integers must be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def set(self, value: float) -> None:
        self.weight.data.fill_(value)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_the_formula(decay):
    """average = d^k average + (1 - d^k) weights, d = min(decay, (1 + t) / (10 + t)), k 1 up to step 100 and 10 then."""
    model = Counter()
    average = WeightAverage(model, decay=decay)
    expected = 0.0
    for step in range(1, 151):
        model.set(step**0.5)
        average.update(step)
        k = 1 if step <= 100 else 10
        if step % k == 0:
            d = min(decay, (1 + step) / (10 + step)) ** k
            expected = d * expected + (1 - d) * step**0.5
    assert average.state["weight"].tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert model.weight.tolist() == pytest.approx([150**0.5] * 2)


def test_the_model_holds_the_average_only_inside():
    model = Counter()
    average = WeightAverage(model, decay=0.9, every=1)
    model.set(8.0)
    with average.in_place():
        assert model.weight.tolist() == [0, 0]
    assert model.weight.tolist() == [8, 8]
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert model.weight.tolist() == [8, 8], "after an error too"
    assert average.state["weight"].tolist() == [0, 0]


def test_no_average_is_the_model_itself():
    with with_average(None):
        pass


def test_other_types_are_not_averaged():
    model = Counter()
    average = WeightAverage(model, decay=0.9, every=1)
    model.steps += 5
    average.update(1)
    with average.in_place():
        assert model.steps == 5
