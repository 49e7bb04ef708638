import numpy as np
import pyarrow as pa
import pytest

from c2al.data.columns import Column, Piece, axis_columns, axis_ids, pick, stored_columns
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn

SCHEMA = Schema(
    name="s",
    label="y",
    sparse=(SparseColumn("a", 10), SparseColumn("b", 10, multi=True), SparseColumn("huge", 2**33)),
    dense=(DenseColumn("d"),),
    axes=(CohortAxis("p", ("p0", "p1", "p2")), CohortAxis("q", ("q0", "q1"))),
    weight="w",
    unit="u",
)
COLUMNS = stored_columns(SCHEMA)


def piece(name: str, values: pa.Array | pa.ChunkedArray, start: int = 0) -> Piece:
    return Piece(pa.table({name: values}).slice(start), "train/part-00000.parquet", 4, 100 + start, 1000)


@pytest.mark.parametrize("stored", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()])
def test_any_integer_type_reads(stored: pa.DataType) -> None:
    values = piece("a", pa.array([0, 9, 3], stored)).values(COLUMNS["a"])
    assert values.dtype == np.int32
    assert values.tolist() == [0, 9, 3]


def test_large_ids_keep_their_bits() -> None:
    values = piece("huge", pa.array([2**32 + 5, 1])).values(COLUMNS["huge"])
    assert values.tolist() == [2**32 + 5, 1]


@pytest.mark.parametrize("stored", [pa.float16(), pa.float32(), pa.float64()])
def test_any_float_type_reads(stored: pa.DataType) -> None:
    values = piece("d", pa.array(np.array([0.5, -2], stored.to_pandas_dtype()))).values(COLUMNS["d"])
    assert values.dtype == np.float32
    assert values.tolist() == [0.5, -2.0]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int64())])
@pytest.mark.parametrize("start", range(6))
def test_bags_of_slices_and_chunks_equal_to_pylist(kind: pa.DataType, start: int) -> None:
    chunks = pa.chunked_array([pa.array([[1, 2], []], kind), pa.array([[3], [], [4, 5, 6], []], kind)])
    lengths, values = piece("b", chunks, start).bags(COLUMNS["b"])
    expected = chunks.to_pylist()[start:]
    assert lengths.tolist() == [len(bag) for bag in expected]
    assert values.tolist() == [value for bag in expected for value in bag]
    assert values.dtype == np.int32


BAD = [
    ("a", pa.array([1, 10, 11]), 10, "id outside [0, 10)", 101),
    ("a", pa.array([1, 2, -1], pa.int32()), -1, "id outside [0, 10)", 102),
    ("a", pa.array([2**63 + 1], pa.uint64()), 2**63 + 1, "id outside [0, 10)", 100),
    ("a", pa.array([1, None, 3], pa.int32()), "null", "null", 101),
    ("y", pa.array([0, 1, 2], pa.int8()), 2, "label other than 0 or 1", 102),
    ("y", pa.array([257], pa.int32()), 257, "label other than 0 or 1", 100),
    ("d", pa.array([0.0, np.inf]), np.inf, "not finite", 101),
    ("d", pa.array([-np.inf]), -np.inf, "not finite", 100),
    ("d", pa.array([1e39, 0]), 1e39, "not finite in float32", 100),
    ("w", pa.array([1.0, -0.5]), -0.5, "weight that is negative", 101),
    ("w", pa.array([1.0, np.inf]), np.inf, "weight that is negative or not finite", 101),
    ("cohort_p", pa.array([-1, 2, 3], pa.int16()), 3, "cohort id outside [-1, 3)", 102),
    ("cohort_p", pa.array([-2], pa.int16()), -2, "cohort id outside [-1, 3)", 100),
    ("u", pa.array([2**31]), 2**31, "unit beyond int32", 100),
    ("b", pa.array([[1], [], [2, 3, 10]]), 10, "id outside [0, 10)", 102),
    ("b", pa.array([[1], None, [2]]), "null", "null", 101),
    ("b", pa.array([[], [1, 2], [None]], pa.list_(pa.int32())), "null", "null", 102),
]


