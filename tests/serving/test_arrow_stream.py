import numpy as np
import pyarrow as pa
import pytest

from c2al.schema import DataError
from c2al.serving.arrow_stream import MOST_MESSAGES, stream_of, table_of
from c2al.serving.bodies import MOST_COLUMNS
from c2al.serving.refusals import RefusalError

MIB = 2**20


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read(body: bytes, most_rows: int = 1000, most_bytes: int = MIB) -> pa.Table:
    return table_of(body, most_rows=most_rows, most_bytes=most_bytes)


def refused(body: bytes, **limits: int) -> tuple[int, str]:
    with pytest.raises(RefusalError) as raised:
        read(body, **limits)
    return raised.value.status, raised.value.error["problem"]


TABLE = pa.table(
    {
        "age": pa.array([1.5, None, 3.0]),
        "country": ["de", None, "fr"],
        "seen": [[1, 2], [], None],
        "words": pa.array([["a"], None, ["b", "c"]], pa.large_list(pa.string())),
        "flag": [True, None, False],
    }
)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_stream_is_read_as_it_was_written(compression):
    assert read(stream(TABLE, compression)).equals(TABLE)
    assert read(stream(TABLE.slice(0, 0), compression)).num_rows == 0


def test_several_batches_and_dictionaries():
    words = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c", None]).dictionary_encode()])
    numbers = pa.array([7, 7, 8, None, 9]).dictionary_encode()
    table = read(stream(pa.table({"words": words, "numbers": numbers})))
    assert table.to_pydict() == {"words": ["a", "b", "b", "c", None], "numbers": [7, 7, 8, None, 9]}
    assert table.schema.types == [pa.string(), pa.int64()]


def test_scores_come_back():
    body = stream_of(np.array([0.25, 0.5]), np.array([-1.0986123, 0.0], np.float32), "abc")
    with pa.ipc.open_stream(body) as opened:
        table = opened.read_all()
    assert table.schema.metadata == {b"model": b"abc"}
    assert table["probability"].to_pylist() == [0.25, 0.5]
    assert table.schema.field("logit").type == pa.float32()


@pytest.mark.parametrize("body", [b"", b"rows", b"\xff\xff\xff\xff", b"\xff" * 400, stream(TABLE)[:-60], b"\0" * 64])
def test_what_is_no_stream_is_refused(body):
    status, problem = refused(body)
    assert status == 400
    assert problem.startswith("not an Arrow stream: ")


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_no_damaged_byte_gets_past(compression):
    """Each byte of a stream in turn is another one: the table reads and is valid, or the request is refused."""
    whole = stream(TABLE, compression)
    read_all = 0
    for place in range(len(whole)):
        for other in (0x00, 0xFF, whole[place] ^ 0x10):
            damaged = whole[:place] + bytes([other]) + whole[place + 1 :]
            try:
                read(damaged).to_pydict()
                read_all += 1
            except (RefusalError, DataError):
                continue
            except (OverflowError, ValueError):  # to_pydict alone, of times that Python lacks
                read_all += 1
    assert read_all


def test_rows_are_counted_before_they_are_read():
    batch = pa.record_batch({"n": pa.nulls(600)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    assert refused(bytes(sink.getvalue())) == (413, "too many rows")
    assert read(bytes(sink.getvalue()), most_rows=1200).num_rows == 1200


def test_lengths_without_bytes_are_counted():
    """Nulls have no bytes in a stream, and take some when they are read."""
    column = enlarged(pa.table({"n": pa.nulls(987)}), 987)
    assert refused(column) == (413, "too many rows")
    inside = pa.LargeListArray.from_arrays(pa.array([0, 987], pa.int64()), pa.nulls(987))
    assert refused(enlarged(pa.table({"n": inside}), 987)) == (413, "the body is too long")


def enlarged(table: pa.Table, length: int) -> bytes:
    """The table's stream with another length wherever this one stands."""
    written = stream(table)
    assert length.to_bytes(8, "little") in written
    return written.replace(length.to_bytes(8, "little"), (10**12).to_bytes(8, "little"))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_unpacks_to_more_than_the_limit_is_refused_before_it_is_unpacked(compression):
    bomb = stream(pa.table({"text": ["a" * (64 * MIB)]}), compression)
    assert len(bomb) < MIB
    before = pa.default_memory_pool().max_memory()
    assert refused(bomb) == (413, "the body is too long")
    assert pa.default_memory_pool().max_memory() == before


def test_a_dictionary_stands_for_no_more_than_the_limit():
    indices = pa.array(np.zeros(1000, np.int32))
    bomb = stream(pa.table({"text": pa.DictionaryArray.from_arrays(indices, ["a" * 10_000])}))
    assert refused(bomb) == (413, "the body is too long")
    assert read(bomb, most_bytes=20 * MIB).num_rows == 1000


@pytest.mark.parametrize(
    "column",
    [pa.array([{"a": 1}]), pa.array(["a"], pa.string_view()), pa.array([[["a"]]]), pa.array([b"a"])],
    ids=lambda column: str(column.type),
)
def test_other_types_are_refused_by_name(column):
    with pytest.raises(DataError, match=r"not read here.*column odd"):
        read(stream(pa.table({"odd": column})))


def test_a_column_that_stands_twice():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(DataError, match=r"two columns of one name.*column a"):
        read(stream(table))


def test_columns_and_batches_are_counted():
    many = pa.Table.from_arrays([pa.array([1])] * (MOST_COLUMNS + 1), [f"c{i}" for i in range(MOST_COLUMNS + 1)])
    assert refused(stream(many), most_bytes=64 * MIB) == (413, "too many columns")
    batch = pa.record_batch({"n": pa.array([], pa.int8())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(MOST_MESSAGES + 2):
            writer.write_batch(batch)
    status, problem = refused(bytes(sink.getvalue()), most_bytes=64 * MIB)
    assert (status, "batches" in problem) == (400, True)


def test_extension_types_are_read_as_prepare_reads_them():
    ids = pa.array([bytes(range(16)), None], pa.uuid())
    flag = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    text = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None]))
    table = read(stream(pa.table({"id": ids, "flag": flag, "text": text, "n": [1, 2]})))
    assert table.to_pydict() == {
        "id": ["00010203-0405-0607-0809-0a0b0c0d0e0f", None],
        "flag": [True, False],
        "text": ["{}", None],
        "n": [1, 2],
    }
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match="not read"):
        read(stream(pa.table({"x": tensor})))
