"""The Complete Journey's exposures as a stream that is never built whole.

A store-week with b baskets and p promoted products is a grid of b × p exposures, numbered basket by basket. Which of
its negatives are kept is drawn from (seed, week, store) alone, so that chunks, skipped weeks and the order of the work
change nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from c2al.data.complete_journey_package import LAST_WEEK, Journey

CHUNK = 262_144


@dataclass
class Exposures:
    """Some exposures of one week, sorted by store, basket, product."""

    week: int
    basket: np.ndarray
    promotion: np.ndarray
    label: np.ndarray


def exposures(journey: Journey, *, keep_negatives: float, seed: int, last_week: int = LAST_WEEK) -> Iterator[Exposures]:
    """All positives and the kept negatives of weeks 1 to ``last_week``, in chunks that cross no week."""
    grid = journey.grid
    week_of = grid["week"]
    _, position, bounds = _positives(journey)
    for week in range(1, last_week + 1):
        baskets, promotions, labels, num_waiting = [], [], [], 0
        for cell in np.flatnonzero(week_of == week).tolist():
            num_promotions = int(grid["num_promotions"][cell])
            size = int(grid["num_baskets"][cell]) * num_promotions
            rng = np.random.default_rng([seed, week, int(journey.store_ids[grid["store"][cell]])])
            positive = position[bounds[cell] : bounds[cell + 1]]
            place = np.union1d(_kept(size, keep_negatives, rng), positive)
            label = np.zeros(len(place), dtype=np.int8)
            label[np.searchsorted(place, positive)] = 1
            baskets.append((grid["first_basket"][cell] + place // num_promotions).astype(np.int32))
            promotions.append((grid["first_promotion"][cell] + place % num_promotions).astype(np.int32))
            labels.append(label)
            num_waiting += len(place)
            if num_waiting >= CHUNK:
                yield from _chunks(week, baskets, promotions, labels)
                baskets, promotions, labels, num_waiting = [], [], [], 0
        if num_waiting:
            yield from _chunks(week, baskets, promotions, labels)


def _chunks(
    week: int, baskets: list[np.ndarray], promotions: list[np.ndarray], labels: list[np.ndarray]
) -> Iterator[Exposures]:
    basket, promotion, label = (np.concatenate(parts) for parts in (baskets, promotions, labels))
    for start in range(0, len(basket), CHUNK):
        part = slice(start, start + CHUNK)
        yield Exposures(week, basket[part], promotion[part], label[part])


def _positives(journey: Journey) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every promoted purchase its store-week and place in that grid; and where each store-week's begin and end."""
    grid, purchases = journey.grid, journey.purchases
    promoted = purchases["promotion"] >= 0
    basket, promotion = purchases["basket"][promoted], purchases["promotion"][promoted]
    cell = np.searchsorted(grid["first_promotion"], promotion, side="right") - 1
    place = (basket - grid["first_basket"][cell]) * grid["num_promotions"][cell]
    place += promotion - grid["first_promotion"][cell]
    order = np.lexsort((place, cell))
    return cell[order], place[order], np.searchsorted(cell[order], np.arange(len(grid["week"]) + 1))


def _kept(size: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Places in ``range(size)``, each kept with probability ``share``; the gaps between them are geometric."""
    if share >= 1:
        return np.arange(size)
    found = [np.empty(0, dtype=np.int64)]
    last = -1
    while last < size:
        expected = (size - last) * share
        place = last + np.cumsum(rng.geometric(share, size=int(expected + 4 * expected**0.5) + 8))
        found.append(place)
        last = int(place[-1])
    place = np.concatenate(found)
    return place[place < size]


def check_numbers(journey: Journey, splits: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Exposures, positives, baskets, store-weeks and products per split (first and last week) and of all weeks."""
    grid, (cell, _, _) = journey.grid, _positives(journey)
    promotion = ranges(grid["first_promotion"], grid["num_promotions"])
    product, week = journey.promotions["product"][promotion], np.repeat(grid["week"], grid["num_promotions"])
    numbers = {}
    for name, (first, last) in {**splits, "all": (1, LAST_WEEK)}.items():
        inside = (grid["week"] >= first) & (grid["week"] <= last)
        numbers[name] = {
            "exposures": int((grid["num_baskets"] * grid["num_promotions"])[inside].sum()),
            "positives": int(inside[cell].sum()),
            "baskets": int(grid["num_baskets"][inside].sum()),
            "store_weeks": int(inside.sum()),
            "products": int(np.count_nonzero(np.bincount(product[(week >= first) & (week <= last)]))),
        }
    return numbers


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``range(start, start + length)`` of every pair, one after the other."""
    return np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
