"""Cohorts by a row's own columns: a shallow tree whose cuts part the histograms of predictions the most.

Each cut takes the column and the values that give the greatest weighted Jensen-Shannon divergence between the two
sides, H(m) - Σ π_s H(p_s) with π_s a side's share of the weight: the information that the side gives about the
prediction's bin. The leaf that gains the most is cut next (best first), until there are as many as were asked for.
Values of a category are tried in the order of their mean bin, of a number in their own order, at quantiles (as CART
does for two classes: Breiman et al. 1984).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from c2al.cohorts.attributes import Attribute
from c2al.schema import DataError

_NUM_CUTS = 15
_MOST_NAMED = 8


@dataclass(frozen=True)
class Cut:
    """A question to a row: is its id among ``ids`` (a category), its number at most ``edge``? ``yes``: this side."""

    attribute: Attribute
    ids: tuple[int, ...]
    edge: float
    yes: bool

    def holds(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """For each row."""
        column = values[self.attribute.column]
        return (column <= self.edge if self.attribute.is_number else np.isin(column, self.ids)) == self.yes


@dataclass(frozen=True)
class Tree:
    """Leaves, the largest first; each is the cuts that lead to it. Every row is in one and only one."""

    leaves: tuple[tuple[Cut, ...], ...]

    def apply(self, values: Mapping[str, np.ndarray], num_rows: int) -> np.ndarray:
        """The leaf of each row, int16."""
        ids = np.zeros(num_rows, np.int16)
        for leaf, cuts in enumerate(self.leaves):
            inside = np.ones(num_rows, bool)
            for cut in cuts:
                inside &= cut.holds(values)
            ids[inside] = leaf
        return ids

    def words(self) -> list[str]:
        """Each leaf in words, like "activity at most 3.1, region not north or east"."""
        return [", ".join(_words(name, cuts) for name, cuts in _by_column(leaf)) or "all rows" for leaf in self.leaves]


def _by_column(leaf: Sequence[Cut]) -> Iterator[tuple[Attribute, list[Cut]]]:
    for attribute in dict.fromkeys(cut.attribute for cut in leaf):
        yield attribute, [cut for cut in leaf if cut.attribute == attribute]


def _words(attribute: Attribute, cuts: Sequence[Cut]) -> str:
    """All that a leaf says of one column."""
    if attribute.is_number:
        above = [cut.edge for cut in cuts if not cut.yes]
        most = [cut.edge for cut in cuts if cut.yes]
        parts = [f"above {attribute.raw(max(above))}"] if above else []
        parts += [f"at most {attribute.raw(min(most))}"] if most else []
        return f"{attribute.name} {' and '.join(parts)}"
    among = [set(cut.ids) for cut in cuts if cut.yes]
    without = set().union(*(cut.ids for cut in cuts if not cut.yes))
    ids = sorted(set.intersection(*among) - without if among else without)
    named = [attribute.labels[i + 1] for i in ids[:_MOST_NAMED]] + ["…"] * (len(ids) > _MOST_NAMED)
    return f"{attribute.name} {'' if among else 'not '}{' or '.join(named)}"


@dataclass(frozen=True)
class _Leaf:
    rows: np.ndarray
    cuts: tuple[Cut, ...]
    gain: float
    next: Cut | None


def grow(
    bins_R: np.ndarray,
    weight_R: np.ndarray,
    *,
    attributes: Sequence[Attribute],
    values: Mapping[str, np.ndarray],
    num_cohorts: int,
    least_share: float = 0.05,
) -> Tree:
    """A tree of at most ``num_cohorts`` leaves from the rows' prediction bins; no leaf under a share of the weight.

    A DataError where no column parts the rows at all.
    """
    weight_R = weight_R.astype(np.float64)
    least = least_share * weight_R.sum()
    rows = _Rows(bins_R, weight_R, values, least)
    leaves = [rows.leaf(np.arange(len(bins_R)), (), attributes)]
    while len(leaves) < num_cohorts:
        best = max(range(len(leaves)), key=lambda i: leaves[i].gain)
        cut = leaves[best].next
        if cut is None:
            break
        parent = leaves.pop(best)
        inside = {name: column[parent.rows] for name, column in values.items()}
        for side in (cut, Cut(cut.attribute, cut.ids, cut.edge, yes=False)):
            leaves.append(rows.leaf(parent.rows[side.holds(inside)], (*parent.cuts, side), attributes))
    if len(leaves) < 2:
        raise DataError(
            "no column parts the predictions",
            value=", ".join(attribute.name for attribute in attributes) or "no columns",
            remedy="learned.columns=[…]: columns with at least two frequent values",
        )
    leaves.sort(key=lambda leaf: -len(leaf.rows))
    return Tree(tuple(leaf.cuts for leaf in leaves))


class _Rows:
    """The rows that a tree grows on."""

    def __init__(self, bins: np.ndarray, weight: np.ndarray, values: Mapping[str, np.ndarray], least: float) -> None:
        self.bins, self.weight, self.values, self.least = bins, weight, values, least
        self.num_bins = int(bins.max()) + 1

    def leaf(self, rows: np.ndarray, cuts: tuple[Cut, ...], attributes: Sequence[Attribute]) -> _Leaf:
        """With the cut that it would gain the most by, if any."""
        gain, cut = max(
            (self._best(rows, each) for each in attributes), key=lambda found: found[0], default=(0.0, None)
        )
        return _Leaf(rows, cuts, gain, cut)

    def _best(self, rows: np.ndarray, attribute: Attribute) -> tuple[float, Cut | None]:
        column = self.values[attribute.column][rows]
        if attribute.is_number:
            edges = np.unique(np.quantile(column, np.arange(1, _NUM_CUTS + 1) / (_NUM_CUTS + 1)))
            code, num = np.searchsorted(edges, column, side="left"), len(edges) + 1
        else:
            code, num = column.astype(np.int64) + 1, len(attribute.labels)
        cell = code * self.num_bins + self.bins[rows]
        hist_VK = np.bincount(cell, self.weight[rows], minlength=num * self.num_bins).reshape(num, -1)
        order = np.arange(num)
        if not attribute.is_number:
            mean_V = hist_VK @ np.arange(self.num_bins) / np.maximum(hist_VK.sum(1), 1e-300)
            order = np.argsort(mean_V, kind="stable")
            order = order[hist_VK.sum(1)[order] > 0]
        left_VK = np.cumsum(hist_VK[order], axis=0)[:-1]
        gain_V = _information(left_VK, hist_VK.sum(0) - left_VK, self.least)
        if not len(gain_V) or gain_V.max() <= 0:
            return 0.0, None
        at = int(gain_V.argmax())
        if attribute.is_number:
            return float(gain_V[at]), Cut(attribute, (), float(edges[at]), yes=True)
        few = (
            min(order[: at + 1], order[at + 1 :], key=len) - 1
        )  # the side said in fewer words; what is not seen is on the other
        return float(gain_V[at]), Cut(attribute, tuple(sorted(few.tolist())), 0.0, yes=True)


def _information(left_VK: np.ndarray, right_VK: np.ndarray, least: float) -> np.ndarray:
    """Weight times the weighted Jensen-Shannon divergence; 0 where a side is too small."""
    parts = (left_VK, right_VK)
    gain_V = _entropies(left_VK + right_VK) - sum(_entropies(part) for part in parts)
    fits = np.minimum(*(part.sum(-1) for part in parts)) >= least
    return np.where(fits, gain_V, 0.0)


def _entropies(hist_VK: np.ndarray) -> np.ndarray:
    """Each histogram's weight times its entropy."""
    total = hist_VK.sum(-1)
    return total * np.log(np.maximum(total, 1e-300)) - (hist_VK * np.log(np.maximum(hist_VK, 1e-300))).sum(-1)
