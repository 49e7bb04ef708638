"""Bodies to what the model reads: those that wait at the same moment are encoded as one table.

A pass over the columns costs about as much for one row as for a hundred, so under load it is shared. Whatever is wrong
with one body is that body's alone: where a table of several cannot be encoded, each is encoded by itself.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from c2al.background import Background
from c2al.serving import arrow_stream, json_rows
from c2al.serving.bodies import JSON, Asked
from c2al.serving.inputs import Inputs
from c2al.serving.json_values import Kind, array_of
from c2al.serving.loaded import Loaded
from c2al.serving.service_settings import Settings

MOST_BYTES = 2**20  # of the bodies of one table; a longer body is alone


@dataclass
class _Waiting:
    loaded: Loaded
    form: str
    asked: Asked
    body: bytes
    inputs: "Future[Inputs]" = field(default_factory=Future)


class Reader:
    """Encodes in one thread, as Python runs one of several at a time. ``observe`` is told each pass's seconds."""

    def __init__(self, settings: Settings, *, observe: Callable[[float], None] = lambda seconds: None) -> None:
        self._settings, self._observe = settings, observe
        self._waiting: deque[_Waiting] = deque()
        self._thread = Background("encode")

    def submit(self, loaded: Loaded, form: str, asked: Asked, body: bytes) -> "Future[Inputs]":
        """The future rows of a body, for that model; RefusalError or DataError where they cannot be read."""
        waiting = _Waiting(loaded, form, asked, body)
        self._waiting.append(waiting)
        self._thread.submit(self._work)
        return waiting.inputs

    def close(self) -> None:
        """Take nothing more."""
        self._thread.close()

    def _work(self) -> None:
        """Whatever waits now; where a pass before this one took it, nothing."""
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].body) <= MOST_BYTES):
            taken.append(self._waiting.popleft())
            size += len(taken[-1].body)
        start_s = time.perf_counter()
        alike: dict[Any, list[tuple[_Waiting, Any]]] = {}
        for each in taken:
            if each.inputs.set_running_or_notify_cancel():
                try:
                    key, part = self._part(each)
                    alike.setdefault((id(each.loaded), each.asked.prepared, key), []).append((each, part))
                except Exception as error:
                    each.inputs.set_exception(error)
        for members in alike.values():
            self._encode(members)
        if taken:
            self._observe(time.perf_counter() - start_s)

    def _part(self, each: _Waiting) -> tuple[Any, Any]:
        """What a body holds, checked by itself, and a key: parts of one key make up one table."""
        loaded, prepared, settings = each.loaded, each.asked.prepared, self._settings
        most_rows = settings.max_rows_per_request
        if each.form == JSON:
            content = json_rows.parsed(each.body)
            part: Any = json_rows.given(content, loaded.kinds(prepared), most_rows=most_rows)
            key: Any = JSON
            names = json_rows.names_of(content)
        else:
            table = arrow_stream.table_of(each.body, most_rows=most_rows, most_bytes=settings.max_body_bytes)
            names = set(table.column_names)
            part = _columns_of(table, loaded, prepared)
            key = tuple(zip(part.column_names, part.schema.types, strict=True))
        if settings.unknown_columns == "error":
            json_rows.check_known(names, loaded.names(prepared))
        return key, part

    def _encode(self, members: Sequence[tuple[_Waiting, Any]]) -> None:
        loaded, prepared = members[0][0].loaded, members[0][0].asked.prepared
        try:
            inputs = loaded.encode(_table(loaded, prepared, [part for _, part in members]), prepared)
        except Exception as error:
            if len(members) == 1:
                members[0][0].inputs.set_exception(error)
            else:  # whose fault it is shows when each is alone
                for member in members:
                    self._encode([member])
            return
        start = 0
        for each, part in members:
            each.inputs.set_result(inputs.rows(start, start + part.num_rows))
            start += part.num_rows


def _columns_of(table: pa.Table, loaded: Loaded, prepared: bool) -> pa.Table:
    """The columns that the model reads, with what JSON has besides: ids as texts, all columns of no rows, and those
    that are missing where that is the same as null."""
    kinds, missing = loaded.kinds(prepared), loaded.policy["missing"]
    if not table.num_rows:
        return json_rows.table_of([json_rows.Given({}, 0)], kinds, missing=missing)
    arrays: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name in table.column_names:
            arrays[name] = table.column(name)
            if kind.values == "ids" and _holds_texts(arrays[name].type, kind):
                arrays[name] = array_of(name, kind, arrays[name].to_pylist())
        elif missing == "default":
            arrays[name] = pa.nulls(table.num_rows)
    return pa.table(arrays) if arrays else table.select([])


def _holds_texts(found: pa.DataType, kind: Kind) -> bool:
    if kind.bag and (pat.is_list(found) or pat.is_large_list(found)):
        found = found.value_type
    return bool(pat.is_string(found) or pat.is_large_string(found))


def _table(loaded: Loaded, prepared: bool, parts: Sequence[Any]) -> pa.Table:
    if isinstance(parts[0], pa.Table):
        return pa.concat_tables(parts)
    return json_rows.table_of(parts, loaded.kinds(prepared), missing=loaded.policy["missing"])
