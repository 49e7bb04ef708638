import numpy as np

from c2al.cohorts.attributes import Attribute
from c2al.cohorts.words import describe

REGION = Attribute("region", "cohort_region", ("none", "north", "south"))
SPEND = Attribute("spend", "spend")


def test_shares_and_shifts_the_strongest_first():
    ids = np.repeat([0, 1, 2, -1], 1000)
    rng = np.random.default_rng(0)
    region = np.concatenate([np.repeat([0, 1], [900, 100]), np.repeat([0, 1], [50, 950]), np.repeat([0, 1], 500)])
    values = {
        "cohort_region": np.concatenate([region, np.full(1000, -1)]),
        "spend": rng.normal(size=4000) + 5.0 * (ids == 1) + 1e6 * (ids == -1),  # rows of no cohort say nothing
    }
    first, second, third = describe(ids, num_cohorts=3, attributes=[REGION, SPEND], values=values)
    assert first == "more region=north (0.90 against 0.48 of all), spend 0.7 sd below"
    assert second == "spend 1.3 sd above, more region=south (0.95 against 0.52 of all)"
    assert third == "spend 0.7 sd below"


def test_where_nothing_differs_that_is_said():
    ids = np.arange(4000) % 2
    values = {"cohort_region": np.arange(4000) // 2 % 2}
    words = describe(ids, num_cohorts=3, attributes=[REGION], values=values, most=1)
    assert words == ["no column sets it apart"] * 3, "an empty cohort too"
