import decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey, movielens, synthetic
from c2al.schema import SPLITS, DataError, DenseColumn, Schema, SparseColumn
from c2al.serving.encode import Encoder, checked_policy
from c2al.serving.inputs import Inputs
from tests.data.fake_journey import fake_package
from tests.data.movielens_folders import ml_1m
from tests.data.raw_rows import NUM, prepared, raw_rows, write

OPTIONS = {"split_by": "split", "unit": "user_id", "min_count": 3}


def read_by(schema: Schema):
    return SimpleNamespace(
        dense=[column.name for column in schema.dense],
        single=[column.name for column in schema.sparse if not column.multi],
        bags=[column.name for column in schema.sparse if column.multi],
    )


def encoder(schema: Schema, folder: str, *, prepared: bool = False, **policy) -> Encoder:
    def vocabulary(column: str) -> pa.Array:
        place = next(one.vocabulary for one in schema.sparse if one.name == column)
        return pq.read_table(f"{folder}/{place}")["value"].combine_chunks()

    return Encoder(schema, read_by(schema), vocabulary, policy, prepared=prepared)


def split_rows(seed: int = 0) -> pa.Table:
    """Raw rows of every type, with what is left out of ``raw_rows``, and the split that each belongs to."""
    rng, table = np.random.default_rng(seed), raw_rows(seed=seed)
    prices = [decimal.Decimal(int(cents)) / 100 for cents in rng.integers(0, 900, NUM)]
    numbers = [[int(n) for n in rng.integers(0, 9, k)] + [None] * int(k == 2) for k in rng.integers(0, 4, NUM)]
    seconds = pa.array(rng.integers(1_700_000_000, 1_700_900_000, NUM), mask=rng.random(NUM) < 0.1)
    ratio = pa.array(rng.choice([0.0, 0.5, 2.0, np.nan], NUM))
    added = {
        "price_code": pa.array(prices, pa.decimal128(5, 2)),
        "list_ids": pa.array(numbers, pa.large_list(pa.int16())),
        "event_time": seconds,
        "ratio_id": ratio,
        "shop": pa.array(rng.choice(["", "ä", "日本", "007"], NUM)),
        "day": pa.array(rng.integers(19_000, 19_030, NUM).astype(np.int32)).cast(pa.date32()),
        "wait": pa.array(rng.integers(0, 9**6, NUM)).cast(pa.duration("s")),
        "split": pa.array(np.array(SPLITS)[rng.integers(0, 3, NUM)]),
    }
    for name, values in added.items():
        table = table.append_column(name, values)
    return table


def same(found: Inputs, expected: Inputs) -> None:
    np.testing.assert_array_equal(found.dense_BN, expected.dense_BN)
    np.testing.assert_array_equal(found.ids_BS, expected.ids_BS)
    assert (found.dense_BN.dtype, found.ids_BS.dtype) == (np.float32, np.int64)
    for name, bags in expected.bags.items():
        np.testing.assert_array_equal(found.bags[name].values_V, bags.values_V)
        np.testing.assert_array_equal(found.bags[name].lengths_B, bags.lengths_B)
        assert (found.bags[name].values_V.dtype, found.bags[name].lengths_B.dtype) == (np.int64, np.int64)


def test_raw_rows_are_encoded_as_they_were_prepared(tmp_path):
    raw = split_rows()
    folder = write(tmp_path, raw)
    named = [name for name in raw.column_names if name not in ("title", "always", "never", "embedding", "clicked")]
    dense = ["spend", "heat", "visits", "wait"]
    sparse = [name for name in named if name not in (*dense, "split")]
    schema, tables = prepared(folder, sparse=sparse, dense=dense, hash_rows=200, **OPTIONS)
    assert {column.hashed for column in schema.sparse} == {True, False}
    assert {column.part for column in schema.sparse} == {"", "hour", "weekday"}
    raw_encoder = encoder(Schema.load(f"{folder}_prepared"), f"{folder}_prepared")
    stored = encoder(schema, f"{folder}_prepared", prepared=True)
    for split in SPLITS:
        rows = raw.filter(pa.array(raw["split"].to_numpy(zero_copy_only=False) == split))
        expected = stored(tables[split], file="prepared")
        same(raw_encoder(rows, file="raw"), expected)
        pieces = [raw_encoder(rows.slice(start, 7), file="raw") for start in range(0, 70, 7)]
        same(Inputs.joined(pieces), expected.rows(0, 70))
        assert (expected.ids_BS > 0).any(axis=0).all()
        assert all(len(bags.values_V) for bags in expected.bags.values())


def test_rows_as_json_has_them_are_encoded_the_same(tmp_path):
    raw = raw_rows()
    folder = write(tmp_path, raw)
    schema, _ = prepared(folder)
    make = encoder(schema, f"{folder}_prepared")
    rows = raw.slice(0, 500).select(make.columns)
    when = [moment.isoformat() for moment in rows["when"].to_pylist()]
    said = [{**row, "when": when[i], "mobile": int(row["mobile"])} for i, row in enumerate(rows.to_pylist())]
    same(make(pa.Table.from_pylist(said), file="request"), make(rows, file="raw"))


