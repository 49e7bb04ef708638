"""Planted truth: cohorts whose interactions are known to differ, or, with ``contrast=0``, known not to.

``synthetic_world`` says how rows come about. They come in chunks drawn from (seed, chunk) alone, so memory is constant,
and fewer rows are a prefix of more.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from c2al.cohorts import axes
from c2al.data.prepared_folder import prepared_folder
from c2al.data.synthetic_world import (
    CHUNK,
    DEVICES,
    NUM_BRANDS,
    NUM_CATEGORIES,
    NUM_ITEMS,
    NUM_TASTES,
    PAIR,
    REGIONS,
    SEGMENTS,
    World,
    draw,
    make_world,
)
from c2al.data.writer import write_splits
from c2al.schema import SPLITS, CohortAxis, DataError, DenseColumn, Schema, SparseColumn

DENSE = (  # constants of the generator, so that no pass over the rows is needed
    DenseColumn("price", "log1p", mean=2.35, std=0.74),
    DenseColumn("recency", "log1p", mean=1.72, std=0.86),
    DenseColumn("activity", "log1p", mean=1.15, std=0.52),
)


def prepare(
    *,
    to: str,
    rows: int = 400_000,
    contrast: float = 1.0,
    seed: int = 0,
    num_users: int = 20_000,
    positive_rate: float = 0.1,
    history: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Schema:
    """Write a prepared folder of ``rows`` rows: the first 80 % train, then 10 % validation, 10 % test.

    With ``history`` = L there is a column ``recent_items`` of the last items, at most L, oldest first, whose order
    matters; other columns are the same, and labels are others.

    ``notes["planted_pair"]`` names the axis, the head (the higher mean prediction) and the tail;
    ``notes["bayes_ne"][split]`` is ``{"overall": …, "cohorts": {axis: {cohort: …}}}``, the normalized entropy that the
    true probabilities reach on these very rows, which no model beats but by luck; ``notes["bayes_log_loss"]`` likewise.
    ``progress(done, all)`` counts rows.
    """
    _check(rows=rows, seed=seed, contrast=contrast, num_users=num_users, positive_rate=positive_rate, history=history)
    world = make_world(seed=seed, num_users=num_users, contrast=contrast, positive_rate=positive_rate, history=history)
    schema = _schema(world)
    bayes = {split: _Bayes() for split in SPLITS}
    with prepared_folder(to, overwrite=overwrite) as folder:
        stream = _splits(world, rows=rows, seed=seed, bayes=bayes, progress=progress)
        schema.splits.update(write_splits(folder, stream, label="label", weight=None))
        schema.notes.update(
            planted_pair={**PAIR},
            contrast=float(contrast),
            seed=seed,
            history=history,
            bayes_ne={split: bayes[split].report("ne") for split in SPLITS},
            bayes_log_loss={split: bayes[split].report("log_loss") for split in SPLITS},
        )
        schema.save(folder)
    return schema


def _splits(
    world: World, *, rows: int, seed: int, bayes: dict[str, "_Bayes"], progress: Callable[[int, int], None] | None
) -> Iterator[tuple[str, pa.Table]]:
    cuts = (0, rows * 8 // 10, rows * 9 // 10, rows)
    for chunk, start in enumerate(range(0, rows, CHUNK)):
        columns, probability = draw(world, seed=seed, chunk=chunk)
        table = _table(world, columns)
        for split, first, last in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
            part = slice(min(max(first - start, 0), CHUNK), min(max(last - start, 0), CHUNK))
            bayes[split].update(probability[part], columns["label"][part], columns["segment"][part])
            yield split, table.slice(part.start, part.stop - part.start)
        if progress:
            progress(min(start + CHUNK, rows), rows)


def _table(world: World, columns: dict[str, np.ndarray]) -> pa.Table:
    out = {column.name: columns[column.name].astype(np.int32) + 1 for column in _sparse(world) if not column.multi}
    table = pa.table(out)
    table = table.append_column("recent_categories", _lists(columns["recent"], columns["num_recent"]))
    if world.history:
        table = table.append_column("recent_items", _lists(columns["items"], columns["num_items"]))
    for dense in DENSE:
        values = (np.log1p(columns[dense.name]) - dense.mean) / dense.std
        table = table.append_column(dense.name, pa.array(values.astype(np.float32)))
    for name in ("segment", "region", "device"):
        table = table.append_column(f"cohort_{name}", pa.array(columns[name].astype(np.int16)))
    table = table.append_column("cohort_activity", pa.array(axes.apply(world.activity, columns["activity"])))
    table = table.append_column("unit", pa.array(columns["user"].astype(np.int32)))
    return table.append_column("label", pa.array(columns["label"].astype(np.int8)))


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """The first ``lengths`` of each row's values, as ids."""
    kept = values[np.arange(values.shape[1]) < lengths[:, None]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, kept.astype(np.int32) + 1)


