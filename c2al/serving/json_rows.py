"""JSON to a table of the columns that the model reads: rows as objects, or columns as lists.

    {"rows": [{"age": 31, "country": "de", "seen": [4, 9]}, …]}        {"columns": {"age": [31, …], …}}

A key that some rows lack is treated as a column that is missing is, whichever rows come with it; null is null. In a
body without rows nothing is missing. The table's types are those of ``json_values``, the same for all bodies.
"""

import gc
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any, NoReturn

import pyarrow as pa

from c2al.schema import DataError
from c2al.serving.bodies import check_columns, check_rows
from c2al.serving.json_values import FILE, Kind, array_of, shown
from c2al.serving.refusals import RefusalError

FORM = 'send {"rows": [{column: value, …}, …]} or {"columns": {column: [value, …], …}}'
KEY = re.compile(r'"[ \t\r\n]*:')
LONGEST_NAME = 200  # characters; for a longer one no name that is like it is looked for


class Absent:
    """In place of a value that a row does not have."""


def parsed(body: bytes) -> Any:
    """Return the JSON; a RefusalError 400 where it is none, or has a key twice. NaN and infinities are none."""
    try:
        text = body.removeprefix(BOM_UTF8).decode("utf-8")
        with _collector_idle():
            content = json.loads(text, parse_constant=_refused)
            if text.count(":") > (keys := _num_keys(content)) and len(KEY.findall(text)) > keys:
                json.loads(text, object_pairs_hook=_unique)  # takes as long again: only where a key may be there twice
        return content
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {str(error).splitlines()[0]}"
        raise RefusalError(400, problem, remedy=FORM, reason="malformed") from None


@contextmanager
def _collector_idle() -> Iterator[None]:
    """Without Python's collector of cycles, of which JSON has none: it looks at all lists again and again, so that a
    body of two million small ones takes five times as long, and Python's lock with it."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON; send null")


def _num_keys(content: Any) -> int:
    """Keys of the body's form, without those of objects within values."""
    if not isinstance(content, dict):
        return 0
    within = [content.get("columns"), *(rows if isinstance(rows := content.get("rows"), list) else ())]
    return len(content) + sum(len(each) for each in within if isinstance(each, dict))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which Python would keep the last of two values of one key, and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusalError(
            400, "a key is there twice in one object", value=twice, remedy="send each key once", reason="malformed"
        )
    return found


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
    """Return one table of the rows of all parts, with the columns that are there, in the order of ``kinds``: all of
    them where there are no rows, or where ``missing`` is "default".

    DataError with column and row for a value of another kind, and, where ``missing`` is "error", for a column that
    some rows have and some not.
    """
    num_rows = sum(part.num_rows for part in parts)
    arrays = {}
    for name, kind in kinds.items():
        if missing == "default" or not num_rows or any(name in part.values for part in parts):
            values = [part.values.get(name) or [Absent] * part.num_rows for part in parts]
            arrays[name] = array_of(name, kind, _there(name, list(chain.from_iterable(values)), missing))
    return pa.table(arrays) if arrays else pa.table({"": pa.nulls(num_rows)}).select([])


def names_of(content: Any) -> set[str]:
    """All column names in content that ``given`` took."""
    return set(content["columns"]) if "columns" in content else set(chain.from_iterable(content["rows"]))


def check_known(names: set[str], known: Sequence[str]) -> None:
    """A DataError at a column that the model does not read, with the nearest that it does."""
    if unknown := names - set(known):
        name = min(unknown)
        close = get_close_matches(name, known, n=1) if len(name) <= LONGEST_NAME else []
        remedy = f"did you mean {close[0]}? " if close else ""
        remedy += "GET /model lists the columns; unknown_columns=ignore passes over others"
        raise DataError("the model reads no such column", file=FILE, column=name[:LONGEST_NAME], remedy=remedy)


def _given_rows(rows: Any, kinds: Mapping[str, Kind], most_rows: int) -> Given:
    if not isinstance(rows, list):
        raise DataError("rows is no list", file=FILE, remedy=FORM)
    check_rows(len(rows), most_rows)
    for place, row in enumerate(rows):
        if isinstance(row, dict):
            check_columns(len(row))
        else:
            raise DataError(f"row {place} is no object", file=FILE, value=shown(row), remedy=FORM)
    every = {name: [row.get(name, Absent) for row in rows] for name in kinds}
    lacking = {name for name, values in every.items() if rows and all(each is Absent for each in values)}
    return Given({name: values for name, values in every.items() if name not in lacking}, len(rows))


def _given_columns(columns: Any, kinds: Mapping[str, Kind], most_rows: int) -> Given:
    if not isinstance(columns, dict):
        raise DataError("columns is no object", file=FILE, remedy=FORM)
    check_columns(len(columns))
    lengths = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            column, value = name[:LONGEST_NAME], shown(values)
            raise DataError("the column is no list", file=FILE, column=column, value=value, remedy=FORM)
        lengths[name] = len(values)
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            remedy = f"give all columns as many values: {first[:LONGEST_NAME]} has {lengths[first]}"
            column = name[:LONGEST_NAME]
            raise DataError("columns of different lengths", file=FILE, column=column, value=length, remedy=remedy)
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
