"""Random prepared rows of any schema."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from c2al.data.writer import write_splits
from c2al.schema import Schema

ROWS_AT_A_TIME = 262_144


def write_rows(
    folder: str, schema: Schema, num_rows: int, *, longest_bag: int, splits: Sequence[str] = ("train",)
) -> None:
    """A prepared folder with so many rows in each split; the schema must have a weight, and gets the splits' counts."""
    tables = ((split, table) for split in splits for table in _tables(schema, num_rows, longest_bag))
    schema.splits.update(write_splits(folder, tables, label=schema.label, weight=schema.weight))
    schema.save(folder)


def _tables(schema: Schema, num_rows: int, longest_bag: int) -> Iterator[pa.Table]:
    random = np.random.default_rng(0)
    for first in range(0, num_rows, ROWS_AT_A_TIME):
        size = min(ROWS_AT_A_TIME, num_rows - first)
        columns: dict[str, pa.Array] = {}
        for column in schema.sparse:
            offsets = np.concatenate([[0], np.cumsum(random.integers(0, longest_bag + 1, size))])
            ids = random.integers(0, column.num_rows, offsets[-1] if column.multi else size).astype(np.int32)
            columns[column.name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ids) if column.multi else ids
        columns |= {column.name: random.normal(size=size).astype(np.float32) for column in schema.dense}
        columns |= {axis.column: random.integers(-1, len(axis.cohorts), size).astype(np.int16) for axis in schema.axes}
        columns[schema.label] = (random.random(size) < 0.1).astype(np.int8)
        columns[str(schema.weight)] = random.uniform(0.5, 2, size).astype(np.float32)
        yield pa.table(columns)
