"""A file or folder of parquet or csv as one stream of typed chunks, whatever wrote it.

``found_files`` says which files are read; ``key=value`` folders become columns; a dictionary column becomes its values;
integers of different width, integers and floats, and null columns are widened to one type over all files; a column that
some files lack is null there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from c2al.data.found_files import find_data_files
from c2al.schema import DataError

ROWS_PER_CHUNK = 131_072
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError, UnicodeDecodeError)


@dataclass(frozen=True)
class Chunk:
    """Rows of one file; ``first_row`` counts over all files, ``split`` is set where folders are named by split."""

    file: str
    first_row: int
    split: str | None
    table: pa.Table

    @property
    def rows(self) -> np.ndarray:
        """The rows' numbers."""
        return np.arange(self.first_row, self.first_row + self.table.num_rows)


@dataclass(frozen=True)
class RawFile:
    """One file, with the types of its columns."""

    path: str
    split: str | None
    partitions: dict[str, str]
    types: dict[str, pa.DataType]
    num_rows: int | None  # None: csv, not counted

    @property
    def is_csv(self) -> bool:
        """Text, not parquet."""
        return not self.path.endswith((".parquet", ".pq"))


class RawFiles:
    """The files below ``folder`` (or the one there, or those of a pattern with *), by name; ``skip`` is left out.

    ``left_out`` says in one line what else was not read (``found_files``), and is None where nothing was.
    """

    def __init__(self, folder: str, *, skip: str | None = None) -> None:
        self.folder = folder
        found = find_data_files(folder, skip=skip)
        self.left_out = found.told
        self.files = [_open(file.path, file.partitions, file.split) for file in found.files]
        self.types = _unify(self.files)
        if len({file.is_csv for file in self.files}) > 1:
            raise DataError("parquet and csv are mixed", file=folder, remedy="keep one kind in the folder")

    @property
    def num_rows(self) -> int | None:
        """Rows of all files, where the files say it."""
        counts = [file.num_rows for file in self.files if file.num_rows is not None]
        return sum(counts) if len(counts) == len(self.files) else None

    def files_without(self, column: str) -> list[str]:
        """The files that lack a column."""
        return [file.path for file in self.files if column not in file.types]

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """All rows, ``ROWS_PER_CHUNK`` or fewer at a time."""
        first_row = 0
        for file in self.files:
            present = [column for column in columns if column in file.types and column not in file.partitions]
            for batch in self._batches(file, present):
                yield Chunk(file.path, first_row, file.split, self._conform(batch, file, columns))
                first_row += batch.num_rows

    def sample(self, *, num_rows: int = 262_144, num_places: int = 16) -> pa.Table:
        """Some rows of every column from places spread evenly over files and row groups (csv: from files' heads)."""
        places = [(file, group) for file in self.files for group in range(_num_groups(file))]
        tables, columns = [], list(self.types)
        num_places = min(num_places, len(places))
        for i in np.linspace(0, len(places) - 1, num_places).astype(int):
            file, group = places[i]
            present = [column for column in file.types if column not in file.partitions]
            batch = next(self._batches(file, present, group=group, rows=num_rows // num_places), None)
            if batch is not None:
                tables.append(self._conform(batch.slice(0, num_rows // num_places), file, columns))
        if not sum(table.num_rows for table in tables):
            raise DataError("the files hold no rows", file=self.folder, remedy="check what wrote them")
        return pa.concat_tables(tables)

    def _batches(
        self, file: RawFile, columns: list[str], *, group: int | None = None, rows: int = ROWS_PER_CHUNK
    ) -> Iterator[pa.RecordBatch]:
        row_group = None
        try:
            with _stream(file.path) as stream:
                if file.is_csv:
                    types = {column: self.types[column] for column in file.types if column not in file.partitions}
                    for batch in _csv(stream, types, columns):
                        for start in range(0, batch.num_rows, ROWS_PER_CHUNK):
                            yield batch.slice(start, ROWS_PER_CHUNK)
                    return
                reader = pq.ParquetFile(stream)
                for row_group in range(reader.num_row_groups) if group is None else [group]:
                    yield from reader.iter_batches(batch_size=rows, row_groups=[row_group], columns=columns)
        except _UNREADABLE as error:
            raise DataError(
                f"the file does not read: {_first_line(error)}",
                file=file.path,
                row_group=row_group,
                remedy="mend or remove the file" + (", or write parquet, which keeps types" if file.is_csv else ""),
            ) from error

    def _conform(self, batch: pa.RecordBatch, file: RawFile, columns: Sequence[str]) -> pa.Table:
        arrays = []
        for name in columns:
            if name in file.partitions:
                column: pa.Array = pa.repeat(pa.scalar(file.partitions[name], pa.string()), batch.num_rows)
            elif name in file.types:
                column = batch.column(batch.schema.get_field_index(name))
            else:
                column = pa.nulls(batch.num_rows)
            try:
                arrays.append(column.cast(self.types[name]))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(
                    f"a value does not fit type {self.types[name]}, which other files have: {_first_line(error)}",
                    file=file.path,
                    column=name,
                    remedy="write the column with one type in all files",
                ) from error
        return pa.table(dict(zip(columns, arrays, strict=True)))


def _open(path: str, partitions: dict[str, str], split: str | None) -> RawFile:
    csv = not path.endswith((".parquet", ".pq"))
    try:
        with _stream(path) as stream:
            if csv:
                schema, num_rows = _csv(stream).schema, None
            else:
                reader = pq.ParquetFile(stream)
                schema, num_rows = reader.schema_arrow, reader.metadata.num_rows
    except _UNREADABLE as error:
        raise DataError(
            f"the file does not read: {_first_line(error)}", file=path, remedy="mend or remove the file"
        ) from error
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError("two columns have one name", file=path, column=twice[0], remedy="rename one of them")
    types = {field.name: plain_type(field.type) for field in schema}
    return RawFile(path, split, partitions, {**types, **dict.fromkeys(partitions, pa.string())}, num_rows)


def _num_groups(file: RawFile) -> int:
    if file.is_csv:
        return 1
    with _stream(file.path) as stream:
        return pq.ParquetFile(stream).num_row_groups


def _stream(path: str) -> IO[bytes]:
    return fsspec.open(path, "rb", compression="infer").open()


def _csv(
    stream: IO[bytes], types: dict[str, pa.DataType] | None = None, columns: list[str] | None = None
) -> pa.csv.CSVStreamingReader:
    head = stream.readline()
    stream.seek(0)
    delimiter = max(b",\t;|", key=head.count)  # of equal counts the first
    return pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(block_size=8 << 20),
        parse_options=pa.csv.ParseOptions(delimiter=chr(delimiter), newlines_in_values=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=types or {}, include_columns=columns or [], strings_can_be_null=True
        ),
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding: dictionaries as their values, large and view types as the ordinary ones."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def _unify(files: list[RawFile]) -> dict[str, pa.DataType]:
    types: dict[str, pa.DataType] = {}
    first: dict[str, str] = {}
    for file in files:
        for name, kind in file.types.items():
            if name not in types:
                types[name], first[name] = kind, file.path
            elif kind != types[name]:
                types[name] = _wider(types[name], kind, column=name, files=(first[name], file))
    return types


def _wider(a: pa.DataType, b: pa.DataType, *, column: str, files: tuple[str, RawFile]) -> pa.DataType:
    try:
        fields = [pa.schema([pa.field("x", kind)]) for kind in (a, b)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        if files[1].is_csv:
            return pa.string()  # csv says no types: what is text in one file is text in all
        raise DataError(
            f"the column is {b} here and {a} in {files[0]}",
            file=files[1].path,
            column=column,
            remedy="write the column with one type in all files",
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
