"""A column in, cohort ids out: categories, quantiles, crossed axes; the same rule again for new rows.

An id of -1 means that the row is in no cohort of the axis: a value that the axis was not made for. Ids are int16.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from c2al.schema import CohortAxis, DataError, Schema

OTHER, UNKNOWN = "other", "unknown"
Values: TypeAlias = np.ndarray | pa.Array | pa.ChunkedArray
_TAILS = (0.05, 0.25, 0.5, 0.75, 0.95)


def category(values: Values, *, name: str, max_cohorts: int = 20) -> tuple[np.ndarray, CohortAxis]:
    """One cohort for each value; past ``max_cohorts`` of them the rarest share "other"; nulls and NaN are "unknown".

    Values are named by their text (1.0 and 1 alike are "1"). Numbers, and strings that all hold one ("18-24", "56+"),
    keep their natural order; other strings come most frequent first. "other" and "unknown" come last, and only where
    there are such rows; ``max_cohorts`` counts "other" and not "unknown". A value that is itself called "other" or
    "unknown" joins them.
    """
    if max_cohorts < 2:
        raise DataError("a category axis needs two cohorts or more", value=max_cohorts, remedy="raise max_cohorts")
    codes, texts = _distinct(values, name)
    num_rows = np.bincount(codes[codes >= 0], minlength=len(texts))
    counts: dict[str, int] = {}
    for text, count in zip(texts, num_rows.tolist(), strict=True):
        counts[text] = counts.get(text, 0) + count
    unknown = bool((codes < 0).any()) or UNKNOWN in counts
    other = counts.pop(OTHER, 0)
    counts.pop(UNKNOWN, None)
    frequent = sorted(counts, key=lambda text: (-counts[text], text))
    if len(counts) + (other > 0) > max_cohorts:
        frequent, other = frequent[: max_cohorts - 1], 1
    natural = all(re.search(r"\d", text) for text in frequent)
    named = sorted(frequent, key=_natural) if natural else frequent
    axis = CohortAxis(name, (*named, *[OTHER] * (other > 0), *[UNKNOWN] * unknown))
    if not axis.cohorts:
        raise DataError("no rows to make a cohort axis from", column=name, remedy="check that the split is not empty")
    return _by_name(codes, texts, axis), axis


def quantile(
    values: np.ndarray,
    *,
    name: str,
    cuts: Sequence[float] = _TAILS,
    reference: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, CohortAxis]:
    """Cohorts by rank: "bottom 5%", "5-25%", …, "top 5%"; nulls and NaN are "unknown".

    An edge is the smallest value v of ``reference`` (default: ``values``) with F(v) ≥ cut, F its weighted distribution;
    ``weights`` belong to the reference. A cohort holds its upper edge: equal values are never parted. Where ties make
    two edges equal the lower cut goes (three in four rows at 0: "bottom 50%", "50-75%" become "bottom 75%"), and an
    edge at the greatest value goes too, since nothing lies above it. Shares in names are the cuts: with ties a cohort
    holds more than its name says.
    """
    if not cuts or any(not 0 < cut < 1 for cut in cuts) or any(a >= b for a, b in pairwise(cuts)):
        raise DataError(
            "quantile cuts must rise strictly between 0 and 1", column=name, value=list(cuts), remedy="fix cuts"
        )
    numbers = _numbers(values, name)
    known = numbers if reference is None else _numbers(reference, name)
    shares = np.ones(len(known)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(shares) != len(known):
        raise DataError(
            f"{len(shares)} weights for {len(known)} values", column=name, remedy="weights belong to the reference rows"
        )
    edges = _edges(known, shares, cuts, name)
    unknown = bool(np.isnan(numbers).any() or np.isnan(known).any())
    cohorts = (*_quantile_names(list(edges)), *[UNKNOWN] * unknown)
    axis = CohortAxis(name, cohorts, kind="quantile", edges=tuple(edges.values()))
    return apply(axis, numbers), axis


def cross(
    ids_a: np.ndarray, axis_a: CohortAxis, ids_b: np.ndarray, axis_b: CohortAxis
) -> tuple[np.ndarray, CohortAxis]:
    """Every cohort of a with every cohort of b, as ``Schema.axis("a_x_b")`` numbers them: id_a * C_b + id_b, or -1."""
    axis = Schema(name="", label="", sparse=(), axes=(axis_a, axis_b)).axis(f"{axis_a.name}_x_{axis_b.name}")
    if len(axis.cohorts) > np.iinfo(np.int16).max:
        raise DataError(
            f"{len(axis.cohorts)} crossed cohorts are more than int16 holds",
            value=axis.name,
            remedy="cross axes with fewer cohorts (max_cohorts, cuts)",
        )
    a, b = np.asarray(ids_a, dtype=np.int64), np.asarray(ids_b, dtype=np.int64)
    return np.where((a < 0) | (b < 0), -1, a * len(axis_b.cohorts) + b).astype(np.int16), axis


def apply(axis: CohortAxis, values: Values) -> np.ndarray:
    """Ids of new rows by an axis made before: the same edges or names. A new category goes to "other", else to -1.

    Nulls go to "unknown", else to -1.
    """
    if axis.kind == "quantile":
        numbers = _numbers(values, axis.name)
        ids = np.searchsorted(np.asarray(axis.edges), numbers, side="left")  # right-closed: an edge is in the lower one
        ids[np.isnan(numbers)] = axis.cohorts.index(UNKNOWN) if UNKNOWN in axis.cohorts else -1
        return ids.astype(np.int16)
    if axis.kind == "category":
        return _by_name(*_distinct(values, axis.name), axis)
    raise DataError(
        f"an axis of kind {axis.kind} has no rule for single values",
        value=axis.name,
        remedy="apply the axes that it crosses, then cross()",
    )


def _distinct(values: Values, name: str) -> tuple[np.ndarray, list[str]]:
    """Codes (-1 for null) into the distinct values' texts; two values may have the same text."""
    try:
        arrow = pa.array(values, from_pandas=True) if isinstance(values, np.ndarray) else values
        encoded = arrow.dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"a cohort axis needs values of one type: {error}", column=name, remedy="cast the column to string"
        ) from error
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    if pa.types.is_null(encoded.type.value_type):  # no value at all
        return np.full(len(encoded), -1, np.int64), []
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [_text(value) for value in encoded.dictionary.to_pylist()]


