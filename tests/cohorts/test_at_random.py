import numpy as np
import pytest

from c2al.cohorts.at_random import HEAD, TAIL, assign, random_axis

UNITS = np.repeat(np.arange(2000), np.random.default_rng(0).integers(1, 9, 2000))


def test_sizes_are_those_asked_for_but_for_a_unit():
    ids = assign(UNITS, random_axis(UNITS, head_rows=900, tail_rows=2500, seed=3))
    head, tail = (ids == 0).sum(), (ids == 1).sum()
    assert 900 - 9 < head <= 900
    assert 2500 - 9 < tail <= 2500
    assert set(ids) == {-1, 0, 1}


def test_a_unit_is_whole_in_one_cohort():
    ids = assign(UNITS, random_axis(UNITS, head_rows=900, tail_rows=2500, seed=3))
    assert all(len(set(ids[unit == UNITS])) == 1 for unit in range(200))


def test_membership_needs_the_unit_alone():
    axis = random_axis(UNITS, head_rows=900, tail_rows=2500, seed=3)
    some = np.array([5, 7, 5, 99_999], dtype=np.int32)
    assert assign(some, axis).tolist()[0] == assign(UNITS[UNITS == 5], axis)[0]
    assert assign(some, axis).dtype == np.int16


def test_seeds_give_cohorts_that_have_nothing_to_do_with_one_another():
    units = np.arange(100_000)
    first, second = (assign(units, random_axis(units, head_rows=20_000, tail_rows=0, seed=s)) == 0 for s in (0, 1))
    assert (first & second).mean() == pytest.approx(0.04, abs=0.005)
    assert not np.array_equal(first, second)


def test_neighbours_are_not_alike():
    units = np.arange(100_000)
    inside = assign(units, random_axis(units, head_rows=50_000, tail_rows=0, seed=0)) == 0
    assert np.corrcoef(inside[1:], inside[:-1])[0, 1] == pytest.approx(0, abs=0.02)


def test_the_whole_can_be_dealt_out():
    units = np.arange(1000)
    axis = random_axis(units, head_rows=400, tail_rows=600, seed=0)
    assert axis.cohorts == (HEAD, TAIL)
    assert np.bincount(assign(units, axis)).tolist() == [400, 600]
