"""Columns of raw chunks as plain values: texts of ids, numbers, labels, weights; each checked where it is read."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.chunks import Chunk
from c2al.data.csv_types import typed
from c2al.schema import DataError

YEAR_1_S, YEAR_10000_S = -62_135_596_800, 253_402_300_800  # since 1970
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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
    """Floats, durations and decimals with digits after the point."""
    fraction = pa.types.is_decimal(kind) and kind.scale > 0
    return bool(pa.types.is_floating(kind) or fraction or pa.types.is_duration(kind))


def numbers_of(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Float64, NaN for null; durations in seconds."""
    if pa.types.is_duration(values.type):
        counts = pc.cast(pc.cast(values, pa.int64()), pa.float64(), safe=False)
        return np.asarray(counts.to_numpy(zero_copy_only=False)) / PER_SECOND[values.type.unit]
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def texts_of(values: pa.Array) -> pa.Array:
    """Values of any plain type as text, with all their digits; null for null, empty and NaN.

    Numbers that are equal have one text, whatever their type: 7 of an integer, 7.0 of a float and 7.00 of a decimal.
    """
    if pa.types.is_decimal(values.type):
        return _decimal_texts(values)
    if pa.types.is_floating(values.type):
        known = pc.is_finite(values)
        whole = pc.fill_null(pc.and_(pc.equal(pc.trunc(values), values), pc.less(pc.abs(values), 2.0**63)), False)
        integers = pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(known, pc.if_else(whole, integers, values.cast(pa.string())), None)
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:
        if not pa.types.is_binary(values.type):
            raise
        raise DataError("bytes that are not UTF-8", remedy="decode the column, or leave it out") from None
    except pa.ArrowNotImplementedError:
        remedy = "convert the column to texts or integers, or leave it out"
        raise DataError("values of a type that has no text", value=str(values.type), remedy=remedy) from None
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _decimal_texts(values: pa.Array) -> pa.Array:
    """Digits without a point where there is nothing but zeros behind it."""
    if values.type.scale <= 0:
        return (values.cast(pa.decimal256(76, 0)) if values.type.scale < 0 else values).cast(pa.string())
    texts = pc.utf8_lower(values.cast(pa.string()))  # 1e-8 where there are many zeros before the digits
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]*?)0+(e|$)", r"\1\2")
    texts = pc.replace_substring_regex(texts, r"\.(e|$)", r"\1")
    return pc.replace_substring_regex(texts, r"^-?0(e.*)?$", "0")


def feature_texts(table: pa.Table, feature: Feature, file: str) -> tuple[pa.Array, np.ndarray | None]:
    """A sparse feature's values as text; of bags the elements that are not null, and how many each row has."""
    values = table.column(feature.column).combine_chunks()
    try:
        if not feature.multi:
            return texts_of(part_of(values, feature.part)), None
        texts = texts_of(pc.list_flatten(values))
    except DataError as error:
        value = error.where["value"]
        raise DataError(error.problem, file=file, column=feature.column, value=value, remedy=error.remedy) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise unreadable_values(error, file, feature.column) from None
    there = pc.is_valid(texts)
    rows = pc.list_parent_indices(values).filter(there).to_numpy(zero_copy_only=False)
    return texts.filter(there), np.bincount(rows, minlength=len(values))


def unreadable_values(error: Exception, file: str, column: str) -> DataError:
    """The DataError for values that Arrow makes nothing of: a time zone that there is not, times beyond all bounds."""
    said = str(error).strip().split("\n")[0]
    remedy = "fix the values or their type in the file, or leave the column out"
    return DataError(f"values that nothing can be made of: {said}", file=file, column=column, remedy=remedy)


def known_values(values: pa.Array) -> pa.Array:
    """Which values are neither null nor encoded as null: empty texts, NaN, infinities."""
    known = pc.is_valid(values)
    if pa.types.is_floating(values.type):
        known = pc.is_finite(values)
    elif pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        known = pc.greater(pc.binary_length(values), 0)
    return pc.fill_null(known, False)


def part_of(values: pa.Array, part: str) -> pa.Array:
    """Hour or weekday (Monday is 0) of times; the values themselves where ``part`` is empty."""
    if not part:
        return values
    if is_number(values.type):  # seconds or milliseconds since 1970
        if not pa.types.is_integer(values.type):  # integers beside nulls, as pandas has them; fractions of a second
            values = values.cast(pa.float64())
            values = pc.floor(pc.if_else(pc.is_finite(values), values, None)).cast(pa.int64())
        seconds = pc.if_else(pc.greater(values, 10**11), pc.divide(values, 1000), values).cast(pa.int64())
        beyond = pc.fill_null(pc.or_(pc.less(seconds, YEAR_1_S), pc.greater_equal(seconds, YEAR_10000_S)), False)
        if pc.any(beyond).as_py():
            remedy = "give seconds or milliseconds since 1970, or make it a number by dense=[...]"
            raise DataError("no time", value=values.filter(beyond)[0].as_py(), remedy=remedy)
        values = seconds.cast(pa.timestamp("s"))
    return pc.hour(values) if part == "hour" else pc.day_of_week(values)


def labels_of(chunk: Chunk, column: str) -> np.ndarray:
    """The label as int8, checked."""
    values = chunk.table.column(column).combine_chunks()
    remedy = "the label must be 0 or 1 (or true and false) in every row"
    values = _from_text(values, chunk, column, "label", remedy)
    if not (is_number(values.type) or pa.types.is_boolean(values.type)):
        raise DataError("the label is no number", file=chunk.file, column=column, value=str(values.type), remedy=remedy)
    labels = numbers_of(values)
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        row, value = chunk.first_row + int(bad[0]), values[int(bad[0])].as_py()
        shown = "null" if value is None else value
        raise DataError(f"a label in row {row}", file=chunk.file, column=column, value=shown, remedy=remedy)
    return labels.astype(np.int8)


def _from_text(values: pa.Array, chunk: Chunk, column: str, role: str, remedy: str) -> pa.Array:
    """Numbers of the texts of a csv file, where true is 1 and false 0; values of other files as they are."""
    if not pa.types.is_string(values.type) or not chunk.from_csv:
        return values
    lower = pc.utf8_trim_whitespace(pc.utf8_lower(values))
    texts = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", values))
    try:
        return typed(texts, pa.float64())
    except pa.ArrowInvalid:
        bad = next(i for i, text in enumerate(texts) if not _is_number(text.as_py()))
    shown = repr(values[bad].as_py())
    problem = f"a {role} that is no number in row {chunk.first_row + bad}"
    raise DataError(problem, file=chunk.file, column=column, value=shown, remedy=remedy)


def _is_number(text: str | None) -> bool:
    try:
        typed(pa.array([text], pa.string()), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def weights_of(chunk: Chunk, column: str) -> np.ndarray:
    """The weight as float32, checked."""
    values = chunk.table.column(column).combine_chunks()
    remedy = "weights must be finite numbers above 0"
    values = _from_text(values, chunk, column, "weight", remedy)
    if not is_number(values.type):
        raise DataError(
            "the weight is no number", file=chunk.file, column=column, value=str(values.type), remedy=remedy
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused
        weights = numbers_of(values).astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    if len(bad):
        row, value = chunk.first_row + int(bad[0]), values[int(bad[0])].as_py()
        shown = "null" if value is None else value
        raise DataError(f"a weight in row {row}", file=chunk.file, column=column, value=shown, remedy=remedy)
    return weights