def test_the_schema_says_how_columns_come_from_raw_ones(tmp_path):
    schema, _ = prepared(write(tmp_path, raw_rows()))
    by_name = {column.name: column for column in Schema.load(f"{tmp_path}/raw_prepared").sparse}
    assert by_name == {column.name: column for column in schema.sparse}
    hour = by_name["when_hour"]
    assert (hour.source, hour.part, hour.raw_type, hour.raw) == ("when", "hour", "timestamp[us]", "when")
    assert (by_name["movie"].source, by_name["movie"].raw) == (None, "movie")


@pytest.mark.parametrize("source", ["movielens", "complete_journey", "synthetic"])
def test_values_of_the_vocabularies_are_raw_values(source, tmp_path, monkeypatch):
    """What id i stands for, given under the prepared name, has id i again."""
    schema, to = _made(source, tmp_path, monkeypatch), str(tmp_path / "to")
    stored = pq.read_table(f"{to}/validation").slice(0, 300)
    raw = {}
    for column in schema.sparse:
        values = stored[column.name].combine_chunks()
        if column.vocabulary:
            known = pa.array([None, *pq.read_table(f"{to}/{column.vocabulary}")["value"].to_pylist()], pa.string())
            flat = known.take(values.values if column.multi else values)
            values = pa.ListArray.from_arrays(values.offsets, flat) if column.multi else flat
        raw[column.name] = values
    for column in schema.dense:
        numbers = stored[column.name].to_numpy() * column.std + column.mean
        raw[column.name] = np.expm1(numbers) if column.transform == "log1p" else numbers
    found = encoder(schema, to)(pa.table(raw), file="raw")
    expected = encoder(schema, to, prepared=True)(stored, file="stored")
    np.testing.assert_array_equal(found.ids_BS, expected.ids_BS)
    np.testing.assert_allclose(found.dense_BN, expected.dense_BN, rtol=1e-4, atol=1e-4)
    for name, bags in expected.bags.items():
        np.testing.assert_array_equal(found.bags[name].values_V, bags.values_V[bags.values_V > 0])


def _made(source: str, tmp_path, monkeypatch) -> Schema:
    to = str(tmp_path / "to")
    if source == "synthetic":
        schema = synthetic.prepare(to=to, rows=3000)
        assert not any(column.vocabulary for column in schema.sparse)
        return schema
    if source == "movielens":
        return movielens.prepare(folder=ml_1m(tmp_path / "raw"), to=to)
    return complete_journey.prepare(to=to, package_folder=fake_package(tmp_path, monkeypatch), keep_negatives=1.0)


SCHEMA = Schema(
    name="mine",
    label="y",
    sparse=(
        SparseColumn("user", 4, vocabulary="vocabularies/user.parquet"),
        SparseColumn("code", 10),
        SparseColumn("tags", 4, multi=True, vocabulary="vocabularies/user.parquet"),
        SparseColumn("when_hour", 4, vocabulary="vocabularies/user.parquet", source="when", part="hour"),
        SparseColumn("place", 100, hashed=True),
    ),
    dense=(DenseColumn("age", mean=30.0, std=10.0),),
)
ROWS = pa.table(
    {
        "user": ["a", "b", "c", None],
        "code": [1, 2, None, 9],
        "tags": [["a", "new", None], [], None, ["c"]],
        "when": [3600, 7200, None, 0],
        "place": ["x", "y", None, ""],
        "age": [30, 40, None, 20],
    }
)


def small(*, prepared: bool = False, **policy) -> Encoder:
    return Encoder(SCHEMA, read_by(SCHEMA), lambda _: pa.array(["a", "b", "1"]), policy, prepared=prepared)


def test_by_default_what_is_null_or_unknown_is_zero():
    found = small()(ROWS, file="x")
    assert found.ids_BS[:, :3].tolist() == [[1, 1, 3], [2, 2, 0], [0, 0, 0], [0, 9, 0]]
    assert (found.ids_BS[:, 3] > 0).tolist() == [True, True, False, False]
    assert found.dense_BN[:, 0].tolist() == [0, 1, 0, -1]
    assert found.bags["tags"].values_V.tolist() == [1, 0, 0]
    assert found.bags["tags"].lengths_B.tolist() == [2, 0, 0, 1]


def test_bags_may_leave_out_what_is_unknown():
    schema = Schema("mine", "y", (SparseColumn("tags", 4, True, "x", drop_unknown=True),))
    found = Encoder(schema, read_by(schema), lambda _: pa.array(["a"]), {})(ROWS, file="x")
    assert found.bags["tags"].values_V.tolist() == [1]
    assert found.bags["tags"].lengths_B.tolist() == [1, 0, 0, 0]


