import numpy as np
import pytest

from c2al.cohorts.attributes import Attribute
from c2al.cohorts.divergence import js
from c2al.cohorts.tree import grow
from c2al.schema import DataError

REGION = Attribute("region", "region", ("none", "unknown", "north", "east", "south", "west"))
DEVICE = Attribute("device", "cohort_device", ("none", "phone", "tablet"))
SPEND = Attribute("spend", "spend", (), "log1p", mean=1.0, std=0.5)
ATTRIBUTES = [DEVICE, REGION, SPEND]


def made(*, seed: int = 0, num_rows: int = 20_000) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns, and bins that hang on region (north and south against the rest) and, there, on spend above 0.4."""
    rng = np.random.default_rng(seed)
    values = {
        "region": rng.integers(0, 5, num_rows),
        "cohort_device": rng.integers(-1, 2, num_rows),
        "spend": rng.normal(size=num_rows),
    }
    planted = np.isin(values["region"], [1, 3])
    mean = 15 + 8.0 * planted + 10.0 * (planted & (values["spend"] > 0.4))
    return values, np.clip(mean + 3 * rng.normal(size=num_rows), 0, 49).astype(np.int64)


def test_the_planted_cuts_are_found_and_said():
    values, bins = made()
    tree = grow(bins, np.ones(len(bins)), attributes=ATTRIBUTES, values=values, num_cohorts=3)
    ids = tree.apply(values, len(bins))
    planted = np.isin(values["region"], [1, 3])
    np.testing.assert_array_equal(ids == 0, ~planted)
    edge = np.mean((values["spend"] > 0.4)[planted] == (ids[planted] == 2))
    assert edge > 0.95, "to the nearest of the quantiles"
    words = tree.words()
    assert words[0] == "region not north or south"
    assert words[1].startswith("region north or south, spend at most ")
    assert words[2].startswith("region north or south, spend above ")
    raw = float(words[2].rsplit(" ", 1)[1])
    assert raw == pytest.approx(np.expm1(0.4 * 0.5 + 1), rel=0.1), "in the user's own numbers"


def test_the_first_cut_is_the_best_there_is():
    """Against all cuts of a category in two, by brute force."""
    rng = np.random.default_rng(1)
    values = {"region": rng.integers(0, 5, 5000)}
    bins = np.clip(10 + 2 * values["region"] + 4 * rng.normal(size=5000), 0, 29).astype(np.int64)
    tree = grow(bins, np.ones(5000), attributes=[REGION], values=values, num_cohorts=2)

    def gain(inside: np.ndarray) -> float:
        sides = [np.bincount(bins[side], minlength=30) for side in (inside, ~inside)]
        shares = np.array([side.sum() for side in sides]) / 5000
        entropy = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in (side / side.sum() for side in [sum(sides), *sides])]
        return entropy[0] - shares @ entropy[1:]

    every = [np.isin(values["region"], [v for v in range(5) if mask >> v & 1]) for mask in range(1, 31)]
    assert gain(tree.apply(values, 5000) == 0) == pytest.approx(max(map(gain, every)))


def test_leaves_part_the_rows_and_new_values_have_a_place():
    values, bins = made()
    tree = grow(bins, np.ones(len(bins)), attributes=ATTRIBUTES, values=values, num_cohorts=6)
    sizes = np.bincount(tree.apply(values, len(bins)))
    assert len(sizes) == len(tree.leaves) <= 6
    assert list(sizes) == sorted(sizes, reverse=True)
    assert sizes.min() >= 0.05 * len(bins)
    new = {"region": np.array([-1, 4]), "cohort_device": np.array([-1, 1]), "spend": np.array([9.0, -9.0])}
    assert (tree.apply(new, 2) >= 0).all()


def test_weights_count_and_numbers_are_cut_on_both_sides():
    rng = np.random.default_rng(2)
    values = {"spend": rng.normal(size=20_000)}
    middle = np.abs(values["spend"]) < 0.6
    bins = np.where(middle, 20, 5) + rng.integers(0, 5, 20_000)
    tree = grow(bins, np.ones(20_000), attributes=[SPEND], values=values, num_cohorts=3)
    assert any(" and at most " in words and "above" in words for words in tree.words())
    ids = tree.apply(values, 20_000)
    hist = [np.bincount(bins[ids == leaf], minlength=25) for leaf in range(3)]
    assert js(hist[0], hist[1]) > 0.45
    alone = grow(bins, np.where(middle, 1e-9, 1.0), attributes=[SPEND], values=values, num_cohorts=3)
    inside = [np.average(middle, weights=alone.apply(values, 20_000) == leaf) for leaf in range(len(alone.leaves))]
    assert max(inside) < 0.9, "rows of no weight make no leaf"


def test_nothing_to_cut_by():
    with pytest.raises(DataError, match=r"no column parts the predictions.*device.*learned\.columns"):
        grow(
            np.arange(100) % 7,
            np.ones(100),
            attributes=[DEVICE],
            values={"cohort_device": np.zeros(100, int)},
            num_cohorts=3,
        )
