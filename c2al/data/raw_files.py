"""A file or folder of parquet or csv as one stream of typed chunks, whatever wrote it.

``found_files`` says which files are read; ``key=value`` folders become columns; a dictionary column becomes its values;
integers of different width, integers and floats, and null columns are widened to one type over all files; a column that
some files lack is null there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c2al.data.arrow_types import mapped_lists, plain_type, plain_values, wider_type
from c2al.data.chunks import Chunk
from c2al.data.csv_format import UNREADABLE, CsvFile, CsvFormat, Quotes, csv_error, no_header, open_csv
from c2al.data.csv_types import TypeOfTexts, typed
from c2al.data.found_files import find_data_files
from c2al.data.raw_values import texts_of
from c2al.schema import DataError

ROWS_PER_CHUNK = 131_072
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class RawFile:
    """One file, with the types of its columns; None is the value of a folder that stands for null."""

    path: str
    split: str | None
    partitions: dict[str, str | None]
    types: dict[str, pa.DataType]
    num_rows: int | None  # None: csv, not counted
    csv: CsvFile | None = None

    @property
    def is_csv(self) -> bool:
        """Text, not parquet."""
        return self.csv is not None


class RawFiles:
    """The files below ``folder`` (or the one there, or those of a pattern with *), by name; ``skip`` is left out.

    Text files are read once to find the type of each column from all its values (``csv_types``), but for columns whose
    type is given by ``types`` or that are not among ``only``.

    ``loose`` names columns whose values are good as numbers in their type, and would lose digits as ids
    (``read_as_text``); in those of ``merges`` nothing but 1 and 1.0 would become one id. ``notes`` say what a user may
    want to know of a column's type. ``left_out`` says in one line what else was not read (``found_files``), and is
    None where nothing was.
    """

    def __init__(
        self,
        folder: str,
        *,
        skip: str | None = None,
        csv: CsvFormat | None = None,
        types: Mapping[str, pa.DataType] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.folder, self.csv = folder, csv or CsvFormat()
        found = find_data_files(folder, skip=skip)
        self.left_out = found.told
        self.files = [_open(file.path, file.partitions, file.split, self.csv) for file in found.files]
        if len({file.is_csv for file in self.files}) > 1:
            raise DataError("parquet and csv are mixed", file=folder, remedy="keep one kind in the folder")
        self.loose: set[str] = set()
        self.merges: set[str] = set()
        self.notes: dict[str, str] = {}
        self._as_text: set[str] = set()
        self._closed: set[str] = set()  # text files without a stray quote
        self.types = self._types_of_texts(types or {}, only) if self.files[0].is_csv else self._unify()

    def read_as_text(self, column: str) -> None:
        """Take a column's values as texts, each as its own file has it: as ids they keep all digits."""
        kind = self.types[column]
        if column in self._as_text:
            return
        if column not in self.merges:
            self.notes.setdefault(column, "read as text: numbers would not keep all digits")
        self.types[column] = pa.list_(pa.string()) if pa.types.is_list(kind) else pa.string()
        self._as_text.add(column)

    def read_as_numbers(self, column: str) -> None:
        """Take the texts of a csv column as numbers; reading raises a DataError at one that is none."""
        if self.files[0].is_csv and pa.types.is_string(self.types.get(column, pa.null())):
            self.types[column] = pa.float64()
            self.notes.pop(column, None)

    def check_header(self) -> None:
        """Raise a DataError where the first line of a text file looks like values, not names."""
        for file in self.files:
            if file.csv and file.csv.headless:
                raise no_header(file.path, file.csv.names)

    def _types_of_texts(self, known: Mapping[str, pa.DataType], only: Collection[str] | None) -> dict[str, pa.DataType]:
        """Of text files, from all values; rows are counted on the way."""
        names = list(dict.fromkeys(name for file in self.files for name in file.types))
        types = {name: known.get(name, pa.string()) for name in names}
        wanted = {name: TypeOfTexts() for name in names if name not in known and (only is None or name in only)}
        if not wanted:
            return types
        counted = []
        for file in self.files:
            own, num_rows = [name for name in wanted if name in file.types and name not in file.partitions], 0
            for batch in self._batches(file, own) if own else ():
                num_rows += batch.num_rows
                for name in own:
                    wanted[name].update(batch.column(name))
            counted.append(replace(file, num_rows=num_rows if own else None))
        self.files = counted
        for name, texts in wanted.items():
            if any(name in file.partitions for file in self.files):
                continue
            found = texts.found
            types[name] = found.type
            self.loose |= {name} if found.loose else set()
            self.merges |= {name} if found.merges else set()
            self.notes |= {name: found.note} if found.note else {}
        return types

    def _unify(self) -> dict[str, pa.DataType]:
        types: dict[str, pa.DataType] = {}
        first: dict[str, str] = {}
        for file in self.files:
            for name, kind in file.types.items():
                if name not in types:
                    types[name], first[name] = kind, file.path
                elif kind != types[name]:
                    found = wider_type(types[name], kind)
                    if found is None:
                        raise DataError(
                            f"the column is {kind} here and {types[name]} in {first[name]}",
                            file=file.path,
                            column=name,
                            remedy="write the column with one type in all files",
                        )
                    types[name] = found[0]
                    self.loose |= {name} if found[1] else set()
        return types

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
                yield Chunk(file.path, first_row, file.split, self._conform(batch, file, columns), file.is_csv)
                first_row += batch.num_rows

    def _batches(self, file: RawFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        row_group = None
        try:
            if file.csv:
                quotes = None if file.path in self._closed else Quotes(file.csv)
                for batch in file.csv.batches(columns, quotes=quotes):
                    for start in range(0, batch.num_rows, ROWS_PER_CHUNK):
                        yield batch.slice(start, ROWS_PER_CHUNK)
                if quotes:
                    quotes.check()
                    self._closed.add(file.path)
                return
            with _stream(file.path) as stream:
                reader = pq.ParquetFile(stream)
                for row_group in range(reader.num_row_groups):
                    for batch in reader.iter_batches(ROWS_PER_CHUNK, row_groups=[row_group], columns=columns):
                        batch.validate(full=True)  # Arrow takes a file's word that its texts are UTF-8
                        yield batch
        except UNREADABLE as error:
            if file.csv:
                raise csv_error(error, file.path, self.csv) from error
            raise DataError(
                f"the file does not read: {_first_line(error)}",
                file=file.path,
                row_group=row_group,
                remedy="fix or remove the file",
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
                arrays.append(self._as_asked(name, column, file))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise self._misfit(name, column, file, error) from error
        return pa.table(dict(zip(columns, arrays, strict=True)))

    def _as_asked(self, name: str, values: pa.Array, file: RawFile) -> pa.Array:
        kind = self.types[name]
        if file.csv:
            return typed(values.cast(pa.string()), kind)
        values = plain_values(values)
        if name in self._as_text:
            values = mapped_lists(values, texts_of) if pa.types.is_list(values.type) else texts_of(values)
        return values.cast(kind, safe=name not in self.loose)

    def _misfit(self, name: str, values: pa.Array, file: RawFile, error: Exception) -> DataError:
        kind = self.types[name]
        if not file.csv:
            problem = f"a value does not fit type {kind}, which other files have: {_first_line(error)}"
            return DataError(problem, file=file.path, column=name, remedy="write the column with one type in all files")
        value = next((text for text in pc.unique(pc.drop_null(values)) if not _is_typed(text, kind)), None)
        shown = None if value is None else repr(value.as_py())
        what = "number" if pa.types.is_floating(kind) or pa.types.is_integer(kind) else str(kind)
        word = "" if value is None else value.as_py().strip()
        remedy = f"fix the value, or pass nulls=['',{word}] if it stands for null" if word else "fix the value"
        return DataError(f"a value that is no {what}", file=file.path, column=name, value=shown, remedy=remedy)


def _is_typed(text: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        typed(pa.array([text.as_py()], pa.string()), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _open(path: str, partitions: Mapping[str, str], split: str | None, settings: CsvFormat) -> RawFile:
    values = _decoded(partitions)
    of_folders = dict.fromkeys(values, pa.string())
    if not path.lower().endswith((".parquet", ".pq")):
        try:
            csv = open_csv(path, settings)
        except UNREADABLE as error:
            raise csv_error(error, path, settings) from error
        return RawFile(path, split, values, {**dict.fromkeys(csv.names, pa.string()), **of_folders}, None, csv)
    try:
        with _stream(path) as stream:
            reader = pq.ParquetFile(stream)
            schema, num_rows = reader.schema_arrow, reader.metadata.num_rows
    except UNREADABLE as error:
        raise DataError(
            f"the file does not read: {_first_line(error)}", file=path, remedy="fix or remove the file"
        ) from error
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError("two columns have one name", file=path, column=twice[0], remedy="rename one of them")
    types = {field.name: plain_type(field.type) for field in schema}
    return RawFile(path, split, values, {**types, **of_folders}, num_rows)


def _decoded(partitions: Mapping[str, str]) -> dict[str, str | None]:
    """What ``key=value`` folders say, as Hive and Spark write it: URL-encoded, with a word of its own for null."""
    values = {_unquoted(key): _unquoted(value) for key, value in partitions.items()}
    return {key: None if value in ("", HIVE_NULL) else value for key, value in values.items()}


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _stream(path: str) -> IO[bytes]:
    return fsspec.open(path, "rb", compression="infer").open()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