@pytest.mark.parametrize(("name", "values", "value", "problem", "row"), BAD)
def test_first_bad_value_is_named(name: str, values: pa.Array, value: object, problem: str, row: int) -> None:
    read = piece(name, values)
    with pytest.raises(DataError) as caught:
        (read.bags if COLUMNS[name].multi else read.values)(COLUMNS[name])
    error = caught.value
    assert error.where == {"file": "train/part-00000.parquet", "row group": 4, "column": name, "value": value}
    assert problem in error.problem
    assert f"in row {row} of the row group" in error.problem
    assert error.remedy


@pytest.mark.parametrize("name", ["d", "w"])
def test_nan_is_bad(name: str) -> None:
    with pytest.raises(DataError, match="row 101 of the row group") as caught:
        piece(name, pa.array([1.0, np.nan, 2.0, np.nan], pa.float32())).values(COLUMNS[name])
    assert np.isnan(caught.value.where["value"])


@pytest.mark.parametrize(
    ("name", "stored", "problem"),
    [
        ("a", pa.string(), "column of type string, integers expected"),
        ("a", pa.list_(pa.int32()), "int32>, integers expected"),
        ("a", pa.float64(), "column of type double, integers expected"),
        ("a", pa.dictionary(pa.int32(), pa.int32()), "integers expected"),
        ("b", pa.int32(), "column of type int32, lists of integers expected"),
        ("b", pa.list_(pa.float32()), "lists of integers expected"),
        ("d", pa.int32(), "column of type int32, floats expected"),
        ("y", pa.float32(), "column of type float, integers expected"),
        ("y", None, "column missing"),
    ],
)
def test_types(name: str, stored: pa.DataType | None, problem: str) -> None:
    schema = pa.schema([("other", pa.int8())] + ([(name, stored)] if stored else []))
    with pytest.raises(DataError) as caught:
        COLUMNS[name].check_type(schema, "f.parquet")
    assert problem in caught.value.problem
    assert caught.value.where["file"] == "f.parquet"
    assert caught.value.where["column"] == name


def test_column_there_twice() -> None:
    with pytest.raises(DataError, match="there twice"):
        COLUMNS["a"].check_type(pa.schema([("a", pa.int32()), ("a", pa.int32())]), "f.parquet")


def test_pick_names_the_nearest() -> None:
    columns: dict[str, Column] = COLUMNS
    assert pick(columns, ["a", "d"]) == [COLUMNS["a"], COLUMNS["d"]]
    with pytest.raises(DataError, match="did you mean cohort_p"):
        pick(columns, ["cohort_pp"])


def test_crossed_axes() -> None:
    crossed = SCHEMA.axis("p_x_q")
    assert axis_columns(SCHEMA, ["q", "p_x_q", "q"]) == ["cohort_q", "cohort_p"]
    p, q = np.meshgrid(np.arange(-1, 3, dtype=np.int16), np.arange(-1, 2, dtype=np.int16), indexing="ij")
    ids = axis_ids(SCHEMA, crossed, {"cohort_p": p.ravel(), "cohort_q": q.ravel()})
    for a, b, found in zip(p.ravel(), q.ravel(), ids, strict=True):
        assert crossed.cohorts[found] == f"p{a} × q{b}" if min(a, b) >= 0 else found == -1


def test_crossed_ids_do_not_overflow() -> None:
    many = tuple(str(i) for i in range(300))
    schema = Schema(name="s", label="y", sparse=(), axes=(CohortAxis("p", many), CohortAxis("q", many)))
    stored = {name: np.array([299], np.int16) for name in ("cohort_p", "cohort_q")}
    assert axis_ids(schema, schema.axis("p_x_q"), stored).tolist() == [300 * 300 - 1]
