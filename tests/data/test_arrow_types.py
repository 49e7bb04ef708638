"""Every Arrow type ends in a role or a note, and raw values of it get the same ids at serving."""

import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.arrow_types import plain_type, plain_values, wider_type
from c2al.data.raw_files import RawFiles
from c2al.schema import DataError
from tests.data.raw_rows import prepared, write
from tests.serving.test_encode import encoder, same

NUM = 600
INTS = np.random.default_rng(0).integers(0, 30, NUM)
NULL = np.random.default_rng(1).random(NUM) < 0.1
DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(i)) for i in INTS]
MOMENTS = [datetime.datetime(2024, 1, 1, 5) + datetime.timedelta(hours=int(i)) for i in INTS]
TEXTS = [f"v{i}" for i in INTS]
LISTS = [[int(i), int(i) + 1] for i in INTS]


def extension(kind: pa.DataType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


def masked(values: list, kind: pa.DataType) -> pa.Array:
    return pa.array([None if null else value for value, null in zip(values, NULL, strict=True)], kind)


def decimals(scale: int) -> list[decimal.Decimal]:
    return [decimal.Decimal(int(i)).scaleb(-scale) for i in INTS]


SPARSE = {
    **{str(kind): masked(INTS.tolist(), kind) for kind in (pa.int8(), pa.uint8(), pa.uint16(), pa.uint32())},
    "int64": masked([2**53 + int(i) for i in INTS], pa.int64()),
    "uint64": masked([2**64 - 1 - int(i) for i in INTS], pa.uint64()),
    "bool": masked([bool(i % 2) for i in INTS], pa.bool_()),
    **{str(kind): masked(TEXTS, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{str(kind): masked([b"ab" + t.encode() for t in TEXTS], kind) for kind in (pa.binary(), pa.large_binary())},
    "fixed binary": masked([b"%03d" % i for i in INTS], pa.binary(3)),
    "binary view": masked([t.encode() for t in TEXTS], pa.binary_view()),
    "dictionary": masked(TEXTS, pa.string()).dictionary_encode(),
    "dictionary of ints": masked(INTS.tolist(), pa.int64()).dictionary_encode(),
    "uuid": masked([uuid.UUID(int=7 * int(i)).bytes for i in INTS], pa.uuid()),
    "json": extension(pa.json_(), masked([f'{{"a":{i}}}' for i in INTS], pa.string())),
    "bool8": extension(pa.bool8(), masked([int(i) % 2 for i in INTS], pa.int8())),
    "decimal 0": masked([decimal.Decimal(7 * 10**18 + int(i)) for i in INTS], pa.decimal128(38, 0)),
    "decimal 256": masked([decimal.Decimal(10**60 + int(i)) for i in INTS], pa.decimal256(70, 0)),
    "decimal 2": masked(decimals(2), pa.decimal128(10, 2)),
    "decimal 32": masked(decimals(0), pa.decimal32(5, 0)),
    "decimal 64": masked(decimals(0), pa.decimal64(12, 0)),
    "float64": masked(INTS.astype(float).tolist(), pa.float64()),
    "list": masked(LISTS, pa.list_(pa.int64())),
    "large list": masked(LISTS, pa.large_list(pa.int32())),
    "fixed list": masked(LISTS, pa.list_(pa.int16(), 2)),
    "list of texts": masked([[t] for t in TEXTS], pa.list_(pa.large_string())),
    "list of uuids": pa.ListArray.from_arrays(
        pa.array(range(NUM + 1), pa.int32()), pa.array([uuid.UUID(int=int(i)).bytes for i in INTS], pa.uuid())
    ),
    "list of dictionaries": pa.ListArray.from_arrays(
        pa.array(range(NUM + 1), pa.int32()), pa.array(TEXTS).dictionary_encode()
    ),
    "date32": masked(DAYS, pa.date32()),
    "date64": masked(DAYS, pa.date64()),
    **{f"timestamp {unit}": masked(MOMENTS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "timestamp zoned": masked(MOMENTS, pa.timestamp("us", "Europe/Berlin")),
    "time32": masked([moment.time() for moment in MOMENTS], pa.time32("s")),
    "time64": masked([moment.time() for moment in MOMENTS], pa.time64("us")),
}
OTHERS = {
    "null": pa.nulls(NUM),
    "float16": masked(INTS.astype(np.float16).tolist(), pa.float16()),
    "float32": masked(np.arange(NUM).astype(float).tolist(), pa.float32()),
    "duration": masked([datetime.timedelta(seconds=int(i)) for i in INTS], pa.duration("s")),
    "list of floats": masked([[0.5] for _ in INTS], pa.list_(pa.float32())),
    "list of lists": masked([[[1]] for _ in INTS], pa.list_(pa.list_(pa.int8()))),
    "struct": masked([{"a": int(i)} for i in INTS], pa.struct([("a", pa.int64())])),
    "map": masked([[("a", int(i))] for i in INTS], pa.map_(pa.string(), pa.int64())),
    "list of structs": masked([[{"a": 1}] for _ in INTS], pa.list_(pa.struct([("a", pa.int64())]))),
    "bytes": masked([b"\xff" + bytes([i]) for i in INTS], pa.binary()),
    "tensor": extension(
        pa.fixed_shape_tensor(pa.float32(), [2]),
        pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * NUM, np.float32)), 2),
    ),
    "opaque": extension(pa.opaque(pa.binary(), "geometry", "somebody"), masked([b"\xff\x01"] * NUM, pa.binary())),
}


def rows_with(values: pa.Array) -> pa.Table:
    return pa.table({"x": values, "user": INTS % 7, "clicked": (np.arange(NUM) % 3 == 0).astype(np.int8)})


@pytest.mark.parametrize("name", [*SPARSE, *OTHERS])
def test_every_type_has_a_role_or_a_note(tmp_path, name):
    folder = write(tmp_path, rows_with((SPARSE | OTHERS)[name]))
    schema, _ = prepared(folder, axes=[])
    [line] = [found for found in schema.notes["found"] if found["column"] == "x"]
    assert line["role"] in ("sparse", "dense") or (line["role"], bool(line["note"])) == ("ignored", True)


@pytest.mark.parametrize("name", SPARSE)
def test_ids_of_every_type_keep_all_digits_and_are_the_same_at_serving(tmp_path, name):
    table = rows_with(SPARSE[name])
    folder = write(tmp_path, table)
    schema, _ = prepared(folder, sparse=["x", "user"], dense=[], axes=[])
    if "part" not in name and not any(column.part for column in schema.sparse):
        values = SPARSE[name].storage if isinstance(SPARSE[name], pa.ExtensionArray) else SPARSE[name]
        flat = [each for one in values.to_pylist() for each in (one if isinstance(one, list) else [one])]
        distinct = len({each for each in flat if each is not None})
        assert schema.notes["found"][0]["distinct"] == distinct
    to = f"{folder}_prepared"
    raw, rows = (pq.read_table(f"{to}/examples/{which}.parquet") for which in ("raw", "prepared"))
    expected = encoder(schema, to, prepared=True)(rows, file="prepared")
    same(encoder(schema, to)(raw, file="raw"), expected)
    encode = encoder(schema, to)
    whole, bare = encode(table, file="as it is"), encode(table.set_column(0, "x", plain_values(SPARSE[name])), file="")
    same(whole, bare)
    assert whole.ids_BS.any() or any(bags.values_V.any() for bags in whole.bags.values())


@pytest.mark.parametrize("name", ["struct", "map", "bytes", "list of lists", "duration", "null"])
@pytest.mark.parametrize("role", ["sparse", "dense", "unit", "weight", "split_by", "label", "axes"])
def test_a_type_that_cannot_have_a_role_is_named_in_one_line(tmp_path, name, role):
    folder = write(tmp_path, rows_with(OTHERS[name]))
    asked = ["x"] if role in ("sparse", "dense", "axes") else "x"
    options = {"sparse": ["user"]} | {role: asked}
    caught = None
    try:
        prepared(folder, **options)
    except DataError as error:
        caught = error
    assert caught is None or "x" in str(caught)


@pytest.mark.parametrize(
    "values",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 5], pa.int32()), pa.array(["a", None])),
        pa.array([["a"], None], pa.list_view(pa.string())),
        pa.array([["a"], None], pa.large_list_view(pa.string_view())),
        extension(pa.uuid(), pa.array([bytes(16), None, bytes(range(16))], pa.binary(16))),
        extension(pa.uuid(), pa.array([None, bytes(range(16))], pa.binary(16))).slice(1),
        pa.array(["a", "b", None]).dictionary_encode().slice(1),
        pa.array([], pa.uuid()),
    ],
)
def test_plain_values_are_the_same_values_in_their_plain_type(values):
    found = plain_values(values)
    assert found.type == plain_type(values.type)
    assert found.to_pylist() == [str(x) if isinstance(x, uuid.UUID) else x for x in values.to_pylist()]


