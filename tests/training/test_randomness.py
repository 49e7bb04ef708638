"""A rank's random numbers go on where they were."""

import random

import numpy as np
import torch

from c2al.training import randomness


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]


def test_they_go_on_where_they_were(tmp_path):
    """Also between the two numbers that a Gaussian makes at a time, and from a file read as mere tensors."""
    for _ in range(2):
        random.gauss(0, 1)
        np.random.randn()
        torch.save(randomness.capture(), tmp_path / "state.pt")
        expected = draw()
        draw()
        randomness.restore(torch.load(tmp_path / "state.pt", weights_only=True))
        assert draw() == expected
        draw()


def test_the_tensors_have_the_same_sizes_at_any_time():
    first = {name: value.shape for name, value in randomness.capture().items()}
    random.gauss(0, 1)
    np.random.randn()
    assert {name: value.shape for name, value in randomness.capture().items()} == first
