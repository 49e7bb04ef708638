"""Columns of raw chunks as plain values: texts of ids, numbers, labels, weights; each checked where it is read."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.raw_files import Chunk
from c2al.schema import DataError


@dataclass(frozen=True)
class Feature:
    """A column to be made: of ``column``, whole or ``part`` (hour, weekday) of its times."""

    name: str
    column: str
    part: str = ""
    multi: bool = False


def is_time(kind: pa.DataType) -> bool:
    """A date, a time of day or a point in time."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)


def is_number(kind: pa.DataType) -> bool:
    """Integers, floats, decimals, durations."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_duration(kind)
    )


def is_float(kind: pa.DataType) -> bool:
    """Floats and what is cast to them."""
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_duration(kind))


def numbers_of(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Float64, NaN for null."""
    if pa.types.is_duration(values.type):
        values = pc.cast(values, pa.int64())
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def texts_of(values: pa.Array) -> pa.Array:
    """Values of any plain type as text; null for null, empty and NaN."""
    kind = values.type
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    if pa.types.is_floating(values.type):
        known = pc.is_finite(values)
        whole = pc.fill_null(pc.and_(pc.equal(pc.trunc(values), values), pc.less(pc.abs(values), 2.0**63)), False)
        integers = pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(known, pc.if_else(whole, integers, values.cast(pa.string())), None)
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:
        raise DataError("bytes that are not UTF-8", remedy="decode the column, or leave it out") from None
    return pc.if_else(pc.equal(texts, ""), None, texts)


def feature_texts(table: pa.Table, feature: Feature, file: str) -> tuple[pa.Array, np.ndarray | None]:
    """A sparse feature's values as text; of bags the elements that are not null, and how many each row has."""
    values = table.column(feature.column).combine_chunks()
    try:
        if not feature.multi:
            return texts_of(part_of(values, feature.part)), None
        texts = texts_of(pc.list_flatten(values))
    except DataError as error:
        raise DataError(error.problem, file=file, column=feature.column, remedy=error.remedy) from None
    there = pc.is_valid(texts)
    rows = pc.list_parent_indices(values).filter(there).to_numpy(zero_copy_only=False)
    return texts.filter(there), np.bincount(rows, minlength=len(values))


def part_of(values: pa.Array, part: str) -> pa.Array:
    """Hour or weekday (Monday is 0) of times; the values themselves where ``part`` is empty."""
    if not part:
        return values
    if is_number(values.type):  # seconds or milliseconds since 1970
        seconds = pc.if_else(pc.greater(values, 10**11), pc.divide(values, 1000), values)
        values = seconds.cast(pa.timestamp("s"))
    return pc.hour(values) if part == "hour" else pc.day_of_week(values)


def labels_of(chunk: Chunk, column: str) -> np.ndarray:
    """The label as int8, checked."""
    values = chunk.table.column(column).combine_chunks()
    remedy = "the label must be 0 or 1 (or true and false) in every row"
    if not (is_number(values.type) or pa.types.is_boolean(values.type)):
        raise DataError("the label is no number", file=chunk.file, column=column, value=str(values.type), remedy=remedy)
    labels = numbers_of(values)
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        row, value = chunk.first_row + int(bad[0]), values[int(bad[0])].as_py()
        shown = "null" if value is None else value
        raise DataError(f"a label in row {row}", file=chunk.file, column=column, value=shown, remedy=remedy)
    return labels.astype(np.int8)


def weights_of(chunk: Chunk, column: str) -> np.ndarray:
    """The weight as float32, checked."""
    values = chunk.table.column(column).combine_chunks()
    remedy = "weights must be finite numbers above 0"
    if not is_number(values.type):
        raise DataError(
            "the weight is no number", file=chunk.file, column=column, value=str(values.type), remedy=remedy
        )
    weights = numbers_of(values).astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    if len(bad):
        row, value = chunk.first_row + int(bad[0]), values[int(bad[0])].as_py()
        shown = "null" if value is None else value
        raise DataError(f"a weight in row {row}", file=chunk.file, column=column, value=shown, remedy=remedy)
    return weights
