import itertools

import numpy as np
import pytest

from c2al.serving.inputs import Bags, Inputs


def rows(num: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, num)
    bags = {"history": Bags(rng.integers(0, 9, lengths.sum()), lengths)}
    return Inputs(rng.random((num, 2), np.float32), rng.integers(0, 9, (num, 3)), bags)


def assert_same(one: Inputs, other: Inputs) -> None:
    np.testing.assert_array_equal(one.dense_BN, other.dense_BN)
    np.testing.assert_array_equal(one.ids_BS, other.ids_BS)
    assert list(one.bags) == list(other.bags)
    for a, b in zip(one.bags.values(), other.bags.values(), strict=True):
        np.testing.assert_array_equal(a.values_V, b.values_V)
        np.testing.assert_array_equal(a.lengths_B, b.lengths_B)


@pytest.mark.parametrize("cuts", [[0, 7], [0, 3, 7], [0, 0, 1, 7]])
def test_cut_and_joined_are_the_same_rows(cuts):
    whole = rows(7)
    parts = [whole.rows(start, stop) for start, stop in itertools.pairwise(cuts)]
    assert [len(part) for part in parts] == np.diff(cuts).tolist()
    assert_same(Inputs.joined(parts), whole)
