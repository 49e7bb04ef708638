"""How much of a predicted difference the labels show."""

import numpy as np
import pytest

from c2al.cohorts.borne_out import borne_out


def rows(*, seed: int, real: float, num_units: int = 2000, per_unit: int = 20, spread: float = 0.0) -> dict:
    """Two cohorts of units whose predicted logits differ by 0.5 in mean (or in ``spread``); ``real`` of it is true."""
    rng = np.random.default_rng(seed)
    unit = np.arange(num_units).repeat(per_unit)
    is_head = (rng.random(num_units) < 0.4)[unit]
    within = rng.normal(size=len(unit)) - 2
    difference = 0.5 * is_head if not spread else np.where(is_head, spread * (within + 2), 0)
    label = rng.random(len(unit)) < 1 / (1 + np.exp(-(within + real * difference)))
    return {
        "logit_R": within + difference,
        "label_R": label,
        "weight_R": np.ones(len(unit)),
        "unit_R": unit,
        "is_head_R": is_head,
    }


@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_one_where_it_is_true_and_none_where_it_is_not(spread):
    for real in (1.0, 0.0):
        share, error = borne_out(**rows(seed=5, real=real, spread=spread))
        assert abs(share - real) < 3 * error
        assert 0 < error < 0.15


def test_the_error_is_that_of_repeated_draws():
    """Of units with noise of their own, where that of independent rows would be too small."""

    def drawn(seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
        made = rows(seed=seed, real=1.0, num_units=300, per_unit=10)
        rng = np.random.default_rng(seed + 1000)
        own = 1.0 * rng.normal(size=300)[made["unit_R"]]
        made["label_R"] = rng.random(len(own)) < 1 / (1 + np.exp(-(made["logit_R"] + own)))
        return borne_out(**made), borne_out(**made | {"unit_R": None})

    found = np.array([drawn(seed) for seed in range(40)])
    spread = found[:, 0, 0].std()
    assert found[:, 0, 1].mean() == pytest.approx(spread, rel=0.35)
    assert found[:, 1, 1].mean() < 0.8 * spread


def test_a_calibration_that_is_off_does_not_matter():
    made = rows(seed=7, real=1.0)
    share, _ = borne_out(**made)
    assert borne_out(**made | {"logit_R": made["logit_R"] + 1.0})[0] == pytest.approx(share, abs=0.02)


def test_a_model_that_knows_nothing_is_borne_out_in_nothing():
    """Cohorts of units by their own mean prediction, and labels without any relation to the predictions."""
    rng = np.random.default_rng(9)
    unit = rng.integers(0, 1000, 20_000)
    logit = rng.normal(size=1000)[unit] + rng.normal(size=20_000) - 2
    mean = np.bincount(unit, logit, 1000) / np.bincount(unit, minlength=1000)
    share, error = borne_out(logit, rng.random(20_000) < 0.2, np.ones(20_000), unit, (mean > np.median(mean))[unit])
    assert abs(share) < 3 * error < 0.3


def test_weights_count_as_repeated_rows_do():
    made = rows(seed=8, real=1.0, num_units=300)
    twice = np.arange(len(made["unit_R"])).repeat(np.where(made["label_R"], 1, 2))
    repeated = {name: values[twice] for name, values in made.items()}
    weighted = made | {"weight_R": np.where(made["label_R"], 1.0, 2.0)}
    assert borne_out(**weighted)[0] == pytest.approx(borne_out(**repeated)[0], abs=0.02)
