"""Paired bootstrap over rows: would other rows of the same kind have told the same story of the same trained models?"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.analysis.significance import OVERALL, Cell
from c2al.data.columns import axis_columns, axis_ids
from c2al.printable import printable
from c2al.schema import DataError, Schema

MAX_UNITS = 65_536  # more are drawn in this many random groups: as many as any interval needs
CHUNK = 8_192
AGAIN = "write the scores again: `c2al evaluate run=DIR split=…`"


def row_errors(
    pairs: Sequence[tuple[str, str]],
    *,
    schema: Schema,
    axes: Sequence[str],
    num_bootstraps: int = 500,
    seed: int = 0,
) -> dict[Cell, float]:
    """Standard errors of the mean over seeds of the relative NE difference, in percentage points: of other rows.

    ``pairs`` are (reference, arm) score files, a pair for each seed. Every seed's models are judged on the same drawn
    rows, since it is the same rows that all of them were evaluated on. A cell whose error is not defined is left out.
    """
    replicates: dict[Cell, list[np.ndarray]] = {}
    for ref, arm in pairs:
        found = _replicates(ref, arm, schema=schema, axes=axes, num_bootstraps=num_bootstraps, seed=seed)
        for cell, differences_R in found.items():
            replicates.setdefault(cell, []).append(differences_R)
    errors = {}
    for cell, by_seed in replicates.items():
        mean_R = np.mean(by_seed, axis=0)
        mean_R = mean_R[np.isfinite(mean_R)]
        if len(by_seed) == len(pairs) and len(mean_R) > 1:
            errors[cell] = float(mean_R.std(ddof=1))
    return errors


def paired_bootstrap(
    scores_ref: str,
    scores_arm: str,
    *,
    schema: Schema,
    axes: Sequence[str],
    num_bootstraps: int = 500,
    seed: int = 0,
) -> dict[Cell, tuple[float, float]]:
    """95 % intervals of one seed's relative NE difference in per cent, for all rows and each cohort.

    It covers other rows of the same kind, for these two trained models alone: the mean over seeds may lie outside.
    Cells without rows, or with rows of a single unit, are left out.
    """
    found = _replicates(scores_ref, scores_arm, schema=schema, axes=axes, num_bootstraps=num_bootstraps, seed=seed)
    ends = {cell: np.nanquantile(differences_R, [0.025, 0.975]) for cell, differences_R in found.items()}
    return {cell: (float(low), float(high)) for cell, (low, high) in ends.items()}


def _replicates(
    scores_ref: str, scores_arm: str, *, schema: Schema, axes: Sequence[str], num_bootstraps: int, seed: int
) -> dict[Cell, np.ndarray]:
    """Differences of one seed's pair on drawn rows, ``[num_bootstraps]`` a cell; NaN where a draw has no row of it.

    Whole units are drawn (a household, a user: the schema's ``unit``), or rows where there is none, with Poisson(1)
    counts (Chamandy et al. 2012, "Estimating uncertainty for massive data streams"), the same for both models and all
    cohorts. On the same rows the entropies cancel, so each replicate is a ratio of two sums of log losses, and all
    of them together are one matrix product.
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
        differences_RC = 100 * (totals_RC[..., 1] / totals_RC[..., 0] - 1)
    return {cell: differences_RC[:, i] for i, cell in enumerate(cells)}


def log_loss(logit: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Binary cross-entropy per row in float64, exact for logits of any size."""
    z = logit.astype(np.float64)
    return np.logaddexp(0, z) - label * z


def _read(path: str, cohort_columns: list[str], *, unit: bool) -> dict[str, np.ndarray]:
    return read_scores(path, ["row", "label", "weight", "logit", *cohort_columns, *(["unit"] if unit else [])])


def score_columns(path: str) -> set[str]:
    """The columns of a score file; a DataError where it does not read."""
    with _reading(path):
        return set(pq.read_schema(path).names)


def read_scores(path: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a score file, all of them finite numbers; a DataError where they are not."""
    if missing := next((name for name in names if name not in score_columns(path)), None):
        raise DataError("scores lack a column", file=path, column=missing, remedy=AGAIN)
    with _reading(path):
        table = pq.read_table(path, columns=list(names))
    if not table.num_rows:
        raise DataError("the scores hold no rows", file=path, remedy=AGAIN)
    return {name: _numbers(table, name, path) for name in names}


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError("no scores there", file=path, remedy="run `c2al evaluate run=DIR split=…` first") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the scores do not read: {printable(error)}", file=path, remedy=AGAIN) from error


def _numbers(table: pa.Table, name: str, path: str) -> np.ndarray:
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or column.null_count:
        what = f"{column.type} with nulls" if column.null_count else str(column.type)
        raise DataError("scores are numbers, and none is null", file=path, column=name, value=what, remedy=AGAIN)
    values = column.to_numpy()
    if (bad := np.flatnonzero(~np.isfinite(values))).size:
        raise DataError("a score is not finite", file=path, column=name, value=float(values[bad[0]]), remedy=AGAIN)
    return values


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
