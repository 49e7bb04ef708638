"""Every positive, and each negative with the same chance, whatever the chunks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c2al.data import complete_journey_exposures
from c2al.data.complete_journey_exposures import Exposures, exposures, ranges
from c2al.data.complete_journey_package import Journey, package_data, read_journey
from tests.data.fake_journey import fake_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return fake_package(tmp_path, monkeypatch)


def _rows(journey: Journey, **arguments: Any) -> np.ndarray:
    parts: list[Exposures] = list(exposures(journey, **arguments))
    return np.concatenate([np.stack([part.basket, part.promotion, part.label], axis=1) for part in parts])


def test_weights_are_unbiased_and_every_negative_has_its_chance(package: str) -> None:
    journey = read_journey(package_data(package))
    everything = {tuple(row): 0 for row in _rows(journey, keep_negatives=1, seed=0).tolist()}
    num_seeds = 100
    for seed in range(num_seeds):
        for row in _rows(journey, keep_negatives=0.3, seed=seed).tolist():
            everything[tuple(row)] += 1
    kept = np.array(list(everything.values()))
    label = np.array([row[2] for row in everything])
    assert (kept[label == 1] == num_seeds).all()
    kept = kept[label == 0]
    assert abs(kept.sum() / 0.3 / num_seeds / len(kept) - 1) < 4 * (0.7 / 0.3 / (num_seeds * len(kept))) ** 0.5
    # Binomial counts: their variance over the rows is that of independent draws.
    assert kept.var() == pytest.approx(num_seeds * 0.3 * 0.7, rel=0.2)


def test_seed_alone_decides(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journey = read_journey(package_data(package))
    rows = _rows(journey, keep_negatives=0.3, seed=5)
    assert not np.array_equal(rows, _rows(journey, keep_negatives=0.3, seed=6))
    monkeypatch.setattr(complete_journey_exposures, "CHUNK", 10)
    np.testing.assert_array_equal(rows, _rows(journey, keep_negatives=0.3, seed=5))
    np.testing.assert_array_equal(
        rows[: len(_rows(journey, keep_negatives=0.3, seed=5, last_week=9))],
        _rows(journey, keep_negatives=0.3, seed=5, last_week=9),
    )


def test_ranges() -> None:
    found = ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
    np.testing.assert_array_equal(found, [5, 6, 9, 10, 11])
