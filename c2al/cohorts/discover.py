"""A baseline's scores in, ranked pairs of cohorts out: whose predictions differ most, and how sure that is.

The paper (arXiv 2510.02215) compares the histograms of log-scaled predictions of the cohorts of an axis and takes the
most divergent pair. Divergence alone does not suffice: it grows as cohorts shrink. So each pair comes with its sizes,
an interval, and a p value corrected over all pairs of all axes (``c2al.cohorts.resampling`` says of which null
hypothesis), and pairs that may be chance are ranked under those that are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from c2al.cohorts import resampling
from c2al.cohorts.borne_out import borne_out
from c2al.cohorts.divergence import DIVERGENCES, named, of_shift
from c2al.cohorts.pairs import Discovery, Pair, Side, load_pair
from c2al.cohorts.scores import Scores, read_scores
from c2al.schema import CohortAxis, DataError, Schema

__all__ = ["Discovery", "Pair", "Side", "discover", "load_pair"]

MIN_UNITS = 10  # effective ones: a handful of households says nothing of a cohort
_NUM_HISTOGRAMS = 5
_MAX_CELLS = 2**25  # float64: 256 MiB


@dataclass(frozen=True)
class _Settings:
    divergence: str
    num_bins: int
    min_rows: int
    min_positives: int
    num_permutations: int
    num_bootstraps: int
    seed: int
    alpha: float
    negligible: float
    min_units: int = MIN_UNITS


@dataclass(frozen=True)
class _Found:
    """A pair and its two histograms, and what is judged of it when all axes are through.

    ``tail_p`` is the p value with its fitted tail, which Holm's correction needs (``c2al.cohorts.resampling``).
    """

    pair: Pair
    histogram: dict[str, Any]
    tail_p: float
    drawn_N: np.ndarray


def discover(
    *,
    scores: str,
    schema: Schema,
    axes: Sequence[str],
    learned: Mapping[str, np.ndarray] | None = None,
    divergence: str = "js",
    num_bins: int = 50,
    min_rows: int = 1000,
    min_positives: int = 20,
    num_permutations: int = 999,
    num_bootstraps: int = 200,
    seed: int = 0,
    alpha: float = 0.05,
    negligible: float = 0.1,
) -> Discovery:
    """Compare all pairs of large enough cohorts of every axis, crossed ones (``a_x_b``) too.

    ``scores`` is a run's ``scores/<split>.parquet``. A cohort takes part from ``min_rows`` rows, ``min_positives``
    positives and ten effective units on (households, users; rows where there is no unit column); a DataError where no
    two do. The same seed gives the same result, whatever other axes are asked for.

    A pair's interval is one of those of all pairs, which hold at once with 95 % confidence (``1 - alpha``; Bonferroni
    over bootstraps of units); it starts at 0 where Holm's p over all pairs is above ``alpha``. The pair is significant
    where the whole interval lies over ``least``, what a shift of all predictions by ``negligible`` standard deviations
    would give. Not to be chance would not do: that speaks of the rows and not of the training, and every trained model
    has fitted some noise to every cohort. On synthetic rows without contrast a logistic regression (320,000 rows) did
    so by 0.05 standard deviations, with Holm's p at 0.004. No p value is reported below what the permutations can show.

    A pair of an axis that was learned from a model, on other rows than these, or of one crossed with it, must also be
    borne out by the labels (``c2al.cohorts.borne_out``): the share that surely is, at ``alpha`` over all such pairs, is
    what is left of the predicted difference to be compared. ``learned`` are ids by axis and row, where the scores were
    written before the axis was learned.
    """
    _check("num_bins", num_bins, least=2, most=1000)
    _check("num_permutations", num_permutations, least=19, most=1_000_000)
    _check("num_bootstraps", num_bootstraps, least=20, most=1_000_000)
    _check("alpha", alpha, least=1e-9, most=0.5)
    _check("negligible", negligible, least=0, most=10)
    chosen = [schema.axis(name) for name in dict.fromkeys(axes)]
    named(divergence, centres=np.zeros(num_bins))  # refuses an unknown name before anything is read
    settings = _Settings(
        divergence=divergence,
        num_bins=num_bins,
        min_rows=min_rows,
        min_positives=min_positives,
        num_permutations=num_permutations,
        num_bootstraps=num_bootstraps,
        seed=seed,
        alpha=alpha,
        negligible=negligible,
    )
    read = read_scores(scores, schema=schema, axes=chosen, num_bins=num_bins, learned=learned)
    found: list[_Found] = []
    left_out: list[dict[str, Any]] = []
    for axis in chosen:
        found += _compare(read, axis, settings, left_out)
    if not found:
        raise DataError(
            f"no axis has two cohorts of {min_rows:,} rows, {min_positives:,} positives and {MIN_UNITS} units or more",
            file=scores,
            value="; ".join(f"{x['axis']} {x['cohort']}: {x['rows']:,} rows" for x in left_out[:4]) or "none",
            remedy="lower min_rows or min_positives, or choose coarser axes",
        )
    found = _borne_out(found, read, [axis for axis in chosen if _learned(axis, schema)], settings)
    least = of_shift(divergence, shift=negligible, std=read.std)
    ranked = _rank(found, read.std, settings)
    return Discovery(
        axes=tuple(axis.name for axis in chosen),
        divergence=divergence,
        rows=len(read.label),
        pairs=tuple(one.pair for one in ranked),
        bins=tuple(read.edges.tolist()),
        histograms=tuple(one.histogram for one in ranked[:_NUM_HISTOGRAMS]),
        left_out=tuple(left_out),
        words={
            part.name: dict(zip(part.cohorts, part.words, strict=True))
            for axis in chosen
            for part in _learned(axis, schema)
        },
        settings={**asdict(settings), "least": least, "unit": "row" if read.unit is None else (schema.unit or "unit")},
    )


def _check(name: str, value: float, *, least: float, most: float) -> None:
    if not least <= value <= most:
        raise DataError(f"{name} is out of range", value=value, remedy=f"choose it from {least:g} to {most:g}")


def _compare(read: Scores, axis: CohortAxis, settings: _Settings, left_out: list[dict[str, Any]]) -> list[_Found]:
    """All pairs of one axis, p not corrected yet; cohorts too small to compare are added to ``left_out``."""
    rng = np.random.default_rng([settings.seed, *axis.name.encode()])
    sides = _sides(read, axis)
    few = {cohort: _too_few(side, settings) for cohort, side in sides.items()}
    left_out += [
        {"axis": axis.name, "cohort": side.name, "rows": side.rows, "positives": side.positives, "why": few[cohort]}
        for cohort, side in sides.items()
        if few[cohort]
    ]
    large = [cohort for cohort in sides if not few[cohort]]
    if len(large) < 2:
        return []
    cells_GCK = _cells(read, axis, large, settings.num_bins, rng)
    hist_CK = cells_GCK.sum(0)
    flips_RCK = resampling.sign_flips(cells_GCK, num=settings.num_permutations, rng=rng)
    draws_NCK = resampling.bootstraps(cells_GCK, num=settings.num_bootstraps, rng=rng)
    found = []
    for pair in combinations(range(len(large)), 2):
        two = sorted(pair, key=lambda c: -sides[large[c]].mean_prediction)
        head, tail = (sides[large[c]] for c in two)
        arrays = (hist_CK[two], flips_RCK[:, two], draws_NCK[:, two])
        found.append(_pair(axis.name, head, tail, arrays, read.edges, settings))
    return found


def _sides(read: Scores, axis: CohortAxis) -> dict[int, Side]:
    """The cohorts that have rows, by id."""
    ids, num_cohorts = read.ids[axis.name], len(axis.cohorts)
    there = ids >= 0
    ids, weight, label = ids[there], read.weight[there], read.label[there]

    def total(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(ids, weights=values, minlength=num_cohorts)

    rows, sums, positives = total(None), total(weight), total(label)
    positive, predicted = total(weight * label), total(weight * read.probability[there])
    units = resampling.effective_units(weight, ids, None if read.unit is None else read.unit[there], num_cohorts)
    return {
        c: Side(
            name=axis.cohorts[c],
            rows=int(rows[c]),
            units=float(units[c]),
            weight=float(sums[c]),
            positives=int(positives[c]),
            positive_rate=float(positive[c] / sums[c]),
            mean_prediction=float(predicted[c] / sums[c]),
        )
        for c in np.flatnonzero(rows).tolist()
    }


def _too_few(side: Side, settings: _Settings) -> str:
    if side.rows < settings.min_rows:
        return f"fewer than {settings.min_rows:,} rows"
    if side.positives < settings.min_positives:
        return f"fewer than {settings.min_positives:,} positives"
    return f"{side.units:.1f} effective units, not {settings.min_units}" if side.units < settings.min_units else ""


def _cells(read: Scores, axis: CohortAxis, cohorts: list[int], num_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Weighted histograms by (unit, cohort): [G, C, K]; past a number of units they are folded together at random."""
    position = np.full(len(axis.cohorts) + 1, -1)  # the last one is read by id -1
    position[cohorts] = np.arange(len(cohorts))
    at = position[read.ids[axis.name]]
    rows = np.flatnonzero(at >= 0)
    most = int(np.clip(_MAX_CELLS // (len(cohorts) * num_bins), 256, resampling.MAX_UNITS))
    group = resampling.fold(None if read.unit is None else read.unit[rows], len(rows), rng=rng, most=most)
    shape = (int(group.max()) + 1, len(cohorts), num_bins)
    cell = np.ravel_multi_index((group, at[rows], read.bin[rows]), shape)
    return np.bincount(cell, weights=read.weight[rows], minlength=int(np.prod(shape))).reshape(shape)


def _pair(
    axis: str,
    head: Side,
    tail: Side,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    edges: np.ndarray,
    settings: _Settings,
) -> _Found:
    hist_2K, flips_R2K, draws_N2K = arrays
    centres = (edges[1:] + edges[:-1]) / 2
    measure = named(settings.divergence, centres=centres)
    divergences = {name: float(named(name, centres=centres)(*hist_2K)) for name in DIVERGENCES}
    observed = divergences[settings.divergence]
    pooled_K = resampling.pooled(hist_2K, np.array([head.units, tail.units]))
    null_R = resampling.null_divergences(hist_2K, flips_R2K, pooled_K, measure)
    shares_2K = hist_2K / hist_2K.sum(-1, keepdims=True)
    tail_p = _p(hist_2K, flips_R2K, pooled_K, centres, min(head.units, tail.units), settings.divergence)
    pair = Pair(
        axis=axis,
        head=head,
        tail=tail,
        divergences=divergences,
        excess=observed - float(null_R.mean()),
        interval=(0.0, observed),
        p=max(tail_p, resampling.least_shown(settings.num_permutations)),
        p_holm=1.0,
        significant=False,
    )
    histogram = {"axis": axis, "head": shares_2K[0].tolist(), "tail": shares_2K[1].tolist()}
    return _Found(pair, histogram, tail_p, measure(draws_N2K[:, 0], draws_N2K[:, 1]))


def _p(
    hist_2K: np.ndarray,
    flips_R2K: np.ndarray,
    pooled_K: np.ndarray,
    centres: np.ndarray,
    units: float,
    divergence: str,
) -> float:
    """The test's p value, on bins joined so that none is sparse."""
    starts = resampling.dense_bins(pooled_K, units=units)
    hist, flips, share = (np.add.reduceat(x, starts, axis=-1) for x in (hist_2K, flips_R2K, pooled_K))
    middles = np.add.reduceat(centres, starts) / np.diff([*starts, len(centres)])
    measure = named(divergence, centres=middles)
    return resampling.p_value(
        float(measure(*hist)), resampling.null_divergences(hist, flips, share, measure), units=units
    )


def _learned(axis: CohortAxis, schema: Schema) -> list[CohortAxis]:
    """The learned axes in an axis: itself, or of those that it crosses."""
    return [each for each in map(schema.axis, axis.crosses or (axis.name,)) if each.kind == "learned"]


def _borne_out(found: list[_Found], read: Scores, axes: Sequence[CohortAxis], settings: _Settings) -> list[_Found]:
    """Ask the labels about the pairs of learned axes; the lower bounds hold for all of them at once (Bonferroni)."""
    by_name = {axis.name: axis for axis in axes}
    num = sum(one.pair.axis in by_name for one in found)
    errors = float(stats.norm.ppf(1 - settings.alpha / max(1, num)))
    asked = []
    for one in found:
        if axis := by_name.get(one.pair.axis):
            ids, head = read.ids[axis.name], axis.id_of(one.pair.head.name)
            rows = np.flatnonzero((ids == head) | (ids == axis.id_of(one.pair.tail.name)))
            unit = None if read.unit is None else read.unit[rows]
            share, error = borne_out(read.logit[rows], read.label[rows], read.weight[rows], unit, ids[rows] == head)
            one = replace(one, pair=replace(one.pair, borne_out=(share, share - errors * error)))
        asked.append(one)
    return asked


def _rank(found: list[_Found], std: float, settings: _Settings) -> list[_Found]:
    """Judge all pairs of all axes together; the significant ones first, each part by the divergence."""
    tested = []
    for one, p in zip(found, resampling.holm(np.array([one.tail_p for one in found])).tolist(), strict=True):
        observed = one.pair.divergences[settings.divergence]
        borne = min(one.pair.borne_out[1], 1.0) if one.pair.borne_out else 1.0
        shift = settings.negligible / borne if borne > 0 else np.inf
        least = of_shift(settings.divergence, shift=shift, std=std) if borne > 0 else None
        low, high = resampling.simultaneous(observed, one.drawn_N, alpha=settings.alpha, num=len(found))
        low = low if p <= settings.alpha else 0.0
        pair = replace(
            one.pair,
            interval=(low, high),
            p_holm=max(p, one.pair.p),
            least=least,
            significant=least is not None and low > least,
        )
        tested.append(replace(one, pair=pair))
    return sorted(tested, key=lambda one: (not one.pair.significant, -one.pair.divergences[settings.divergence]))
