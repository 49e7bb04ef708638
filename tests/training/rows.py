"""Prepared folders with a fault of one's choosing."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def relabelled(rows: str, folder: Path, *, split: str, label: int) -> str:
    """A copy in which every row of a split has one label."""
    return changed(rows, folder, split=split, column="label", value=label)


def changed(rows: str, folder: Path, *, split: str, column: str, value: float, row: int | None = None) -> str:
    """A copy with another value in one column of a split: in one row, or in all."""
    shutil.copytree(rows, folder)
    (path,) = Path(folder, split).glob("*.parquet")
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    values = table.column(column).to_numpy().copy()
    values[slice(None) if row is None else row] = value
    table = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    pq.write_table(table, path, row_group_size=pq.ParquetFile(path).metadata.row_group(0).num_rows)
    return str(folder)
