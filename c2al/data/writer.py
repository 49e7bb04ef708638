"""Prepared splits: Arrow tables in, parquet parts of small row groups out, counted on the way.

``schema.yaml`` is written last, by whoever prepares: a folder without one is not prepared data, however many parts it
holds.
"""

from collections.abc import Iterable
from typing import IO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.schema import SPLITS, Split

ROWS_PER_GROUP = 32_768  # small, so that a shuffle window mixes many distant row groups
ROWS_PER_FILE = 4_194_304


class SplitWriter:
    """Writes one split of a prepared folder; tables of any size may come, row groups have equal size but the last.

    >>> with SplitWriter(folder, "train", label="clicked", weight=None) as writer:
    ...     for table in tables:
    ...         writer.write(table)
    >>> writer.split
    Split(rows=..., positives=..., weight=..., positive_weight=...)
    """

    def __init__(self, folder: str, split: str, *, label: str, weight: str | None) -> None:
        self.folder = f"{folder.rstrip('/')}/{split}"
        self.label, self.weight = label, weight
        self.split = Split(0, 0, 0.0, 0.0)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._num_files = 0
        self._rows_in_file = 0
        self._writer: pq.ParquetWriter | None = None
        self._file: IO[bytes]
        files, _ = fsspec.url_to_fs(self.folder)
        files.makedirs(self.folder, exist_ok=True)
        for old in files.glob(f"{self.folder}/*.parquet"):
            files.rm(old)

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        if not table.num_rows:
            return
        label = table.column(self.label).to_numpy()
        weight = table.column(self.weight).to_numpy().astype(np.float64) if self.weight else np.ones(len(label))
        self.split = Split(
            self.split.rows + len(label),
            self.split.positives + int(label.sum()),
            self.split.weight + float(weight.sum()),
            self.split.positive_weight + float(weight[label == 1].sum()),
        )
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        while self._num_waiting >= ROWS_PER_GROUP:
            self._flush(self._num_waiting // ROWS_PER_GROUP * ROWS_PER_GROUP)

    def _flush(self, num_rows: int) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks()
        for start in range(0, num_rows, ROWS_PER_GROUP):
            group = table.slice(start, min(ROWS_PER_GROUP, num_rows - start))
            if self._writer is None:
                path = f"{self.folder}/part-{self._num_files:05d}.parquet"
                self._file = fsspec.open(path, "wb").open()
                self._writer = pq.ParquetWriter(self._file, group.schema, compression="zstd")
                self._num_files += 1
            self._writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            self._rows_in_file += group.num_rows
            if self._rows_in_file >= ROWS_PER_FILE:
                self._end_file()
        rest = table.slice(num_rows)
        self._waiting, self._num_waiting = [rest], rest.num_rows

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._file.close()
        self._writer, self._rows_in_file = None, 0

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._num_waiting:
            self._flush(self._num_waiting)
        self._end_file()


def write_splits(
    folder: str, tables: Iterable[tuple[str, pa.Table]], *, label: str, weight: str | None
) -> dict[str, Split]:
    """Write a stream of (split, table) and return what each split holds."""
    writers = {split: SplitWriter(folder, split, label=label, weight=weight) for split in SPLITS}
    for split, table in tables:
        writers[split].write(table)
    for writer in writers.values():
        writer.__exit__(None, None, None)
    return {split: writer.split for split, writer in writers.items()}
