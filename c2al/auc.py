"""The area under the ROC curve of all rows and of each cohort, exact: rows are kept, sorted, and merged over ranks.

The area is the weighted share of (positive, negative) pairs in which the positive has the higher logit; equal logits
count half. A kept row takes 8 bytes (logit and weight, the label in its sign) and 2 more for each cohort axis. At the
end rows are taken up in ranges of the logit, lowest first, about ``RANGE_ROWS`` over all ranks at a time, so that what
sorting needs besides does not grow with the data.

Past ``MAX_BYTES`` of a process (134 M rows without axes) rows are summed in bins instead. Their edges are the quantiles
of the rows until then, so that narrow logits have as many bins as wide ones. What the bins may err by is then known and
comes with the value: a bin whose logits are not all equal leaves the order of its own pairs open, which is at most
``Σ_i P_i N_i / (2 P N)``, 2e-6 with 262,144 bins of equal weight.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Gather = Callable[[Any], list[Any]]  # a value -> every rank's value, in the order of ranks

MAX_BYTES = 2**30
NUM_BINS = 2**18
RANGE_ROWS = 2**22
_SAMPLE = 2**16


def alone(value: Any) -> list[Any]:
    """Gather of a single process."""
    return [value]


class _Rows(NamedTuple):
    """``signed_R`` is the weight of a positive row, minus the weight of a negative one; ``cohorts`` are by axis."""

    logit_R: np.ndarray
    signed_R: np.ndarray
    cohorts: tuple[np.ndarray, ...]

    def at(self, chosen: np.ndarray) -> "_Rows":
        return _Rows(self.logit_R[chosen], self.signed_R[chosen], tuple(ids_R[chosen] for ids_R in self.cohorts))

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in (self.logit_R, self.signed_R, *self.cohorts))


class _Bins(NamedTuple):
    """Weights by segment, label and bin; bin i has logits over ``cut_K[i - 1]`` up to ``cut_K[i]``."""

    cut_K: np.ndarray
    weight_SLK: np.ndarray
    lowest_K: np.ndarray
    highest_K: np.ndarray


class AreaUnderCurve:
    """Takes rows, gives the area of every segment: all rows (segment 0), then each cohort of each axis in turn."""

    def __init__(self, num_cohorts_A: Sequence[int], *, max_bytes: int = MAX_BYTES, num_bins: int = 0) -> None:
        self._num_cohorts = list(num_cohorts_A)
        self._starts = [1 + sum(num_cohorts_A[:axis]) for axis in range(len(num_cohorts_A))]
        self.num_segments = 1 + sum(num_cohorts_A)
        self._cohort_type = np.int16 if max(num_cohorts_A, default=0) <= np.iinfo(np.int16).max else np.int32
        self._max_bytes = max_bytes
        self._num_bins = num_bins or min(NUM_BINS, max_bytes // (64 * self.num_segments))
        self._parts: list[_Rows] = []
        self._held = 0
        self._bins: _Bins | None = None

    def update(self, logit_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray, cohort_BA: np.ndarray) -> None:
        """Add rows. Those of weight 0, and those whose logit is NaN, have no place in the order and are left out."""
        signed_B = np.where(label_B > 0, weight_B, -weight_B)
        there_B = (weight_B > 0) & ~np.isnan(logit_B)
        cohorts = tuple(cohort_BA.T.astype(self._cohort_type, order="C"))
        rows = _Rows(logit_B + 0, signed_B, cohorts).at(there_B)  # copies, since batches are views; -0 becomes 0
        if self._bins is not None:
            self._bin(rows, self._bins)
            return
        self._parts.append(rows)
        self._held += rows.num_bytes
        if self._held > self._max_bytes:
            self._start_bins()

    def compute(self, gather: Gather = alone) -> tuple[np.ndarray, np.ndarray]:
        """Areas, and what each may err by (0 where exact), ``[S]`` each; NaN where a label is missing. Collective."""
        cuts = [cut_K for cut_K in gather(None if self._bins is None else self._bins.cut_K) if cut_K is not None]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._from_bins(cuts[0], gather) if cuts else self._exact(gather)

    def _exact(self, gather: Gather) -> tuple[np.ndarray, np.ndarray]:
        rows = self._joined()
        area_S, positive_S, negative_S = np.zeros((3, self.num_segments))
        for low, high in pairwise([None, *_range_ends(rows.logit_R, gather), None]):
            inside_R = np.ones(len(rows.logit_R), bool) if low is None else rows.logit_R > low
            if high is not None:
                inside_R &= rows.logit_R <= high
            found = _concatenated(gather(rows.at(inside_R)))
            found = found.at(_order(found.logit_R))
            for segment, chosen in self._segments(found):
                logit_R, signed_R = found.logit_R[chosen], found.signed_R[chosen].astype(np.float64)
                positive_G, negative_G = _by_value(logit_R, signed_R)
                below_G = negative_S[segment] + np.cumsum(negative_G) - negative_G / 2
                area_S[segment] += positive_G @ below_G
                positive_S[segment] += positive_G.sum()
                negative_S[segment] += negative_G.sum()
        return area_S / positive_S / negative_S, np.zeros(self.num_segments)

    def _segments(self, rows: _Rows) -> list[tuple[int, Any]]:
        """Which rows every segment has, if any, in the order given."""
        if not len(rows.logit_R):
            return []
        found: list[tuple[int, Any]] = [(0, slice(None))]
        for start, num, ids_R in zip(self._starts, self._num_cohorts, rows.cohorts, strict=True):
            order = np.argsort(ids_R, kind="stable")
            ends = np.cumsum(np.bincount(ids_R.astype(np.int64) + 1, minlength=num + 1)).tolist()
            found += [(start + i, order[begin:end]) for i, (begin, end) in enumerate(pairwise(ends)) if begin < end]
        return found

    def _joined(self) -> _Rows:
        if len(self._parts) != 1:
            empty = np.empty(0, np.float32)
            none = _Rows(empty, empty, tuple(np.empty(0, np.int16) for _ in self._starts))
            self._parts = [_concatenated(self._parts) if self._parts else none]
        return self._parts[0]

    def _start_bins(self) -> None:
        rows = self._joined()
        sorted_R = np.sort(rows.logit_R)
        distinct_R = sorted_R[np.concatenate([[True], sorted_R[1:] != sorted_R[:-1]])]
        quantiles = np.linspace(0, len(sorted_R) - 1, self._num_bins).astype(np.int64)
        cut_K = distinct_R if len(distinct_R) <= self._num_bins else np.unique(sorted_R[quantiles])
        num = len(cut_K) + 1
        self._bins = _Bins(cut_K, np.zeros((self.num_segments, 2, num)), np.full(num, np.inf), np.full(num, -np.inf))
        self._bin(rows, self._bins)
        self._parts, self._held = [], 0

    def _bin(self, rows: _Rows, bins: _Bins) -> None:
        bin_R = np.searchsorted(bins.cut_K, rows.logit_R)
        np.minimum.at(bins.lowest_K, bin_R, rows.logit_R)
        np.maximum.at(bins.highest_K, bin_R, rows.logit_R)
        label_R, weight_R = (rows.signed_R > 0).astype(np.int64), np.abs(rows.signed_R).astype(np.float64)
        np.add.at(bins.weight_SLK[0], (label_R, bin_R), weight_R)
        for start, ids_R in zip(self._starts, rows.cohorts, strict=True):
            cohort_R = ids_R.astype(np.int64)
            there_R = cohort_R >= 0
            cell = (start + cohort_R[there_R], label_R[there_R], bin_R[there_R])
            np.add.at(bins.weight_SLK, cell, weight_R[there_R])

    def _from_bins(self, cut_K: np.ndarray, gather: Gather) -> tuple[np.ndarray, np.ndarray]:
        """All ranks' bins brought to one rank's edges; a bin that spans several of them lies in any of these."""
        if self._bins is None:
            rows, num = self._joined(), len(cut_K) + 1
            empty = np.full(num, np.inf)
            own = _Bins(cut_K, np.zeros((self.num_segments, 2, num)), empty, -empty)
            self._bin(rows, own)
        else:
            own = self._bins
        filled = own.lowest_K <= own.highest_K
        ends_2K = np.stack([np.searchsorted(cut_K, end_K[filled]) for end_K in (own.lowest_K, own.highest_K)])
        num = len(cut_K) + 1
        lowest_K, highest_K = np.full(num, np.inf), np.full(num, -np.inf)
        np.minimum.at(lowest_K, ends_2K, own.lowest_K[filled][None])
        np.maximum.at(highest_K, ends_2K, own.highest_K[filled][None])
        one_value_K = np.min(gather(lowest_K), axis=0) >= np.max(gather(highest_K), axis=0)
        area_S, error_S = np.zeros((2, self.num_segments))
        for segment, weight_LK in enumerate(own.weight_SLK[:, :, filled]):
            placed = np.array([[np.bincount(end_K, side_K, num) for side_K in weight_LK] for end_K in ends_2K])
            (negative_low, positive_low), (negative_high, positive_high) = np.sum(gather(placed), axis=0)
            total = positive_low.sum(), negative_low.sum()
            most = _area(positive_high, negative_low, np.where(one_value_K, 0.5, 1.0)) / total[0] / total[1]
            least = _area(positive_low, negative_high, np.where(one_value_K, 0.5, 0.0)) / total[0] / total[1]
            area_S[segment], error_S[segment] = (most + least) / 2, (most - least) / 2
        return area_S, error_S


def _area(positive_K: np.ndarray, negative_K: np.ndarray, tie_K: np.ndarray) -> float:
    return float(positive_K @ (np.cumsum(negative_K) - negative_K) + positive_K @ (negative_K * tie_K))


def _by_value(logit_R: np.ndarray, signed_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the positives and of the negatives of each distinct logit; rows are sorted by it."""
    sides = (np.maximum(signed_R, 0), np.maximum(-signed_R, 0))
    first_G = np.flatnonzero(np.concatenate([[True], logit_R[1:] != logit_R[:-1]]))
    if len(first_G) == len(logit_R):
        return sides
    positive_G, negative_G = (np.add.reduceat(side_R, first_G) for side_R in sides)
    return positive_G, negative_G