def _by_name(codes: np.ndarray, texts: list[str], axis: CohortAxis) -> np.ndarray:
    id_of = {cohort: i for i, cohort in enumerate(axis.cohorts)}
    missing, unknown = id_of.get(OTHER, -1), id_of.get(UNKNOWN, -1)
    lookup = [id_of.get(text, missing) for text in texts]
    return np.array([*lookup, unknown], dtype=np.int16)[codes]  # code -1 reads the last: unknown


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip() or UNKNOWN


def _natural(text: str) -> tuple[float, bool, str]:
    """Order of "Under 15K", "15-24K", "25-34K", "250K+", and of plain numbers, negative ones too."""
    number = re.search(r"^-?\d+\.?\d*(?:e[+-]?\d+)?|\d+\.?\d*", text)
    below = re.match(r"\s*(<|under|below|less)", text, re.IGNORECASE)
    return float(number[0]) if number else 0.0, below is None, text


def _numbers(values: Values, name: str) -> np.ndarray:
    try:
        return np.asarray(values).astype(np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise DataError(
            f"a quantile axis needs numbers: {error}", column=name, remedy="make it a category axis"
        ) from error


def _edges(known: np.ndarray, shares: np.ndarray, cuts: Sequence[float], name: str) -> dict[float, float]:
    """Edge by cut; of equal edges the last cut stays, and none at the greatest value."""
    there = ~np.isnan(known)
    known, shares = known[there], shares[there]
    if not len(known) or not np.all(shares >= 0) or shares.sum() <= 0:
        raise DataError(
            "nothing to take quantiles of", column=name, remedy="check for an all-null column, zero weights"
        )
    order = np.argsort(known, kind="stable")
    ranked, reached = known[order], np.cumsum(shares[order])
    # The tolerance keeps 0.3 of ten rows at the third, though 0.1 + 0.1 + 0.1 > 0.3 in floating point.
    places = np.searchsorted(reached, (np.asarray(cuts) - 1e-12) * reached[-1])
    cut_of = {float(ranked[place]): float(cut) for cut, place in zip(cuts, places, strict=True)}
    greatest = ranked[shares[order] > 0][-1]
    return {cut: edge for edge, cut in cut_of.items() if edge < greatest}


def _quantile_names(cuts: list[float]) -> list[str]:
    if not cuts:
        return ["all"]
    percents = [f"{100 * cut:g}" for cut in cuts]
    between = [f"{a}-{b}%" for a, b in pairwise(percents)]
    return [f"bottom {percents[0]}%", *between, f"top {100 * (1 - cuts[-1]):g}%"]
