"""Stored columns -> numpy arrays, with every value checked: one DataError names file, row group, column and value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from c2al.cohorts.at_random import RandomAxis, assign
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn, _nearest

PREPARE = "run `c2al prepare` again"
INT32_ROWS = 2**31  # ids of larger tables need int64 in memory
LEAST_FLOAT32 = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Column:
    """A stored column: its type in memory, the values it may hold, ``low <= value < high``, and what else is to say."""

    name: str
    dtype: np.dtype
    low: float
    high: float
    fault: str
    remedy: str
    multi: bool = False

    def check_type(self, schema: pa.Schema, file: str) -> None:
        """Raise a DataError unless a file with this Arrow schema has the column, once and of the right type."""
        index = schema.get_field_index(self.name)
        if index < 0:
            twice = self.name in schema.names
            raise DataError(
                "column there twice" if twice else "column missing",
                file=file,
                column=self.name,
                remedy=f"{PREPARE}, or fix schema.yaml; the file has: {', '.join(schema.names)}",
            )
        stored = schema.field(index).type
        if not self._accepts(stored):
            numbers = "integers" if self.dtype.kind == "i" else "floats"
            raise DataError(
                f"column of type {stored}, {f'lists of {numbers}' if self.multi else numbers} expected",
                file=file,
                column=self.name,
                remedy=f"{PREPARE}, which makes ids, numbers and lists of what it finds, or fix schema.yaml",
            )

    def _accepts(self, stored: pa.DataType) -> bool:
        if self.multi:
            if not (pat.is_list(stored) or pat.is_large_list(stored)):
                return False
            stored = stored.value_type
        return pat.is_integer(stored) if self.dtype.kind == "i" else pat.is_floating(stored)


def stored_columns(schema: Schema) -> dict[str, Column]:
    """All columns that a prepared folder's files hold, by their name there."""
    columns = [_sparse(column) for column in schema.sparse] + [_dense(column) for column in schema.dense]
    columns += [_cohort(axis) for axis in schema.axes]
    fault, remedy = "label other than 0 or 1", f"{PREPARE}, with a label that says 0 or 1"
    columns.append(Column(schema.label, np.dtype(np.int8), 0, 2, fault, remedy))
    if schema.weight:
        fault, remedy = "weight that is negative or not finite", "fix or drop such rows before preparing"
        columns.append(Column(schema.weight, np.dtype(np.float32), 0.0, np.inf, fault, remedy))
    if schema.unit:
        fault, remedy = "unit beyond int32", f"{PREPARE}: it numbers the units"
        columns.append(Column(schema.unit, np.dtype(np.int32), -INT32_ROWS, INT32_ROWS, fault, remedy))
    return {column.name: column for column in columns}


def _sparse(column: SparseColumn) -> Column:
    dtype = np.dtype(np.int32 if column.num_rows <= INT32_ROWS else np.int64)
    fault = f"id outside [0, {column.num_rows})"
    remedy = f"{PREPARE} (0 stands for unknown), or raise num_rows in schema.yaml"
    return Column(column.name, dtype, 0, column.num_rows, fault, remedy, column.multi)


def _dense(column: DenseColumn) -> Column:
    fault, remedy = "number that is not finite in float32", f"{PREPARE}: it fills what is missing, and normalises"
    return Column(column.name, np.dtype(np.float32), LEAST_FLOAT32, np.inf, fault, remedy)


def _cohort(axis: CohortAxis) -> Column:
    fault = f"cohort id outside [-1, {len(axis.cohorts)})"
    remedy = f"{PREPARE}, or name the axis's cohorts in schema.yaml"
    return Column(axis.column, np.dtype(np.int16), -1, len(axis.cohorts), fault, remedy)


def pick(columns: Mapping[str, Column], names: Iterable[str]) -> list[Column]:
    """Columns by name; a DataError with the nearest name for one that is not there."""
    names = list(names)
    for name in names:
        if name not in columns:
            raise DataError("no such column", file="schema.yaml", value=name, remedy=_nearest(name, tuple(columns)))
    return [columns[name] for name in names]


