"""Values of JSON to one Arrow array a column, whose type the model's column decides and never the values.

So what becomes of a value depends on that value alone: not on the other rows of its request, nor on the requests that
are encoded in the same pass.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from c2al.data.raw_types import arrow_type
from c2al.data.raw_values import is_number, texts_of
from c2al.schema import DataError, SparseColumn

FILE = "the request"
NULL = type(None)
NUMBERS, PLAIN = {int, float, bool, NULL}, {str, int, float, bool, NULL}
INT64 = range(-(2**63), 2**63)
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)  # as an integer is written: "007" is no id
ZONED = re.compile(r"[T: ][0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$", re.ASCII)
EPOCH = datetime(1970, 1, 1)
MILLISECONDS = 10**11  # a larger number of a time is in milliseconds, as c2al.data.raw_values has it


@dataclass(frozen=True)
class Kind:
    """What a column takes, in lists where it is a ``bag``.

    ``values``: "numbers" (float64), "float32" (numbers that float32 holds), "texts" (what counts is a value's text),
    "times" (texts or seconds since 1970), "ids" (raw values that are the ids themselves: whole numbers, or their texts)
    or "prepared" (whole numbers).
    ``raw_type``: the type that the raw values had in training, in Arrow's words.
    """

    values: str
    bag: bool = False
    raw_type: str | None = None


def kind_of(column: SparseColumn, *, prepared: bool) -> Kind:
    """Return what a sparse column takes."""
    if prepared:
        return Kind("prepared", column.multi)
    if not (column.vocabulary or column.hashed):
        return Kind("ids", column.multi)
    return Kind("times" if column.part else "texts", column.multi, column.raw_type)


def array_of(name: str, kind: Kind, values: list[Any]) -> pa.Array:
    """Return the values of a column as an array; a DataError names the row of a value that the column cannot take."""
    if not kind.bag:
        return MAKERS[kind.values](_Column(name, kind, values, np.arange(len(values))))
    if not set(map(type, values)) <= {list, NULL}:
        _Column(name, kind, values, np.arange(len(values))).refuse({list, NULL}, "give a list in each row, or null")
    lengths_B = np.array([len(each) if each else 0 for each in values], np.int64)
    row_V = np.repeat(np.arange(len(values)), lengths_B)
    flat = MAKERS[kind.values](_Column(name, kind, list(chain.from_iterable(filter(None, values))), row_V))
    offsets, null_B = np.append(0, np.cumsum(lengths_B)).astype(np.int32), np.array([each is None for each in values])
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(null_B, pa.bool_()))


@dataclass(frozen=True)
class _Column:
    """Values, or elements of bags, and the row that each is of."""

    name: str
    kind: Kind
    values: list[Any]
    row_V: np.ndarray

    def types(self, taken: set[type], remedy: str) -> set[type]:
        """The types of the values but null; a DataError where one is not among ``taken``, or is an infinite number."""
        found = set(map(type, self.values))
        if not found <= taken:
            self.refuse(taken, remedy)
        if float in found and not all(type(each) is not float or math.isfinite(each) for each in self.values):
            self.refuse_first(lambda each: type(each) is float and not math.isfinite(each), "give a smaller number")
        return found - {NULL}

    def refuse(self, taken: set[type], remedy: str) -> NoReturn:
        self.refuse_first(lambda each: type(each) not in taken, remedy)

    def refuse_first(self, bad: Callable[[Any], bool], remedy: str) -> NoReturn:
        place = next(i for i, each in enumerate(self.values) if bad(each))
        problem = f"not a value for this column in row {self.row_V[place]}"
        raise DataError(problem, file=FILE, column=self.name, value=shown(self.values[place]), remedy=remedy)


def shown(value: Any) -> str:
    """Return a value as JSON, cut to a length that can be read."""
    if isinstance(value, list | dict):
        value = _top(value)
    try:
        return json.dumps(value)[:200]
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"


def _top(value: Any) -> Any:
    """A few parts of a list or an object, without what is nested in them: that may be deeper than Python can follow."""
    parts = list(value.items() if isinstance(value, dict) else enumerate(value))[:20]
    cut = {key: "…" if isinstance(part, list | dict) else part for key, part in parts}
    return cut if isinstance(value, dict) else list(cut.values())


def _numbers(column: _Column) -> pa.Array:
    column.types(NUMBERS, "give a number, or null")
    try:
        return pa.array([None if each is None else float(each) for each in column.values], pa.float64())
    except OverflowError:
        column.refuse_first(lambda each: type(each) is int and abs(each) >= 2**1024 - 2**970, "give a smaller number")


def _float32(column: _Column) -> pa.Array:
    """Normalized numbers, as the model reads them: beyond float32 they would be infinite, and be taken for null."""
    found = _numbers(column)
    most = float(np.finfo(np.float32).max)
    if any(each is not None and abs(each) > most for each in column.values):
        column.refuse_first(lambda each: each is not None and abs(each) > most, "give a smaller number")
    return found


def _texts(column: _Column) -> pa.Array:
    types = column.types(PLAIN, "give a text, a number, true, false or null")
    values = column.values
    if arrow_type(column.kind.raw_type) == pa.bool_():
        values = [_flag(each) for each in values]
        types = set(map(type, values)) - {NULL}
    if types == {int}:
        try:
            return pa.array(values, pa.int64()).cast(pa.string())
        except OverflowError:  # beyond 64 bits, and still an id
            pass
    if types == {float}:
        return texts_of(pa.array(values, pa.float64()))
    try:
        return pa.array(values if types <= {str} else [_text(each) for each in values], pa.string())
    except UnicodeEncodeError:
        _refuse_surrogate(column)


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        text: str | None = texts_of(pa.array([value], pa.float64()))[0].as_py()
        return text
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _flag(value: Any) -> Any:
    """Of a column that was of booleans in training, 1 and 0 are true and false."""
    if value in (0, 1, "0", "1"):
        return bool(int(value))
    return value


def _refuse_surrogate(column: _Column) -> NoReturn:
    def half(each: Any) -> bool:
        return isinstance(each, str) and each != each.encode("utf-8", "replace").decode()

    column.refuse_first(half, "send whole characters: half of a surrogate pair is none")


def _ids(column: _Column) -> pa.Array:
    return _whole(column, PLAIN - {bool}, "give an id: a whole number below 2^63, its text, or null")


def _prepared(column: _Column) -> pa.Array:
    remedy = "with ?prepared=true a sparse column has ids, whole numbers below 2^63; leave it out for raw values"
    return _whole(column, {int, float, NULL}, remedy)


def _whole(column: _Column, taken: set[type], remedy: str) -> pa.Array:
    types = column.types(taken, remedy)
    try:
        if types <= {int}:
            return pa.array(column.values, pa.int64())
        found = [None if each == "" else _id(each) for each in column.values]
        return pa.array([None if each is None else int(each) for each in found], pa.int64())
    except (OverflowError, ValueError):
        column.refuse_first(lambda each: each not in (None, "") and not _is_id(each), remedy)


def _is_id(value: Any) -> bool:
    try:
        return int(_id(value)) in INT64
    except ValueError:
        return False


def _id(value: Any) -> Any:
    """An integer, or the text of one; ValueError for other numbers and texts."""
    if (isinstance(value, float) and not value.is_integer()) or (isinstance(value, str) and not WHOLE.fullmatch(value)):
        raise ValueError("not whole")
    return value


def _times(column: _Column) -> pa.Array:
    """Times as seconds where they were numbers in training, else as texts; with Z where they had a zone."""
    remedy = "give a time as text, such as 2026-05-01T17:30:00, or as seconds since 1970"
    types = column.types({str, int, float, NULL}, remedy)
    trained = arrow_type(column.kind.raw_type)
    if trained is not None and is_number(trained):
        return _seconds(column, types, remedy)
    zoned = trained is not None and pat.is_timestamp(trained) and trained.tz is not None
    form = "%H:%M:%S" if trained is not None and pat.is_time(trained) else "%Y-%m-%dT%H:%M:%S"
    found: list[str | None] = []
    for place, each in enumerate(column.values):
        try:
            if isinstance(each, int | float):
                each = _moment(each).strftime(form) + ("Z" if zoned else "")
            elif each and not zoned and ZONED.search(each):
                each = _in_utc(each).strftime("%Y-%m-%dT%H:%M:%S")
        except (OverflowError, ValueError):
            row = column.row_V[place]
            problem = f"no time in row {row}"
            raise DataError(problem, file=FILE, column=column.name, value=shown(each), remedy=remedy) from None
        found.append(each)
    try:
        return pa.array(found, pa.string())
    except UnicodeEncodeError:
        _refuse_surrogate(column)


def _seconds(column: _Column, types: set[type], remedy: str) -> pa.Array:
    """Numbers as they are, without fractions; texts as seconds since 1970."""
    if types <= {int}:
        found: list[int | None] = column.values
    else:
        found = []
        for place, each in enumerate(column.values):
            try:
                if isinstance(each, str):
                    each = round((_in_utc(each) - EPOCH).total_seconds()) if each else None
                found.append(None if each is None else math.floor(each))
            except ValueError:
                problem = f"no time in row {column.row_V[place]}"
                raise DataError(problem, file=FILE, column=column.name, value=shown(each), remedy=remedy) from None
    try:
        return pa.array(found, pa.int64())
    except OverflowError:
        column.refuse_first(lambda each: isinstance(each, int | float) and math.floor(each) not in INT64, remedy)


def _moment(value: float) -> datetime:
    """Seconds, or milliseconds where they are many, since 1970; OverflowError beyond the year 9999."""
    seconds = math.floor(value)
    return EPOCH + timedelta(seconds=seconds // 1000 if seconds > MILLISECONDS else seconds)


def _in_utc(text: str) -> datetime:
    """The moment that a text tells, without its zone; ValueError where it tells none."""
    moment = pa.scalar(text).cast(pa.timestamp("us", "UTC" if ZONED.search(text) else None))
    return EPOCH + timedelta(microseconds=moment.value)


Maker = Callable[[_Column], pa.Array]
MAKERS: dict[str, Maker] = {
    **{"numbers": _numbers, "float32": _float32, "texts": _texts, "times": _times},
    **{"ids": _ids, "prepared": _prepared},
}
