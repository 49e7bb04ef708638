"""Rows to be scored, a piece at a time: those of a prepared split, or raw ones of any files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import fsspec
import numpy as np
import pyarrow as pa

from c2al.data.chunks import Chunk
from c2al.data.columns import Column, pick, stored_columns
from c2al.data.csv_format import CsvFormat
from c2al.data.inference import require
from c2al.data.raw_files import RawFiles
from c2al.data.raw_types import like_trained
from c2al.data.raw_values import Feature, feature_texts, labels_of, weights_of
from c2al.data.row_groups import OpenFiles, SplitFiles
from c2al.data.vocabulary import unit_ids
from c2al.schema import SPLITS, DataError, Schema
from c2al.serving.encode import Encoder

Beside = dict[str, np.ndarray | pa.ChunkedArray]


@dataclass(frozen=True)
class Rows:
    """Consecutive rows: the columns that the model reads, and ``beside`` them label, weight, unit and kept ones."""

    file: str
    first_row: int  # over all files
    table: pa.Table
    beside: Beside


class Source(Protocol):
    """Where rows come from; ``weight`` is the column of their weights, if they have one.

    ``left_out`` says in one line which files were not read, and is None where all were.
    """

    weight: str | None
    left_out: str | None

    @property
    def num_rows(self) -> int | None:
        """All of them; None where the files do not say it."""

    def pieces(self, batch_rows: int) -> Iterator[Rows]:
        """All rows in order, at most ``batch_rows`` at a time."""


def is_prepared(data: str) -> bool:
    """Whether a folder holds prepared data."""
    files, root = fsspec.url_to_fs(data.rstrip("/"))
    return bool(files.exists(f"{root}/schema.yaml"))


class PreparedRows:
    """A split of a prepared folder or of a view."""

    def __init__(self, data: str, split: str | None, *, schema: Schema, columns: Sequence[str], keep: Sequence[str]):
        if split is None:
            remedy = f"name one: split={'|'.join(name for name in SPLITS if name in schema.splits)}"
            raise DataError("prepared data has splits", file=data, remedy=remedy)
        stored = stored_columns(schema)
        self.weight = schema.weight
        self.left_out: str | None = None
        self._checked = {"label": stored[schema.label]}
        for name, column in (("weight", schema.weight), ("unit", schema.unit)):
            if column:
                self._checked[name] = stored[column]
        self._columns, self._keep = list(columns), list(keep)
        read: list[Column] = [*pick(stored, [*columns, *keep]), *self._checked.values()]
        self._files = SplitFiles(folder=data, split=split, schema=schema, columns=read)

    @property
    def num_rows(self) -> int | None:
        """Rows of the split."""
        return self._files.num_rows

    def pieces(self, batch_rows: int) -> Iterator[Rows]:
        """All rows in order."""
        with OpenFiles(self._files) as opened:
            for group in self._files.groups:
                for start in range(0, group.num_rows, batch_rows):
                    piece = opened.read(group, start, min(start + batch_rows, group.num_rows))
                    beside: Beside = {name: piece.values(column) for name, column in self._checked.items()}
                    beside |= {name: piece.table.column(name) for name in self._keep}
                    yield Rows(piece.file, piece.row_in_split, piece.table.select(self._columns), beside)


class RawRows:
    """Rows of parquet or csv files: one, those of a folder, or those that a pattern with * finds."""

    def __init__(
        self,
        data: str,
        split: str | None,
        *,
        schema: Schema,
        encoder: Encoder,
        keep: Sequence[str],
        csv: Mapping[str, Any] | None = None,
    ) -> None:
        said = schema.csv | {key: value for key, value in (csv or {}).items() if value is not None}
        unit = (schema.unit or "").removeprefix("unit_")
        known = dict.fromkeys((schema.label, schema.weight or schema.label), pa.string())
        for column in (*encoder.single, *encoder.bags):  # texts, which the encoder takes as what they were in training
            known[column.raw] = pa.string() if column.vocabulary or column.hashed else pa.int64()
        numbers = {column.name: pa.float64() for column in encoder.dense}
        known |= numbers
        types = {name: kind for name, kind in known.items() if name not in keep or name in encoder.columns}
        settings = replace(CsvFormat.of(**said), may_lack=schema.label)
        self._raw = RawFiles(data, csv=settings, types=types, only={*known, *keep, unit})
        self.left_out = self._raw.left_out
        if split is not None:
            self._raw.files = [file for file in self._raw.files if file.split == split]
        if not self._raw.files:
            remedy = "leave out split=…, or name the folders by split"
            raise DataError("no files of that split", file=data, value=split, remedy=remedy)
        types = self._raw.types
        as_ids = {*encoder.columns, *keep, unit} - {*numbers, schema.label, schema.weight}
        for name in as_ids & (self._raw.loose - self._raw.merges):
            self._raw.read_as_text(name)
        if not set(encoder.columns) & set(types):
            self._raw.check_header()
        for name in keep:
            require(name, self._raw)
        encoder.check_columns(list(types), data)
        self._columns, self._keep = [name for name in encoder.columns if name in types], list(keep)
        for name in self._columns:
            if encoder.policy["missing"] == "error" and (files := self._raw.files_without(name)):
                encoder.check_columns([other for other in types if other != name], files[0])
        self._label = schema.label if schema.label in types else None
        self.weight = schema.weight if self._label and schema.weight in types else None
        self._unit = unit if schema.unit and unit in types else None
        trained = {column.raw: column.raw_type for column in schema.sparse}
        self._unit_type = trained.get(unit)

    @property
    def num_rows(self) -> int | None:
        """Rows of all files, where they say it."""
        return self._raw.num_rows

    def pieces(self, batch_rows: int) -> Iterator[Rows]:
        """All rows in order."""
        others = [name for name in (self._label, self.weight, self._unit) if name]
        for chunk in self._raw.chunks(list(dict.fromkeys([*self._columns, *self._keep, *others]))):
            for start in range(0, chunk.table.num_rows, batch_rows):
                table = chunk.table.slice(start, batch_rows)
                part = Chunk(chunk.file, chunk.first_row + start, chunk.split, table, chunk.from_csv)
                yield Rows(part.file, part.first_row, table.select(self._columns), self._beside(part))

    def _beside(self, part: Chunk) -> Beside:
        found: dict[str, Any] = {}
        if self._label:
            found["label"] = labels_of(part, self._label)
        if self.weight:
            found["weight"] = weights_of(part, self.weight)
        if self._unit:
            units = like_trained(part.table.column(self._unit).combine_chunks(), self._unit_type)
            texts, _ = feature_texts(pa.table({self._unit: units}), Feature(self._unit, self._unit), part.file)
            found["unit"] = unit_ids(texts)
        return found | {name: part.table.column(name) for name in self._keep}
