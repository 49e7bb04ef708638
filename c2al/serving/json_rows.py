"""JSON to a table of the columns that the model reads: rows as objects, or columns as lists.

    {"rows": [{"age": 31, "country": "de", "seen": [4, 9]}, …]}        {"columns": {"age": [31, …], …}}

A key that some rows lack is treated as a column that is missing is, whichever rows come with it; null is null. Values
of a sparse column may differ in type: each counts as its text, as ``c2al.data.vocabulary`` has it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from c2al.data.raw_values import texts_of
from c2al.schema import DataError
from c2al.serving.bodies import check_rows
from c2al.serving.refusals import RefusalError

FILE = "the request"
FORM = 'send {"rows": [{column: value, …}, …]} or {"columns": {column: [value, …], …}}'
PLAIN = {str, int, float, bool, type(None)}
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Kind:
    """What a column takes: "numbers", "raw" values or "ids"; in lists where it is a ``bag``."""

    values: str
    bag: bool = False


class Absent:
    """In place of a value that a row does not have."""


def parsed(body: bytes) -> Any:
    """The JSON; 400 where it is none. NaN and infinities are none."""
    try:
        return json.loads(body, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {str(error).splitlines()[0]}"
        raise RefusalError(400, problem, remedy=FORM, reason="malformed") from None


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON; send null")


@dataclass(frozen=True)
class Given:
    """The columns of a body as lists, ``Absent`` where a row lacks one, and its rows."""

    values: dict[str, list[Any]]
    num_rows: int


def given(content: Any, kinds: Mapping[str, Kind], *, most_rows: int) -> Given:
    """The columns of ``kinds`` that any row has, whatever their values; DataError for another form, and 413 beyond
    ``most_rows``. Other columns are left out: ``check_known`` finds them."""
    if not isinstance(content, dict) or set(content) not in ({"rows"}, {"columns"}):
        raise DataError("neither rows nor columns, or both", file=FILE, remedy=FORM)
    if "rows" in content:
        return _given_rows(content["rows"], kinds, most_rows)
    return _given_columns(content["columns"], kinds, most_rows)


def table_of(parts: Sequence[Given], kinds: Mapping[str, Kind], *, missing: str) -> pa.Table:
    """One table of the rows of all parts, with the columns that are there, in the order of ``kinds``.

    DataError with column and row for a value of another kind, and, where ``missing`` is "error", for a column that
    some rows have and some not.
    """
    num_rows = sum(part.num_rows for part in parts)
    arrays = {}
    for name, kind in kinds.items():
        if any(name in part.values for part in parts):
            values = [part.values.get(name) or [Absent] * part.num_rows for part in parts]
            arrays[name] = _array(name, kind, _there(name, list(chain.from_iterable(values)), missing))
    return pa.table(arrays) if arrays else pa.table({"": pa.nulls(num_rows)}).select([])


def of_one_type(parts: Sequence[Given], kinds: Mapping[str, Kind]) -> bool:
    """Whether all parts together have one type of values, null aside, in each raw column. Where they have not, a table
    of all would make texts of values that one part alone has as numbers, which are other values to times, say."""
    for name, kind in kinds.items():
        if kind.values == "raw":
            values = chain.from_iterable(part.values.get(name, ()) for part in parts)
            if kind.bag:
                values = chain.from_iterable(each for each in values if isinstance(each, list))
            if len(set(map(type, values)) - {type(None), type(Absent)}) > 1:
                return False
    return True


def names_of(content: Any) -> set[str]:
    """All column names in content that ``given`` took."""
    return set(content["columns"]) if "columns" in content else set(chain.from_iterable(content["rows"]))


def check_known(names: set[str], known: Sequence[str]) -> None:
    """A DataError at a column that the model does not read, with the nearest that it does."""
    for name in sorted(names - set(known)):
        close = get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]}? " if close else ""
        remedy += "GET /model lists the columns; unknown_columns=ignore passes over others"
        raise DataError("the model reads no such column", file=FILE, column=name, remedy=remedy)


def _given_rows(rows: Any, kinds: Mapping[str, Kind], most_rows: int) -> Given:
    if not isinstance(rows, list):
        raise DataError("rows is no list", file=FILE, remedy=FORM)
    check_rows(len(rows), most_rows)
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"row {place} is no object", file=FILE, value=row, remedy=FORM)
    every = {name: [row.get(name, Absent) for row in rows] for name in kinds}
    lacking = {name for name, values in every.items() if rows and all(each is Absent for each in values)}
    return Given({name: values for name, values in every.items() if name not in lacking}, len(rows))


def _given_columns(columns: Any, kinds: Mapping[str, Kind], most_rows: int) -> Given:
    if not isinstance(columns, dict):
        raise DataError("columns is no object", file=FILE, remedy=FORM)
    lengths = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            raise DataError("the column is no list", file=FILE, column=name, value=values, remedy=FORM)
        lengths[name] = len(values)
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            remedy = f"give all columns as many values: {first} has {lengths[first]}"
            raise DataError("columns of different lengths", file=FILE, column=name, value=length, remedy=remedy)
    num_rows = lengths.get(first, 0)
    check_rows(num_rows, most_rows)
    return Given({name: columns[name] for name in kinds if name in columns}, num_rows)


def _there(name: str, values: list[Any], missing: str) -> list[Any]:
    if Absent not in values:
        return values
    if missing == "error":
        remedy = "give it in every row, null where it is not known; or serve with policy.missing=default"
        raise DataError(f"row {values.index(Absent)} lacks a column", file=FILE, column=name, remedy=remedy)
    return [None if each is Absent else each for each in values]


def _array(name: str, kind: Kind, values: list[Any]) -> pa.Array:
    if kind.bag:
        return _bags(name, MAKERS[kind.values], values)
    return MAKERS[kind.values](name, values, np.arange(len(values)))


def _bags(name: str, make: "Maker", values: list[Any]) -> pa.Array:
    if not set(map(type, values)) <= {list, type(None)}:
        _bad(name, values, np.arange(len(values)), {list, type(None)}, "give a list in each row, or null")
    lengths_B = np.array([len(each) if each else 0 for each in values], np.int64)
    rows = np.repeat(np.arange(len(values)), lengths_B)
    flat = make(name, list(chain.from_iterable(filter(None, values))), rows)
    offsets, empty = np.append(0, np.cumsum(lengths_B)).astype(np.int32), np.array([each is None for each in values])
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(empty, pa.bool_()))


def _numbers(name: str, values: list[Any], rows: np.ndarray) -> pa.Array:
    if not set(map(type, values)) <= {int, float, bool, type(None)}:
        _bad(name, values, rows, {int, float, bool, type(None)}, "give a number, or null")
    try:
        return pa.array([None if each is None else float(each) for each in values], pa.float64())
    except OverflowError:
        _bad(name, [_small(each) for each in values], rows, {int, float, bool, type(None)}, "give a smaller number")


def _ids(name: str, values: list[Any], rows: np.ndarray) -> pa.Array:
    remedy = "with ?prepared=true a sparse column has ids, whole numbers; leave it out for raw values"
    if not set(map(type, values)) <= {int, type(None)}:
        _bad(name, values, rows, {int, type(None)}, remedy)
    try:
        return pa.array(values, pa.int64())
    except OverflowError:
        _bad(name, [each if each in INT64 else str(each) for each in values], rows, {int}, "ids are below 2^63")


def _raw(name: str, values: list[Any], rows: np.ndarray) -> pa.Array:
    """Of one type where the values are, and texts otherwise."""
    kinds = set(map(type, values))
    if not kinds <= PLAIN:
        _bad(name, values, rows, PLAIN, "give a text, a number, true, false or null")
    try:
        if len(kinds - {type(None)}) == 1:
            return pa.array(values)
        return pa.array([_text(each) for each in values], pa.string())
    except UnicodeEncodeError:
        good = [each if _is_text(each) else [each] for each in values]
        _bad(name, good, rows, PLAIN, "half of a surrogate pair is no character")
    except OverflowError:  # beyond 64 bits, and still an id
        return pa.array([_text(each) for each in values], pa.string())


Maker = Callable[[str, list[Any], np.ndarray], pa.Array]  # name, values, and the row that each is of
MAKERS: dict[str, Maker] = {"numbers": _numbers, "raw": _raw, "ids": _ids}


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        return texts_of(pa.array([value], pa.float64()))[0].as_py()
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _is_text(value: Any) -> bool:
    return not isinstance(value, str) or value.isascii() or value == value.encode("utf-8", "replace").decode()


def _small(value: Any) -> Any:
    return str(value) if isinstance(value, int) and abs(value) > 10**308 else value


def _bad(name: str, values: list[Any], rows: np.ndarray, taken: set[type], remedy: str) -> NoReturn:
    place = next(i for i, each in enumerate(values) if type(each) not in taken)
    problem, value = f"not a value for this column in row {rows[place]}", json.dumps(values[place])[:200]
    raise DataError(problem, file=FILE, column=name, value=value, remedy=remedy)
