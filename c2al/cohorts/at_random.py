"""Cohorts that mean nothing, of the sizes of two that do: a control for what an auxiliary head does whatever it is of.

A unit (user, household) is hashed with a seed to a number in [0, 1); the head is what lies below one edge, the tail
what lies between it and the next. So a unit is whole in one cohort, as with real ones, and membership needs no table:
any row of any split finds its cohort from its unit. Where the data has no unit, rows are hashed by their number.
"""

from dataclasses import dataclass

import numpy as np

from c2al.schema import CohortAxis

HEAD, TAIL = "random head", "random tail"


@dataclass(frozen=True)
class RandomAxis(CohortAxis):
    """Ids come from units (``assign``), not from a stored column; ``edges`` are the upper ends of the two cohorts."""

    seed: int = 0


def random_axis(unit_R: np.ndarray, *, head_rows: int, tail_rows: int, seed: int) -> RandomAxis:
    """An axis whose two cohorts have at most these numbers of the rows given, and miss them by less than a unit."""
    place_R = np.sort(_places(unit_R, seed))
    first = _edge(place_R, head_rows)
    second = _edge(place_R, int(np.searchsorted(place_R, first)) + tail_rows)
    return RandomAxis("random", (HEAD, TAIL), kind="random", edges=(first, second), seed=seed)


def assign(unit_R: np.ndarray, axis: RandomAxis) -> np.ndarray:
    """Cohort ids, int16: 0, 1, or -1 for the rest."""
    id_R = np.searchsorted(np.asarray(axis.edges), _places(unit_R, axis.seed), side="right")
    return np.where(id_R < len(axis.cohorts), id_R, -1).astype(np.int16)


def _edge(place_R: np.ndarray, rows: int) -> float:
    """The place under which at most that many rows lie; all rows of a unit have one place."""
    return float(place_R[rows]) if rows < len(place_R) else 1.0


def _places(unit_R: np.ndarray, seed: int) -> np.ndarray:
    """In [0, 1), by the finaliser of SplitMix64 (Steele, Lea and Flood 2014) on (seed, unit)."""
    with np.errstate(over="ignore"):
        x = np.asarray(unit_R).astype(np.int64).view(np.uint64)
        x = x + np.uint64((0x9E3779B97F4A7C15 * (2 * seed + 1)) % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
