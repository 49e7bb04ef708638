import pytest
import torch

from c2al.objectives.reweighting import Reweighting

NAMES, ROWS = ("a", "b"), [60.0, 30.0, 10.0]  # the last are in no cohort


def factors(**options) -> list[float]:
    module = Reweighting(cohorts=NAMES, num_rows=ROWS, **options)
    return module(torch.ones(3), torch.ones(3), torch.tensor([0, 1, -1])).tolist()


def test_inverse_frequency_makes_all_count_alike():
    """w_g = N / (G n_g)."""
    assert factors() == pytest.approx([100 / 180, 100 / 90, 100 / 30])


@pytest.mark.parametrize("options", [{}, {"power": 0.5}, {"power": 0.0}, {"table": {"a": 1.1}}])
def test_the_mean_over_rows_is_one(options):
    assert sum(f * n for f, n in zip(factors(**options), ROWS, strict=True)) == pytest.approx(100)


def test_no_power_is_no_weighting():
    assert factors(power=0.0) == [1, 1, 1]


def test_a_table():
    found = factors(table={"b": 3.0})
    assert found[1] / found[0] == pytest.approx(3)
    assert found[2] == found[0]


def test_cohorts_without_rows_are_no_division_by_zero():
    assert Reweighting(cohorts=NAMES, num_rows=[10.0, 0.0, 0.0]).factor_G.isfinite().all()


@pytest.mark.parametrize("table", [{"c": 1.0}, {"a": -1.0}])
def test_a_table_that_cannot_be(table):
    with pytest.raises(ValueError, match="cohort"):
        factors(table=table)