def _concatenated(parts: Sequence[_Rows]) -> _Rows:
    logits, weights, cohorts = zip(*parts, strict=True)
    by_axis = tuple(np.concatenate(ids) for ids in zip(*cohorts, strict=True))
    return _Rows(np.concatenate(logits), np.concatenate(weights), by_axis)


def _order(logit_R: np.ndarray) -> np.ndarray:
    """``np.argsort``, for float32 by one sort of whole numbers (bits in the order of the values, then the place)."""
    if logit_R.dtype != np.float32 or len(logit_R) >= 2**32:
        return np.argsort(logit_R, kind="stable")
    bits_R = logit_R.view(np.uint32)
    key_R = np.where(bits_R >> 31, ~bits_R, bits_R | np.uint32(1 << 31))
    packed_R = (key_R.astype(np.uint64) << np.uint64(32)) | np.arange(len(key_R), dtype=np.uint64)
    packed_R.sort()
    return (packed_R & np.uint64(2**32 - 1)).astype(np.int64)


def _range_ends(logit_R: np.ndarray, gather: Gather) -> list[float]:
    """Logits that part all ranks' rows into ranges of about ``RANGE_ROWS``, the same on every rank."""
    total = sum(gather(len(logit_R)))
    num = -(-total // RANGE_ROWS)
    if num < 2:
        return []
    sample = np.sort(np.concatenate(gather(logit_R[:: max(1, total // _SAMPLE)])))
    return np.unique(sample[np.linspace(0, len(sample) - 1, num + 1).astype(np.int64)[1:-1]]).tolist()
