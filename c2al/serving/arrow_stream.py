"""An Arrow IPC stream to a table, within limits that are checked before anything is unpacked; and scores to a stream.

A short stream can stand for gigabytes: compressed buffers, columns of nothing but nulls, dictionaries. What each
message says of its rows and sizes is therefore read first, from its own metadata.

Source: the Arrow columnar format, "Serialization and Interprocess Communication", with Message.fbs and Schema.fbs.
"""

import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.arrow_types import plain_type, plain_values
from c2al.schema import DataError
from c2al.serving.bodies import MOST_COLUMNS, check_columns, check_rows, too_long
from c2al.serving.refusals import RefusalError

FILE = "the request"
MOST_MESSAGES = 10_000
DICTIONARY, RECORDS = 2, 3  # MessageHeader in Message.fbs
EXTENSIONS = ("arrow.uuid", "arrow.bool8", "arrow.json")  # read as texts and booleans, as c2al prepare reads them
REMEDY = "send one stream, as pyarrow.ipc.new_stream writes it"


def table_of(body: bytes, *, most_rows: int, most_bytes: int) -> pa.Table:
    """The table, checked in full; dictionaries are resolved. 400 for what is no stream, 413 beyond ``most_rows`` or
    where it unpacks to more than ``most_bytes``; a DataError for columns that are neither plain values nor lists."""
    try:
        _check_sizes(body, most_rows, most_bytes)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            check_columns(len(stream.schema))
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, struct.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        problem = f"not an Arrow stream: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise RefusalError(400, problem, remedy=REMEDY, reason="malformed") from None
    return _plain(table, most_bytes)


def stream_of(probability_B: np.ndarray, logit_B: np.ndarray, model: str) -> bytes:
    """Scores as a stream of the columns probability (float64) and logit (float32); ``model`` is in its metadata."""
    table = pa.table({"probability": pa.array(probability_B, pa.float64()), "logit": pa.array(logit_B, pa.float32())})
    table = table.replace_schema_metadata({"model": model})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _check_sizes(body: bytes, most_rows: int, most_bytes: int) -> None:
    num_rows = num_bytes = 0
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
        if number > MOST_MESSAGES:
            raise ValueError(f"more than {MOST_MESSAGES} batches")
        header = _Header(bytes(message.metadata))
        if header.kind not in (DICTIONARY, RECORDS):
            continue
        records = header.records()
        lengths = list(records.lengths())
        if min(lengths) < 0:
            raise ValueError("a length below 0")
        num_rows += lengths[0] if header.kind == RECORDS else 0
        num_bytes += sum(records.sizes(memoryview(message.body or b"")))
        check_rows(num_rows, most_rows)
        if max(num_bytes, *lengths) > most_bytes:  # a column of nulls has a length, and no bytes
            raise too_long(most_bytes, max(num_bytes, *lengths))


class _Table:
    """A table of flatbuffers at a place in its bytes; struct.error or ValueError where it points elsewhere."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    def read(self, kind: str, place: int) -> int:
        if place < 0:
            raise ValueError("metadata that points outside of itself")
        return int(struct.unpack_from(f"<{kind}", self._data, place)[0])

    def field(self, index: int) -> int | None:
        """Where a field is; None where it has its default."""
        entries = self._place - self.read("i", self._place)
        slot = 4 + 2 * index
        offset = self.read("H", entries + slot) if slot + 2 <= self.read("H", entries) else 0
        return self._place + offset if offset else None

    def number(self, index: int, kind: str) -> int:
        place = self.field(index)
        return 0 if place is None else self.read(kind, place)

    def table(self, index: int) -> tuple[bytes, int]:
        place = self.field(index)
        if place is None:
            raise ValueError("metadata without a part that it must have")
        return self._data, place + self.read("I", place)

    def pairs(self, index: int) -> Iterator[tuple[int, int]]:
        """A vector of structs of two int64."""
        if (place := self.field(index)) is None:
            return
        start = place + self.read("I", place)
        if (num := self.read("I", start)) > 10 * MOST_COLUMNS:
            raise ValueError("more parts than columns have")
        for i in range(num):
            at = start + 4 + 16 * i
            yield self.read("q", at), self.read("q", at + 8)


class _Header(_Table):
    """Message: version, header_type, header, bodyLength."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, self.read_root(data))
        self.kind = self.number(1, "B")

    @staticmethod
    def read_root(data: bytes) -> int:
        return int(struct.unpack_from("<I", data)[0])

    def records(self) -> "_Records":
        """The record batch, or the one that a dictionary batch (id, data, isDelta) has in it."""
        batch = _Records(*self.table(2))
        return batch if self.kind == RECORDS else _Records(*batch.table(1))


class _Records(_Table):
    """RecordBatch: length, nodes (length, null_count), buffers (offset, length), compression."""

    def lengths(self) -> Iterator[int]:
        """Of the batch, then of each array in it."""
        yield self.number(0, "q")
        yield from (length for length, _ in self.pairs(1))

    def sizes(self, body: memoryview) -> Iterator[int]:
        """Bytes of each buffer once unpacked: compressed ones begin with it as int64, -1 for what is not compressed."""
        compressed = self.field(3) is not None
        for offset, length in self.pairs(2):
            if offset < 0 or length < 0 or offset + length > len(body):
                raise ValueError("a buffer outside of its message")
            unpacked = int(struct.unpack_from("<q", body, offset)[0]) if compressed and length else -1
            if unpacked < -1:
                raise ValueError("a length below 0")
            yield max(length, unpacked)


def _plain(table: pa.Table, most_bytes: int) -> pa.Table:
    """Without dictionaries. They are resolved only where what they stand for is within the limit, too."""
    names = table.column_names
    if twice := [name for name, num in Counter(names).items() if num > 1]:
        raise DataError("two columns of one name", file=FILE, column=min(twice)[:200], remedy="send each column once")
    left = most_bytes
    arrays = []
    for name, column in zip(names, table.columns, strict=True):
        if isinstance(column.type, pa.BaseExtensionType) and column.type.extension_name in EXTENSIONS:
            column = pa.chunked_array([plain_values(chunk) for chunk in column.chunks], plain_type(column.type))
        kind = column.type
        if pa.types.is_dictionary(kind) and _is_plain(kind.value_type):
            left -= sum(_resolved_bytes(chunk) for chunk in column.chunks)
            if left < 0:
                raise too_long(most_bytes, None)
            column = column.cast(kind.value_type)
        elif not _is_plain(kind) and not (_is_list(kind) and _is_plain(kind.value_type)):
            remedy = "send numbers, texts, booleans, times, dictionaries of these, or lists of them"
            raise DataError("a type that is not read here", file=FILE, column=name, value=kind, remedy=remedy)
        arrays.append(column)
    return pa.table(dict(zip(names, arrays, strict=True))) if names else table


def _resolved_bytes(chunk: pa.DictionaryArray) -> int:
    if not (pa.types.is_string(chunk.dictionary.type) or pa.types.is_large_string(chunk.dictionary.type)):
        return 8 * len(chunk)
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_temporal(kind)
        or pa.types.is_null(kind)
    )
