import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.inference import Plan, infer
from c2al.data.raw_files import RawFiles

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


def test_a_large_column_is_not_taken_for_row_ids_because_its_sample_repeats_little(tmp_path, monkeypatch):
    users = RNG.integers(0, 20_000, 60_000)
    rows = pa.table({"y": np.arange(60_000) % 2, "user_id": users, "request_id": np.arange(60_000)})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=3_000)
    raw = RawFiles(str(tmp_path))
    sample = raw.sample(num_rows=3_000)
    monkeypatch.setattr(raw, "sample", lambda: sample)
    assert len(set(sample["user_id"].to_pylist())) > 0.9 * sample.num_rows
    plan = infer(raw, special={"label": "y"}, sparse=None, dense=None, axes=None)
    assert [feature.name for feature in plan.sparse] == ["user_id"]
