import datetime

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al.data import raw_files
from c2al.data.inference import Plan, infer
from c2al.data.raw_files import RawFiles
from c2al.schema import DataError

NUM = 3_000
RNG = np.random.default_rng(0)


def planned(tmp_path, **columns) -> Plan:
    rows = pa.table({"y": np.arange(NUM) % 2, "filler": ["a", "b", "c"] * (NUM // 3), **columns})
    pq.write_table(rows, tmp_path / "rows.parquet")
    return infer(RawFiles(str(tmp_path)), special={"label": "y"}, sparse=None, dense=None, axes=None)


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("user_id", RNG.integers(0, 1_000, NUM), "sparse"),
        ("userId", RNG.integers(0, 1_000, NUM), "sparse"),
        ("zip", RNG.integers(10_000, 10_900, NUM), "sparse"),
        ("C14", RNG.integers(0, 1_000, NUM), "sparse"),
        ("item_id", pa.array(RNG.integers(0, 500, NUM).astype(float), mask=RNG.random(NUM) < 0.1), "sparse"),
        ("store", RNG.integers(0, 30, NUM), "sparse"),
        ("movie", RNG.integers(0, 1_000, NUM), "sparse"),
        ("num_clicks", RNG.integers(0, 9, NUM), "dense"),
        ("age", RNG.integers(18, 80, NUM), "dense"),
        ("clicks_7", RNG.geometric(0.01, NUM), "dense"),
        ("change", RNG.integers(-500, 500, NUM), "dense"),
        ("ctr", RNG.random(NUM), "dense"),
        ("whole", RNG.integers(0, 5, NUM).astype(float), "dense"),
        ("cost", pa.array([f"{x:.2f}" for x in RNG.random(NUM)]).cast(pa.decimal128(9, 2)), "dense"),
        ("half", RNG.random(NUM).astype(np.float16), "dense"),
        ("took", pa.array(RNG.integers(0, 900, NUM), pa.duration("s")), "dense"),
        ("flag", RNG.random(NUM) < 0.5, "sparse"),
        ("hash_of", pa.array(RNG.integers(0, 2**63, 500, dtype=np.uint64)[RNG.integers(0, 500, NUM)]), "sparse"),
        ("word", pa.array(RNG.choice(["x", "y"], NUM)).dictionary_encode(), "sparse"),
        ("raw", pa.array([b"x", b"y"] * (NUM // 2)), "sparse"),
        ("blob", pa.array([b"\xff", b"\xfe"] * (NUM // 2)), "ignored"),
        ("total_cents", RNG.permutation(10**6)[:NUM], "dense"),
        ("request_id", np.arange(NUM), "ignored"),
        ("text", [f"words {i}" for i in range(NUM)], "ignored"),
        ("one", np.ones(NUM), "ignored"),
        ("none", pa.nulls(NUM), "ignored"),
        ("nan", np.full(NUM, np.nan), "ignored"),
        ("pair", pa.array([{"a": 1}] * NUM), "ignored"),
        ("vector", pa.array([[0.5, 1.5]] * NUM), "ignored"),
        ("nested", pa.array([[[1]]] * NUM), "ignored"),
        ("seen", pa.array([[1, 2], None, []] * (NUM // 3)), "sparse"),
        ("day", pa.array([datetime.date(2024, 1, 1 + i % 28) for i in range(NUM)]), "sparse"),
        ("timestamp", 1_700_000_000 + RNG.integers(0, 10**6, NUM), "sparse"),
        ("ts", 1_700_000_000 + np.arange(NUM), "sparse"),
        ("event_time", 1_700_000_000_000 + RNG.integers(0, 10**9, NUM), "sparse"),
    ],
)  # fmt: skip
def test_a_columns_role(tmp_path, name, values, role):
    found = {line.column: line for line in planned(tmp_path, **{name: values}).found}
    assert found[name].role == role
    assert found[name].note or role != "ignored"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (pa.array([datetime.datetime(2024, 1, 1, i % 24) for i in range(NUM)]), ["weekday", "hour"]),
        (pa.array([datetime.date(2024, 1, 1 + i % 9) for i in range(NUM)]), ["weekday"]),
        (pa.array([datetime.time(i % 24) for i in range(NUM)]), ["hour"]),
    ],
)
def test_times_give_what_they_hold(tmp_path, values, parts):
    plan = planned(tmp_path, when=values)
    assert [one.name for one in plan.sparse if one.column == "when"] == [f"when_{part}" for part in parts]


def test_axes_are_the_sparse_columns_of_few_values(tmp_path):
    many = {f"c{i}": [f"{j % (i + 2)}" for j in range(NUM)] for i in range(12)}
    plan = planned(tmp_path, movie=RNG.integers(0, 1_000, NUM), heat=RNG.normal(size=NUM), **many)
    assert [feature.name for feature, _ in plan.axes] == ["filler", *(f"c{i}" for i in range(7))]
    assert {kind for _, kind in plan.axes} == {"category"}


def test_a_small_file_has_no_column_of_row_ids(tmp_path):
    pq.write_table(pa.table({"y": [0, 1, 0], "x": ["a", "b", "c"]}), tmp_path / "rows.parquet")
    plan = infer(RawFiles(str(tmp_path)), special={"label": "y"}, sparse=None, dense=None, axes=None)
    assert [feature.name for feature in plan.sparse] == ["x"]


@pytest.mark.parametrize("order", ["sorted", "as it comes"])
def test_all_rows_decide_what_is_nearly_unique(tmp_path, order):
    """The first rows repeat little, or much, whatever the others do."""
    users = RNG.integers(0, 20_000, 60_000)
    request = np.r_[np.zeros(2_000, int), np.arange(58_000) + 10**9]
    rows = {
        "y": np.arange(60_000) % 2,
        "user_id": np.sort(users) if order == "sorted" else users,
        "request_id": request,
    }
    plan = planned_rows(tmp_path, pa.table(rows))
    assert [feature.name for feature in plan.sparse] == ["user_id"]
    assert {line.column: line.distinct for line in plan.found}["user_id"] == len(np.unique(users))


def planned_rows(tmp_path, table: pa.Table, name: str = "rows.parquet", **options) -> Plan:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=options.pop("row_group_size", None))
    else:
        with fsspec.open(str(path), "wb", compression="infer") as file:
            pa.csv.write_csv(table, file)
    return infer(
        RawFiles(str(path)), **{"special": {"label": "y"}, "sparse": None, "dense": None, "axes": None} | options
    )


FORMATS = ("rows.parquet", "rows.csv", "rows.csv.gz", "rows.tsv")


@pytest.mark.parametrize("name", FORMATS)
def test_what_differs_only_in_the_last_rows_is_kept(tmp_path, monkeypatch, name):
    """A log in order of time: in its first rows a day, an advertiser and no coupon."""
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 2_000)
    num = 30_000
    late = np.arange(num) >= 0.99 * num
    table = pa.table(
        {
            "y": RNG.integers(0, 2, num),
            "day": pa.array([f"d{i}" for i in np.arange(num) * 3 // num]),
            "adv": pa.array(np.where(late, "b", "a")),
            "coupon": pa.array(np.where(late, RNG.choice(["x", "y", "z"], num), None)),
            "bonus": pa.array(RNG.normal(size=num), mask=~late),
            "campaign": np.where(late, RNG.integers(0, 500, num), 7),
            "few": np.where(late, RNG.integers(0, 25, num), 3),
        }
    )
    plan = planned_rows(tmp_path, table, name)
    found = {line.column: line for line in plan.found}
    roles = {column: line.role for column, line in found.items()}
    assert roles == {
        **dict.fromkeys(("day", "adv", "coupon"), "sparse"),
        "y": "label",
        "bonus": "dense",
        "campaign": "dense",  # many values, skewed, by all rows
        "few": "sparse",
    }
    assert found["day"].distinct == 3
    assert (found["coupon"].distinct, found["coupon"].nulls) == (3, 99.0)
    assert [feature.name for feature, _ in plan.axes] == ["day", "adv", "coupon"]


def test_a_constant_and_an_empty_column_are_so_in_all_rows(tmp_path):
    rows = {
        "y": np.arange(NUM) % 2,
        "x": ["a", "b", "c"] * (NUM // 3),
        "one": ["k"] * NUM,
        "none": pa.nulls(NUM, pa.string()),
    }
    found = {line.column: line for line in planned_rows(tmp_path, pa.table(rows)).found}
    assert (found["one"].note, found["none"].note, found["none"].nulls) == ("constant", "empty", 100.0)
    empty = pa.array([[]] * NUM, pa.list_(pa.string()))
    found = {line.column: line for line in planned_rows(tmp_path, pa.table(rows | {"tags": empty})).found}
    assert (found["tags"].role, found["tags"].note) == ("ignored", "empty")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("__index_level_0__", np.arange(NUM)),
        ("__index_level_0__", [f"{i % 7}" for i in range(NUM)]),
        ("Unnamed: 0", RNG.permutation(NUM)),
        ("Unnamed: 0", np.tile(np.arange(NUM // 3), 3)),
        ("Unnamed: 0.1", np.arange(NUM).astype(float)),
        ("anything", np.arange(NUM)),
        ("age", np.arange(NUM) + 1),
        ("count", np.arange(NUM) + 10.0),
        ("index", RNG.permutation(NUM)),
        ("row_id", RNG.permutation(NUM) * 3.0),
        ("rowid", RNG.permutation(NUM)),
        ("line_number", RNG.permutation(NUM) + 5),
    ],
)
def test_row_numbers_are_left_out_and_said(tmp_path, name, values):
    rows = pa.table({"y": RNG.integers(0, 2, NUM), "x": ["a", "b", "c"] * (NUM // 3), name: values})
    plan = planned_rows(tmp_path, rows)
    found = {line.column: line for line in plan.found}[name]
    assert found.role == "ignored"
    assert found.note in ("row numbers", "an index that pandas wrote")
    named = planned_rows(tmp_path, rows, sparse=["x", name])
    assert name in [feature.name for feature in named.sparse], "who asks for it gets it"


def test_row_numbers_that_begin_again_in_each_file(tmp_path):
    for name in "abc":
        rows = {"n": np.arange(100), "x": ["u", "v"] * 50, "y": RNG.integers(0, 2, 100)}
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    plan = infer(RawFiles(str(tmp_path)), special={"label": "y"}, sparse=None, dense=None, axes=None)
    assert {line.column: line.note for line in plan.found}["n"] == "row numbers"


def test_a_number_that_counts_with_gaps_or_nulls_is_no_row_number(tmp_path):
    step = np.arange(NUM) // 3
    gap = pa.array(np.arange(NUM), mask=np.arange(NUM) == 5)
    rows = {"y": RNG.integers(0, 2, NUM), "x": ["u", "v", "w"] * (NUM // 3), "age": step, "price": gap}
    found = {line.column: line.role for line in planned_rows(tmp_path, pa.table(rows)).found}
    assert (found["age"], found["price"]) == ("dense", "dense")


def test_excluded_columns_are_no_features_and_no_axes(tmp_path):
    rows = pa.table({"y": RNG.integers(0, 2, NUM), "x": ["a", "b", "c"] * (NUM // 3), "z": ["u", "v"] * (NUM // 2)})
    plan = planned_rows(tmp_path, rows, exclude=["z"])
    assert [feature.name for feature in plan.sparse] == ["x"]
    assert [feature.name for feature, _ in plan.axes] == ["x"]
    assert {line.column: (line.role, line.note) for line in plan.found}["z"] == ("ignored", "excluded")


@pytest.mark.parametrize(
    ("exclude", "options", "message"),
    [
        (["zz"], {}, r"no such column .*column zz.*did you mean z\?"),
        (["y"], {}, "the label cannot be excluded"),
        (["z"], {"sparse": ["z", "x"]}, "in exclude and in sparse"),
        (["z"], {"axes": ["z"]}, "in exclude and in axes"),
    ],
)
def test_what_cannot_be_excluded_is_refused(tmp_path, exclude, options, message):
    rows = pa.table({"y": RNG.integers(0, 2, NUM), "x": ["a", "b", "c"] * (NUM // 3), "z": ["u", "v"] * (NUM // 2)})
    with pytest.raises(DataError, match=message):
        planned_rows(tmp_path, rows, exclude=exclude, **options)


@pytest.mark.parametrize(
    "values",
    [
        [f"2026-11-{1 + i % 9:02d}" for i in range(NUM)],
        [f"2026110{1 + i % 9}" for i in range(NUM)],
        [20261101 + i % 9 for i in range(NUM)],
        [f"2026-11-01 {i % 24:02d}:00" for i in range(NUM)],
    ],
)
def test_a_date_as_text_is_no_feature_where_the_split_is_by_time(tmp_path, values):
    rows = pa.table({"y": RNG.integers(0, 2, NUM), "x": ["a", "b", "c"] * (NUM // 3), "dt": values, "t": values})
    special = {"label": "y", "split": "dt"}
    plan = planned_rows(tmp_path, rows, special=special, by_time=True)
    assert [feature.name for feature in plan.sparse] == ["x"]
    found = {line.column: (line.role, line.note) for line in plan.found}
    assert found["dt"] == ("split", "not a feature: it orders the split")
    assert found["t"] == ("ignored", "a date: it orders the split")
    assert "t" in [feature.name for feature in planned_rows(tmp_path, rows).sparse], "of a random split it is one"


@pytest.mark.parametrize("values", [[f"u{i % 9}" for i in range(NUM)], [i % 7 for i in range(NUM)]])
def test_a_column_without_a_name_is_left_out_and_refused_where_it_is_named(tmp_path, values):
    rows = pa.table({"y": RNG.integers(0, 2, NUM), "x": ["a", "b", "c"] * (NUM // 3), "": values})
    [found] = [line for line in planned_rows(tmp_path, rows).found if not line.column]
    assert found.role == "ignored"
    with pytest.raises(DataError, match="a column without a name"):
        planned_rows(tmp_path, rows, sparse=["x", ""])
