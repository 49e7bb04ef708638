"""The file of scores: written as tables come, under another name until it is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.parallel.endings import full_disk
from c2al.schema import DataError


class Growing:
    """A parquet file that tables are added to; its columns are those of the first."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        """Write nothing more: a writer that is left open would still write its footer when it is collected."""
        if self._writer is not None:
            self._writer.is_open = False


@contextmanager
def scores_file(to: str) -> Iterator[Growing]:
    """A file (any fsspec path) that takes the name ``to`` when the block ends, and goes on an error.

    What was there stays until then. A process that is killed leaves ``to + ".partial"``, which the next one replaces.
    """
    files, target = fsspec.url_to_fs(to)
    partial = f"{target}.partial"
    try:
        files.makedirs(files._parent(target), exist_ok=True)
        file = files.open(partial, "wb")
    except OSError as error:
        problem = f"no file can be written there: {error.strerror or error}"
        raise DataError(problem, file=to, remedy="fix to=…") from None
    growing = Growing(file)
    try:
        with file:
            yield growing
            growing.finish()
        files.mv(partial, target)
    except BaseException as error:
        growing.abandon()
        if files.exists(partial):
            files.rm(partial)
        if full_disk(error):
            remedy = "free disk space, or choose another to=…"
            raise DataError("the disk is full or cannot be written", file=to, remedy=remedy) from error
        raise
