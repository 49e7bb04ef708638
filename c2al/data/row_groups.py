"""The parquet files of one split: found, their footers read once and checked, their row groups read on demand."""

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import IO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from c2al.data.columns import PREPARE, Column, Piece
from c2al.schema import DataError, Schema, _nearest

FOOTER_THREADS = 8  # footers wait for storage, not for a core
MOST_OPEN_FILES = 256
WHOLE = f"copy the file again, or {PREPARE}: it may have been cut short"


@dataclass(frozen=True)
class RowGroup:
    """A row group and the place of its rows in the split's file order."""

    file: int
    index: int
    first_row: int
    num_rows: int


class SplitFiles:
    """All row groups of ``folder/split/*.parquet``, files in the order of their names.

    Raises a DataError where there are no files, one does not read, lacks a column or has one of another type, or where
    the rows are not as many as ``schema.yaml`` says.

    Of a view, the files are those of its rows' folder; ``beside`` are the view's own, cut into the same row groups, for
    the columns that it adds.
    """

    def __init__(self, *, folder: str, split: str, schema: Schema, columns: Sequence[Column]) -> None:
        if split not in schema.splits:
            remedy = _nearest(split, tuple(schema.splits))
            raise DataError("no such split", file="schema.yaml", value=split, remedy=remedy)
        self.beside: SplitFiles | None = None
        if schema.view:
            added = {schema.axis(name).column for name in schema.view.axes}
            own = [column for column in columns if column.name in added]
            columns = [column for column in columns if column.name not in added]
            if own:
                plain = replace(schema, view=None)
                self.beside = SplitFiles(folder=folder, split=split, schema=plain, columns=own)
            folder = schema.view.rows
        self.folder = f"{folder.rstrip('/')}/{split}"
        self.names = list(dict.fromkeys(column.name for column in columns))
        self.storage, self._root = fsspec.url_to_fs(self.folder)
        self.paths = self._list()
        with ThreadPoolExecutor(FOOTER_THREADS) as threads:
            self.footers = list(threads.map(self._footer, self.paths))
        for path, footer in zip(self.paths, self.footers, strict=True):
            found = footer.schema.to_arrow_schema()
            for column in columns:
                column.check_type(found, self.shown(path))
        self.groups = self._groups()
        self.num_rows = sum(group.num_rows for group in self.groups)
        self._check_rows(schema.splits[split].rows)
        if self.beside and _cuts(self.beside) != _cuts(self):  # an empty row group here has none there
            problem = "the view's files are not cut into the row groups of its rows"
            raise DataError(problem, file=self.beside.folder, remedy="learn the cohorts again: c2al discover")

    def shown(self, path: str) -> str:
        """A file's path as the user wrote the folder."""
        return f"{self.folder}/{path.rsplit('/', 1)[-1]}"

    def open_file(self, path: str) -> IO[bytes] | str:
        """What pyarrow reads from: a local path by itself, other storage by fsspec."""
        return path if isinstance(self.storage, LocalFileSystem) else self.storage.open(path, "rb")

    def _list(self) -> list[str]:
        try:
            found = self.storage.ls(self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            found = []
        paths = sorted(path for path in found if path.endswith(".parquet"))
        if not paths:
            raise DataError("no parquet files there", file=self.folder, remedy=f"{PREPARE}, or fix data.path")
        return paths

    def _footer(self, path: str) -> pq.FileMetaData:
        try:
            file = self.open_file(path)
            with pq.ParquetFile(file) as opened:
                return opened.metadata
        except (pa.ArrowException, OSError) as error:
            problem = f"not a whole parquet file: {_first_line(error)}"
            raise DataError(problem, file=self.shown(path), remedy=WHOLE) from error

    def _groups(self) -> list[RowGroup]:
        groups, first_row = [], 0
        for file, footer in enumerate(self.footers):
            for index in range(footer.num_row_groups):
                num_rows = footer.row_group(index).num_rows
                if num_rows:
                    groups.append(RowGroup(file, index, first_row, num_rows))
                first_row += num_rows
        return groups

    def _check_rows(self, promised: int) -> None:
        if self.num_rows != promised:
            problem = f"schema.yaml says {promised} rows, the files hold {self.num_rows}"
            raise DataError(problem, file=self.folder, remedy=f"{PREPARE}: files are missing or left over")
        if not self.num_rows:
            remedy = "choose another split, or prepare more rows"
            raise DataError("the split has no rows", file=self.folder, remedy=remedy)


class OpenFiles(AbstractContextManager):
    """Reads row groups of a split; each file is opened once. For one thread at a time."""

    def __init__(self, split: SplitFiles) -> None:
        self._split = split
        self._open: dict[int, tuple[pq.ParquetFile, IO[bytes] | str]] = {}
        self._last: tuple[RowGroup, pa.Table] | None = None
        self._beside = OpenFiles(split.beside) if split.beside else None

    def read(self, group: RowGroup, start: int, stop: int) -> Piece:
        """Rows ``[start, stop)`` of a row group. The last group is kept: neighbouring windows share one."""
        path = self._split.shown(self._split.paths[group.file])
        if self._last is None or self._last[0] != group:
            try:
                table = self._file(group.file).read_row_group(group.index, columns=self._split.names)
            except (pa.ArrowException, OSError) as error:
                problem = f"row group does not read: {_first_line(error)}"
                raise DataError(problem, file=path, row_group=group.index, remedy=WHOLE) from error
            if self._beside:
                added = self._beside.whole(group.first_row).table
                for name in added.column_names:
                    table = table.append_column(name, added.column(name))
            self._last = group, table
        table = self._last[1].slice(start, stop - start)
        return Piece(table, path, group.index, start, group.first_row + start)

    def whole(self, first_row: int) -> Piece:
        """The row group that starts there."""
        groups = self._split.groups
        group = groups[bisect_left(groups, first_row, key=lambda each: each.first_row)]
        return self.read(group, 0, group.num_rows)

    def _file(self, file: int) -> pq.ParquetFile:
        if file not in self._open:
            if len(self._open) >= MOST_OPEN_FILES:
                self._close(next(iter(self._open)))
            source = self._split.open_file(self._split.paths[file])
            self._open[file] = pq.ParquetFile(source, metadata=self._split.footers[file], pre_buffer=True), source
        return self._open[file][0]

    def _close(self, file: int) -> None:
        opened, source = self._open.pop(file)
        opened.close()
        if not isinstance(source, str):
            source.close()

    def __exit__(self, *_: object) -> None:
        for file in list(self._open):
            self._close(file)
        if self._beside:
            self._beside.__exit__()
        self._last = None


def _cuts(split: SplitFiles) -> list[tuple[int, int]]:
    return [(group.file, group.first_row) for group in split.groups]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