def axis_columns(schema: Schema, axes: Iterable[str | CohortAxis]) -> list[str]:
    """The stored columns that axes are made of, each once: their own, those of crossed ones, a random one's unit."""
    columns: list[str] = []
    for axis in map(schema.axis, axes):
        if isinstance(axis, RandomAxis):
            columns += [schema.unit] if schema.unit else []
        else:
            columns += [schema.axis(name).column for name in axis.crosses or (axis.name,)]
    return list(dict.fromkeys(columns))


def axis_ids(
    schema: Schema, axis: CohortAxis, stored: Mapping[str, np.ndarray], row_R: np.ndarray | None = None
) -> np.ndarray:
    """Ids of an axis from the stored columns: of a crossed one id_a * C_b + id_b, and -1 where either is -1.

    ``row_R`` are the rows' numbers in the split, which random cohorts of data without a unit need.
    """
    if isinstance(axis, RandomAxis):
        unit_R = stored[schema.unit] if schema.unit else row_R
        assert unit_R is not None
        return assign(unit_R, axis)
    if not axis.crosses:
        return stored[axis.column]
    first, second = (schema.axis(name) for name in axis.crosses)
    a, b = stored[first.column], stored[second.column]
    return np.where((a < 0) | (b < 0), np.int32(-1), a.astype(np.int32) * np.int32(len(second.cohorts)) + b)


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one row group, as read, with the place they stand at."""

    table: pa.Table
    file: str
    row_group: int
    row_in_group: int
    row_in_split: int

    def values(self, column: Column) -> np.ndarray:
        """The values of a single-valued column, checked."""
        return self._checked(column, self._array(column).to_numpy(zero_copy_only=False))

    def bags(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        """How many values each row of a multi-valued column has, and the values one after another, checked."""
        lists = cast(pa.ListArray, self._array(column))
        offsets = lists.offsets.to_numpy().astype(np.int64)
        inner = lists.values.slice(offsets[0], offsets[-1] - offsets[0])
        offsets -= offsets[0]
        if inner.null_count:
            self._fail_at_null(column, inner, offsets)
        return np.diff(offsets), self._checked(column, inner.to_numpy(zero_copy_only=False), offsets)

    def _array(self, column: Column) -> pa.Array:
        chunks = self.table.column(column.name)
        array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
        if array.null_count:
            self._fail_at_null(column, array)
        return array

    def _checked(self, column: Column, stored: np.ndarray, offsets: np.ndarray | None = None) -> np.ndarray:
        values = stored
        if column.dtype.kind == "f":
            with np.errstate(over="ignore"):
                values = stored.astype(column.dtype, copy=False)
        # NaN makes both comparisons false, an infinite value one of them.
        if len(values) and not (values.min() >= column.low and values.max() < column.high):
            index = int(np.argmin((values >= column.low) & (values < column.high)))
            raise self._error(column, column.fault, index, stored[index].item(), column.remedy, offsets)
        return values.astype(column.dtype, copy=False)

    def _fail_at_null(self, column: Column, array: pa.Array, offsets: np.ndarray | None = None) -> None:
        index = pc.index(pc.is_null(array), True).as_py()
        remedy = f"{PREPARE}: it gives nulls an id or a number"
        raise self._error(column, "null where none may be", index, "null", remedy, offsets)

    def _error(
        self, column: Column, problem: str, index: int, value: object, remedy: str, offsets: np.ndarray | None
    ) -> DataError:
        row = index if offsets is None else int(np.searchsorted(offsets, index, side="right")) - 1
        return DataError(
            f"{problem} in row {self.row_in_group + row} of the row group",
            file=self.file,
            row_group=self.row_group,
            column=column.name,
            value=value,
            remedy=remedy,
        )