@pytest.mark.parametrize(
    ("a", "b", "kind", "loose"),
    [
        (pa.int64(), pa.uint64(), pa.decimal128(20, 0), False),
        (pa.int8(), pa.uint64(), pa.decimal128(20, 0), False),
        (pa.uint32(), pa.uint64(), pa.uint64(), False),
        (pa.int64(), pa.float64(), pa.float64(), True),
        (pa.float64(), pa.uint64(), pa.float64(), True),
        (pa.int32(), pa.float64(), pa.float64(), False),
        (pa.null(), pa.int64(), pa.int64(), False),
        (pa.null(), pa.float64(), pa.float64(), False),
        (pa.decimal128(38, 0), pa.float64(), pa.float64(), True),
        (pa.decimal128(38, 0), pa.int64(), pa.decimal128(38, 0), False),
        (pa.list_(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.float64()), True),
    ],
)
def test_the_wider_of_two_types_says_whether_ids_would_lose_digits(a, b, kind, loose):
    assert wider_type(a, b) == wider_type(b, a) == (kind, loose)


def test_texts_and_numbers_have_no_wider_type():
    assert wider_type(pa.string(), pa.int64()) is None
    assert wider_type(pa.bool_(), pa.int64()) is None


BIG = [2**53 + 1, 2**53, 7]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array(BIG, pa.int64()), pa.array([7.0, 8.0, None])),
        (pa.array(BIG, pa.int64()), pa.array([2**64 - 1, 7, 8], pa.uint64())),
        (pa.array(BIG, pa.uint64()), pa.array([7.0, 8.0, None])),
        (pa.array([decimal.Decimal(2**53 + 1), decimal.Decimal(2**53), decimal.Decimal(7)]), pa.array([7.0, 8.0, 9.0])),
        (pa.array([[2**53 + 1], [2**53], [7]]), pa.array([[7.0], [8.0], None])),
    ],
)
def test_ids_of_files_with_other_types_keep_all_digits(tmp_path, first, second):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, values in (("a", first), ("b", second)):
        rows = pa.concat_arrays([values] * 100)
        label = (np.arange(len(rows)) % 2).astype(np.int8)
        pq.write_table(pa.table({"x": rows, "clicked": label}), raw / f"{name}.parquet")
    schema, _ = prepared(str(raw), sparse=["x"], dense=[], axes=[])
    values = pq.read_table(f"{raw}_prepared/{schema.sparse[0].vocabulary}")["value"].to_pylist()
    flat = [v for one in [*first.to_pylist(), *second.to_pylist()] for v in (one if isinstance(one, list) else [one])]
    assert sorted(values) == sorted({str(int(v)) for v in flat if v is not None})
    for name in ("a", "b"):
        table = pq.read_table(raw / f"{name}.parquet")
        ids = encoder(schema, f"{raw}_prepared")(table, file=name)
        known = ids.ids_BS if not ids.bags else ids.bags["x"].values_V
        assert len(np.unique(known[known > 0])) >= 2
    assert RawFiles(str(raw)).loose <= {"x"}