def _sparse(world: World) -> tuple[SparseColumn, ...]:
    num_values = {
        "user": len(world.draw_user),
        "item": NUM_ITEMS,
        "category": NUM_CATEGORIES,
        "brand": NUM_BRANDS,
        "price_band": 8,
        "taste": NUM_TASTES,
        "segment": len(SEGMENTS),
        "region": len(REGIONS),
        "age_band": 7,
        "device": len(DEVICES),
        "hour": 24,
    }
    single = tuple(SparseColumn(name, num + 1) for name, num in num_values.items())  # id 0: missing
    items = [SparseColumn("recent_items", NUM_ITEMS + 1, multi=True)] * bool(world.history)
    return (*single, SparseColumn("recent_categories", NUM_CATEGORIES + 1, multi=True), *items)


def _schema(world: World) -> Schema:
    named = {"segment": SEGMENTS, "region": REGIONS, "device": DEVICES}
    stored = tuple(CohortAxis(name, cohorts) for name, cohorts in named.items())
    return Schema(
        name="synthetic",
        label="label",
        sparse=_sparse(world),
        dense=DENSE,
        axes=(*stored, world.activity),
        unit="unit",
    )


class _Bayes:
    """Log loss of the true probabilities on the labels that were drawn, overall and per segment."""

    def __init__(self) -> None:
        self.rows, self.positives, self.loss = (np.zeros(len(SEGMENTS)) for _ in range(3))

    def update(self, probability: np.ndarray, label: np.ndarray, segment: np.ndarray) -> None:
        loss = -np.log(np.where(label, probability, 1 - probability))
        for total, weights in ((self.rows, None), (self.positives, label), (self.loss, loss)):
            total += np.bincount(segment, weights, minlength=len(SEGMENTS))

    def report(self, measure: str) -> dict:
        cohorts = zip(SEGMENTS, *(x.tolist() for x in (self.rows, self.positives, self.loss)), strict=True)
        return {
            "overall": _measure(measure, self.rows.sum(), self.positives.sum(), self.loss.sum()),
            "cohorts": {"segment": {name: _measure(measure, *sums) for name, *sums in cohorts}},
        }


def _measure(measure: str, rows: float, positives: float, loss: float) -> float | None:
    """Mean log loss, or that over the entropy of the mean label; None where undefined."""
    if not rows or (measure == "ne" and not 0 < positives < rows):
        return None
    rate = positives / rows
    scale = 1.0 if measure == "log_loss" else -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return float(loss / rows / scale)


def _check(*, rows: int, seed: int, contrast: float, num_users: int, positive_rate: float, history: int) -> None:
    for name, value, low, high in (
        ("rows", rows, 10, 2**31 * CHUNK),
        ("seed", seed, 0, float("inf")),
        ("contrast", contrast, 0, 1),
        ("num_users", num_users, 1, 2**31 - 2),
        ("positive_rate", positive_rate, 0.0001, 0.5),
        ("history", history, 0, 200),
    ):
        if not low <= value <= high:
            remedy = f"choose {name} from {low:g} to {high:g}"
            raise DataError(f"synthetic data needs another {name}", value=value, remedy=remedy)