def replaced(**columns) -> pa.Table:
    whole = {"user": ["a"] * 4, "code": [1] * 4, "tags": [["a"]] * 4, "when": [3600] * 4, "place": ["x"] * 4}
    return pa.table(whole | {"age": [30.0] * 4} | columns)


@pytest.mark.parametrize(
    ("policy", "column", "values", "said"),
    [
        ("null", "user", ["a", "b", None, None], r"null in row 102 .*column user, value null.*null=zero"),
        ("null", "user", ["a", "", "b", "b"], r"null in row 101"),
        ("null", "tags", [["a"], ["b"], None, []], r"row 102 .*column tags"),
        ("null", "tags", [["a"], ["b", None], [], []], r"row 101 .*column tags"),
        ("null", "age", [1.0, 2.0, 3.0, np.nan], r"row 103 .*column age"),
        ("null", "place", ["x", None, "y", "z"], r"row 101 .*column place"),
        ("null", "when", [1, 2, 3, None], r"row 103 .*column when"),
        (
            "unknown",
            "user",
            ["a", "b", "new", "a"],
            r"unknown value in row 102 .*column user, value 'new'.*unknown=zero",
        ),
        ("unknown", "tags", [["a"], [], ["b", "new"], []], r"row 102 .*column tags, value 'new'"),
        ("unknown", "code", [1, 2, 10, 3], r"row 102 .*column code, value 10"),
        ("unknown", "code", [1, -1, 2, 3], r"row 101 .*column code, value -1"),
    ],
)
def test_an_error_names_row_and_value(policy, column, values, said):
    table = replaced(**{column: values})
    small()(table, file="mine.parquet")
    strict = small(**{policy: "error"})
    strict(replaced(), file="mine.parquet")
    with pytest.raises(DataError, match=rf"(?s)(?=.*mine\.parquet).*{said}"):
        strict(table, file="mine.parquet", first_row=100)


def test_a_missing_column_is_named_with_the_nearest_or_taken_as_null():
    table = ROWS.rename_columns(["user", "code", "tags", "when", "place", "agee"])
    with pytest.raises(DataError, match=r"column missing .*column age.*did you mean agee\?"):
        small()(table, file="x")
    bare = pa.table({"other": [1, 2]})
    found = small(missing="default")(bare, file="x")
    assert found.ids_BS.tolist() == [[0] * 4] * 2
    assert found.dense_BN.tolist() == [[0]] * 2
    assert found.bags["tags"].lengths_B.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("age", ["30"] * 4, "numbers expected"),
        ("user", [["a"]] * 4, "one value a row expected"),
        ("tags", ["a"] * 4, "lists of values expected"),
        ("tags", [[["a"]]] * 4, "lists of values expected"),
        ("code", ["a"] * 4, r"ids in \[0, 10\) expected"),
        ("code", [1.5] * 4, r"ids in \[0, 10\) expected"),
        ("when", [True] * 4, "no times"),
        ("when", ["noon"] * 4, "no time"),
        ("user", pa.array([b"\xff"] * 4), "UTF-8"),
        ("user", pa.array([{"a": 1}] * 4), "one value a row"),
    ],
)
def test_a_type_that_cannot_be_used_is_named(column, values, expected):
    with pytest.raises(DataError, match=rf"{expected}.*column {column}"):
        small()(replaced(**{column: values}), file="x")


def test_two_columns_of_one_name_are_refused():
    table = replaced().append_column("user", pa.array(["a"] * 4))
    with pytest.raises(DataError, match=r"twice .*column user"):
        small()(table, file="x")


def test_columns_of_nulls_and_no_rows_are_encoded():
    empty = pa.table({name: pa.nulls(3) for name in small().columns})
    found = small()(empty, file="x")
    assert not found.ids_BS.any()
    assert not found.dense_BN.any()
    assert len(small()(ROWS.slice(0, 0), file="x")) == 0


def test_prepared_rows_hold_ids():
    table = pa.table(
        {
            "user": [1, 2],
            "code": [1.0, None],
            "tags": [[1], None],
            "when_hour": [3, 77],
            "place": [5, 99],
            "age": [0.5, 9e99],
        }
    )
    found = small(prepared=True)(table, file="x")
    assert found.ids_BS.tolist() == [[1, 1, 3, 5], [2, 0, 0, 99]]
    assert found.dense_BN.tolist() == [[0.5], [0]]
    with pytest.raises(DataError, match=r"row 1 .*column when_hour, value 77"):
        small(prepared=True, unknown="error")(table, file="x")


@pytest.mark.parametrize("policy", [{"unknown": "none"}, {"nulls": "zero"}, {"missing": "zero"}])
def test_a_policy_that_there_is_not_is_refused(policy):
    with pytest.raises(DataError, match="no such policy"):
        checked_policy(policy)
