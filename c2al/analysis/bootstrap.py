"""Paired bootstrap within one seed: would other rows of the same kind have told the same story of these two models?"""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from c2al.analysis.significance import OVERALL, Cell
from c2al.data.columns import axis_columns, axis_ids
from c2al.schema import DataError, Schema

MAX_UNITS = 65_536  # more are drawn in this many random groups: as many as any interval needs
CHUNK = 8_192


def paired_bootstrap(
    scores_ref: str,
    scores_arm: str,
    *,
    schema: Schema,
    axes: Sequence[str],
    num_bootstraps: int = 500,
    seed: int = 0,
) -> dict[Cell, tuple[float, float]]:
    """95 % intervals of the relative NE difference in per cent, for all rows and each cohort, from two score files.

    Whole units are resampled (a household, a user: the schema's ``unit``), or rows where there is none, with Poisson(1)
    counts (Chamandy et al. 2012, "Estimating uncertainty for massive data streams"), the same for both models and all
    cohorts. On the same rows the entropies cancel, so each replicate is a ratio of two sums of log losses, and all
    of them together are one matrix product. Cells without rows, or with rows of a single unit, are left out.
    """
    axis_of = {name: schema.axis(name) for name in axes}
    stored = sorted(axis_columns(schema, axes))
    ref = _read(scores_ref, stored, unit=schema.unit is not None)
    arm = _read(scores_arm, [], unit=False)
    if not (np.array_equal(ref["row"], arm["row"]) and np.array_equal(ref["label"], arm["label"])):
        raise DataError(
            "two score files do not hold the same rows", file=scores_arm, remedy="score both runs on the same split"
        )
    rng = np.random.default_rng(seed)
    unit, num_units = _units(ref.get("unit"), len(ref["row"]), rng)
    losses = [ref["weight"] * log_loss(side["logit"], ref["label"]) for side in (ref, arm)]
    cells, sums = [OVERALL], [[np.bincount(unit, loss, minlength=num_units) for loss in losses]]
    for name, axis in axis_of.items():
        id_B = axis_ids(schema, axis, ref)
        for cohort, inside in ((cohort, id_B == i) for i, cohort in enumerate(axis.cohorts)):
            if inside.any() and np.ptp(unit[inside]):
                cells.append((name, cohort))
                sums.append([np.bincount(unit[inside], loss[inside], minlength=num_units) for loss in losses])
    sums_UC = np.array(sums).reshape(-1, num_units).T
    totals_RC = _resample(sums_UC, num_bootstraps, rng).reshape(num_bootstraps, len(cells), 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = 100 * (totals_RC[..., 1] / totals_RC[..., 0] - 1)  # a replicate without rows of a cell is NaN
    low, high = np.nanquantile(differences, [0.025, 0.975], axis=0)
    return {cell: (float(low[i]), float(high[i])) for i, cell in enumerate(cells)}


def log_loss(logit: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Binary cross-entropy per row in float64, exact for logits of any size."""
    z = logit.astype(np.float64)
    return np.logaddexp(0, z) - label * z


def _read(path: str, cohort_columns: list[str], *, unit: bool) -> dict[str, np.ndarray]:
    names = ["row", "label", "weight", "logit", *cohort_columns, *(["unit"] if unit else [])]
    try:
        known = pq.read_schema(path).names
    except FileNotFoundError:
        raise DataError("no scores there", file=path, remedy="run `c2al evaluate run=DIR split=…` first") from None
    for name in names:
        if name not in known:
            raise DataError("scores lack a column", file=path, column=name, remedy="evaluate the run again")
    table = pq.read_table(path, columns=names)
    return {name: table.column(name).to_numpy() for name in names}


def _units(unit: np.ndarray | None, num_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Number the units from 0; more than ``MAX_UNITS`` share a number at random, whole units always."""
    number = np.arange(num_rows) if unit is None else np.unique(unit, return_inverse=True)[1]
    num_units = int(number.max()) + 1
    if num_units <= MAX_UNITS:
        return number, num_units
    return (rng.permutation(num_units) % MAX_UNITS)[number], MAX_UNITS


def _resample(sums_UC: np.ndarray, num_bootstraps: int, rng: np.random.Generator) -> np.ndarray:
    totals = np.zeros((num_bootstraps, sums_UC.shape[1]))
    for start in range(0, len(sums_UC), CHUNK):
        part = sums_UC[start : start + CHUNK]
        totals += rng.poisson(1.0, (num_bootstraps, len(part))).astype(np.float64) @ part
    return totals
