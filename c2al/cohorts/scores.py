"""A run's ``scores/<split>.parquet`` for comparing cohorts: read whole, checked, binned by log-scaled prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.cohorts.axes import cross
from c2al.schema import CohortAxis, DataError, Schema

_RANGE = (0.0005, 0.9995)  # of the pooled weight; what lies beyond is in the end bins, so no outlier stretches the bins
_AGAIN = "write the scores again: `c2al evaluate run=…`"


@dataclass(frozen=True)
class Scores:
    """The rows of one split. ``ids`` are per axis asked for; ``edges`` and ``std`` in log10 of the probability."""

    label: np.ndarray
    weight: np.ndarray
    logit: np.ndarray
    probability: np.ndarray
    unit: np.ndarray | None
    ids: dict[str, np.ndarray]
    bin: np.ndarray
    edges: np.ndarray
    std: float


def read_scores(
    path: str,
    *,
    schema: Schema,
    axes: Sequence[CohortAxis],
    num_bins: int,
    learned: Mapping[str, np.ndarray] | None = None,
) -> Scores:
    """Read the columns that these axes need; a DataError names the column, and the value, that does not fit.

    ``learned`` are ids by axis, row by row, of axes that were not there when the scores were written.
    """
    learned = learned or {}
    stored = {name: schema.axis(name) for axis in axes for name in axis.crosses or (axis.name,)}
    needed = [axis.column for name, axis in stored.items() if name not in learned]
    table = _columns(path, needed, needs_unit=schema.unit is not None)
    ids = {name: _ids(table, axis, path) if name not in learned else learned[name] for name, axis in stored.items()}
    if any(len(each) != table.num_rows for each in ids.values()):
        raise DataError("the scores are of other rows than the learned cohorts", file=path, remedy=_AGAIN)
    logit, weight = (table[name].to_numpy().astype(np.float64) for name in ("logit", "weight"))
    label = table["label"].to_numpy()
    _refuse(path, "logit", logit, ~np.isfinite(logit), "the run diverged: train it again")
    _refuse(path, "weight", weight, ~(np.isfinite(weight) & (weight > 0)), "weights must be positive numbers")
    _refuse(path, "label", label, (label != 0) & (label != 1), "labels must be 0 or 1")
    log10_probability = -np.logaddexp(0.0, -logit) / np.log(10)
    edges = _edges(log10_probability, weight, num_bins=num_bins, path=path)
    return Scores(
        label=label.astype(bool),
        weight=weight,
        logit=logit,
        probability=10**log10_probability,
        unit=table["unit"].to_numpy() if "unit" in table.column_names else None,
        ids={axis.name: _of_axis(axis, ids, stored) for axis in axes},
        bin=np.clip(np.searchsorted(edges, log10_probability, side="right") - 1, 0, num_bins - 1),
        edges=edges,
        std=float(np.sqrt(np.cov(log10_probability, aweights=weight, ddof=0))),
    )


def _columns(path: str, cohorts: list[str], *, needs_unit: bool) -> pa.Table:
    try:
        with fsspec.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            there = parquet.schema_arrow.names
            wanted = ["label", "weight", "logit", *cohorts, *["unit"] * (needs_unit or "unit" in there)]
            for column in wanted:
                if column not in there:
                    remedy = f"{_AGAIN}, on data whose schema.yaml has it"
                    raise DataError("the scores lack a column", file=path, column=column, remedy=remedy)
            table = parquet.read(columns=wanted)
    except FileNotFoundError:
        raise DataError("no scores there", file=path, remedy=_AGAIN) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"the scores do not read: {error}", file=path, remedy=_AGAIN) from error
    if not table.num_rows:
        raise DataError("the scores hold no rows", file=path, remedy=_AGAIN)
    for column in wanted:
        if table[column].null_count:
            raise DataError("the scores hold nulls", file=path, column=column, remedy=_AGAIN)
    return table


def _ids(table: pa.Table, axis: CohortAxis, path: str) -> np.ndarray:
    ids = table[axis.column].to_numpy().astype(np.int64)
    _refuse(
        path,
        axis.column,
        ids,
        (ids < -1) | (ids >= len(axis.cohorts)),
        f"schema.yaml has {len(axis.cohorts)} cohorts of it: name the data that the run was trained on",
    )
    return ids


def _of_axis(axis: CohortAxis, ids: dict[str, np.ndarray], stored: dict[str, CohortAxis]) -> np.ndarray:
    if not axis.crosses:
        return ids[axis.name]
    a, b = axis.crosses
    return cross(ids[a], stored[a], ids[b], stored[b])[0].astype(np.int64)


def _edges(values: np.ndarray, weight: np.ndarray, *, num_bins: int, path: str) -> np.ndarray:
    """Equal bins over the pooled range, but for its outermost 0.05 % at either end."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    low, high = values[order][np.searchsorted(reached, np.array(_RANGE) * reached[-1])]
    if not high > low:
        raise DataError("all predictions are the same", file=path, column="logit", remedy="train the baseline first")
    return np.linspace(low, high, num_bins + 1)


def _refuse(path: str, column: str, values: np.ndarray, wrong: np.ndarray, remedy: str) -> None:
    if wrong.any():
        value = values[int(wrong.argmax())].item()
        raise DataError("bad value in the scores", file=path, column=column, value=value, remedy=remedy)
