"""Evaluation of a split: all rows once over all ranks, metrics per cohort, and the scores in a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from c2al.data.reader import Reader
from c2al.data.scan import read_columns
from c2al.metrics import Metrics
from c2al.parallel.ranks import Ranks, gather, sum_over_ranks
from c2al.plain_files import whole_file
from c2al.schema import Schema
from c2al.training.averaging import WeightAverage, with_average


@dataclass
class Scored:
    """Row numbers (-1 for fillers) and primary logits, in the order of reading."""

    row: np.ndarray
    logit: np.ndarray


def nothing() -> None:
    """What happens between two steps unless someone watches them."""


@torch.no_grad()
def evaluate(
    sharded: nn.Module,
    reader: Reader,
    *,
    axes: Sequence[str],
    ranks: Ranks,
    num_steps: int | None = None,
    between: Callable[[], None] = nothing,
) -> tuple[dict[str, Any], Scored]:
    """The metrics of a reader's rows, equal on all ranks, and this rank's scores.

    ``axes`` are the reader's own, in its order. ``num_steps`` stops after so many steps on every rank. ``between`` is
    called after each step, and may leave by an exception that all ranks raise at the same step.
    """
    metrics = Metrics([reader.schema.axis(name) for name in axes])
    rows, logits = [], []
    was_training = sharded.training
    sharded.eval()
    try:
        for on_host in islice(reader.batches(), num_steps):
            batch = on_host.to(ranks.device)
            _, (_, logits_BH) = sharded(batch)
            logit_B = logits_BH[:, 0].float().cpu()
            metrics.update(logit_B, on_host.label_B, on_host.weight_B, on_host.cohort_BA)
            rows.append(on_host.row_B.numpy())
            logits.append(logit_B.numpy())
            between()
    finally:
        sharded.train(was_training)
    sum_over_ranks(metrics.state())
    return metrics.compute(gather), Scored(np.concatenate(rows), np.concatenate(logits))


def evaluate_splits(
    sharded: nn.Module,
    readers: Mapping[str, Reader],
    *,
    axes: Sequence[str],
    folder: str,
    run: Path,
    average: WeightAverage | None,
    ranks: Ranks,
    suffix: str = "",
    between: Callable[[], None] = nothing,
) -> dict[str, Any]:
    """Metrics of each split (of the averaged weights, if any); writes ``scores/<split><suffix>.parquet`` of the run."""
    metrics = {}
    for split, reader in readers.items():
        with with_average(average):
            metrics[split], scored = evaluate(sharded, reader, axes=axes, ranks=ranks, between=between)
        path = run / "scores" / f"{split}{suffix}.parquet"
        write_scores(path, scored, schema=reader.schema, folder=folder, split=split, ranks=ranks)
    return metrics


def write_scores(path: Path, scored: Scored, *, schema: Schema, folder: str, split: str, ranks: Ranks) -> None:
    """Write row, label, weight, logit, unit and every stored axis of a split, sorted by row. Collective."""
    parts = gather(scored)
    if not ranks.is_first:
        return
    row, logit = np.concatenate([part.row for part in parts]), np.concatenate([part.logit for part in parts])
    order = np.argsort(row, kind="stable")
    order = order[row[order] >= 0]  # without the fillers
    stored = [axis.column for axis in schema.axes]
    names = [name for name in (schema.label, schema.weight, schema.unit, *stored) if name]
    columns = read_columns(folder, split, names)
    table = {
        "row": row[order].astype(np.int64),
        "label": columns[schema.label].astype(np.int8),
        "weight": (columns[schema.weight] if schema.weight else np.ones(len(order))).astype(np.float32),
        "logit": logit[order].astype(np.float32),
    }
    if schema.unit:
        table["unit"] = columns[schema.unit]
    table |= {name: columns[name] for name in stored}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        pq.write_table(pa.table(table), file, compression="zstd")
