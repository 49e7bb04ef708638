import json

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al import cli
from c2al.data import raw_files
from c2al.data.prepare import found_table
from c2al.schema import SPLITS, DataError, Schema
from tests.data.raw_rows import NUM, prepared, raw_rows, write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 700)  # several chunks per file
    (tmp_path / "raw").mkdir()
    table = raw_rows()
    pq.write_table(table.slice(0, 2_500), tmp_path / "raw" / "a.parquet", row_group_size=900)
    pq.write_table(table.slice(2_500), tmp_path / "raw" / "b.parquet")
    return str(tmp_path / "raw")


def values_of(schema: Schema, folder: str, column: str, ids: list[int | None]) -> list[str | None]:
    """Ids back to values by the stored vocabulary."""
    place = next(one.vocabulary for one in schema.sparse if one.name == column)
    stored = pq.read_table(f"{folder}_prepared/{place}").to_pydict()
    value = dict(zip(stored["id"], stored["value"], strict=True))
    return [value.get(i) for i in ids]


def test_what_is_not_said_is_found_out(folder):
    schema, _ = prepared(folder, unit="user_id")
    assert [column.name for column in schema.sparse] == [
        "user_id",
        "movie",
        "country",
        "mobile",
        "tags",
        "when_weekday",
        "when_hour",
    ]
    assert [column.name for column in schema.dense] == ["spend", "heat", "visits"]
    assert [axis.name for axis in schema.axes] == ["country", "mobile"]
    assert [column.name for column in schema.sparse if column.multi] == ["tags"]
    roles = {line["column"]: line["role"] for line in schema.notes["found"]}
    assert roles["user_id"] == "unit, sparse"
    assert roles["clicked"] == "label"
    assert {name for name, role in roles.items() if role == "ignored"} == {"title", "always", "never", "embedding"}
    assert Schema.load(f"{folder}_prepared") == schema
    json.dumps(schema.notes)


def test_the_table_of_what_was_found_has_a_line_for_each_column(folder):
    schema, _ = prepared(folder)
    header, *lines = found_table(schema)
    assert header == ("column", "type", "role", "distinct", "nulls %", "note")
    by_name = {line[0]: line for line in lines}
    assert list(by_name) == raw_rows().column_names
    null_share = 100 * raw_rows()["spend"].null_count / NUM
    assert by_name["spend"] == (
        "spend",
        "double",
        "dense",
        by_name["spend"][3],
        f"{null_share:.2f}".rstrip("0"),
        "log1p",
    )
    assert by_name["title"][5] == "nearly every row has another value"
    assert "cohort axis (category)" in by_name["country"][5]
    assert "dense=[…]" in by_name["movie"][5]


def test_every_value_is_what_the_raw_row_says(folder):
    """Rows are matched by a column that numbers them, then each is checked against the definition."""
    raw = raw_rows().append_column("key", pa.array(np.arange(NUM) / 1000))
    for name, part in (("a", raw.slice(0, 2_500)), ("b", raw.slice(2_500))):
        pq.write_table(part, f"{folder}/{name}.parquet")
    schema, tables = prepared(folder, split_by="when", unit="user_id")
    key = next(column for column in schema.dense if column.name == "key")
    all_rows = pa.concat_tables(tables.values())
    number = np.round(np.asarray(all_rows["key"], dtype=np.float64) * key.std * 1000 + key.mean * 1000).astype(int)
    assert sorted(number) == list(range(NUM))
    expected = raw.take(number)
    train = raw.take(
        np.round(np.asarray(tables["train"]["key"], np.float64) * key.std * 1000 + key.mean * 1000).astype(int)
    )

    def texts(table: pa.Table, column: str) -> list[str | None]:
        return [
            None if v is None else str(int(v)) if column == "user_id" else str(v) for v in table[column].to_pylist()
        ]

    for column in ("user_id", "movie", "country"):
        known = set(texts(train, column))
        wanted = [text if text in known else None for text in texts(expected, column)]
        assert values_of(schema, folder, column, all_rows[column].to_pylist()) == wanted
    for ids, row in zip(all_rows["tags"].to_pylist(), expected["tags"].to_pylist(), strict=True):
        assert values_of(schema, folder, "tags", ids) == (row or [])
    hours = values_of(schema, folder, "when_hour", all_rows["when_hour"].to_pylist())
    assert hours == [str(when.hour) for when in expected["when"].to_pylist()]
    weekdays = values_of(schema, folder, "when_weekday", all_rows["when_weekday"].to_pylist())
    assert weekdays == [str(when.weekday()) for when in expected["when"].to_pylist()]
    spend = np.log1p(np.array(train["spend"].drop_null().to_pylist()))
    wanted = [0.0 if v is None else (np.log1p(v) - spend.mean()) / spend.std() for v in expected["spend"].to_pylist()]
    np.testing.assert_allclose(all_rows["spend"].to_numpy(), wanted, atol=1e-5)
    names = schema.axis("country").cohorts
    assert [names[i] for i in all_rows["cohort_country"].to_pylist()] == [
        v or "unknown" for v in expected["country"].to_pylist()
    ]
    assert all_rows["clicked"].to_pylist() == [int(v) for v in expected["clicked"].to_pylist()]
    by_unit = {}
    for unit, user in zip(all_rows[schema.unit].to_pylist(), expected["user_id"].to_pylist(), strict=True):
        assert by_unit.setdefault(user, unit) == unit
    assert len(set(by_unit.values())) == len(by_unit)
    assert max(train["when"].to_pylist()) < min(raw.take(number[len(train) :])["when"].to_pylist())


def test_chunk_size_and_number_of_files_change_nothing(folder, tmp_path, monkeypatch):
    schema, tables = prepared(folder)
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 131_072)
    (tmp_path / "one").mkdir()
    pq.write_table(raw_rows(), tmp_path / "one" / "all.parquet")
    other, others = prepared(str(tmp_path / "one"))
    assert (schema.sparse, schema.axes, schema.splits) == (other.sparse, other.axes, other.splits)
    for split in SPLITS:
        for name in tables[split].column_names:
            a, b = tables[split][name], others[split][name]
            if a.type == pa.float32():
                np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), atol=1e-6)
            else:
                assert a.equals(b)


def test_what_is_named_is_taken_and_nothing_else(folder):
    schema, tables = prepared(folder, sparse=["movie", "title", "when"], dense=["mobile"], axes=["spend", "country"])
    assert [column.name for column in schema.sparse] == ["movie", "when_weekday", "when_hour", "title"]
    assert [(column.name, column.transform) for column in schema.dense] == [("mobile", "none")]
    assert [(axis.name, axis.kind) for axis in schema.axes] == [("spend", "quantile"), ("country", "category")]
    assert set(schema.axis("spend").cohorts) == {
        "bottom 5%",
        "5-25%",
        "25-50%",
        "50-75%",
        "75-95%",
        "top 5%",
        "unknown",
    }
    assert set(np.round(tables["train"]["mobile"].to_numpy(), 4)) == set(
        np.round([(v - schema.dense[0].mean) / schema.dense[0].std for v in (0, 1)], 4).astype(np.float32)
    )
    assert schema.notes["derived"]["when_hour"] == {"column": "when", "part": "hour"}


def test_no_dense_and_no_axes_may_be_asked_for(folder):
    schema, _ = prepared(folder, dense=[], axes=[])
    assert (schema.dense, schema.axes) == ((), ())


def test_hashing_takes_the_large_columns_and_leaves_the_small_ones(folder):
    schema, tables = prepared(folder, hash_rows=100)
    assert {column.name for column in schema.sparse if column.hashed} == {"user_id", "movie"}
    hashed = {column.name: column for column in schema.sparse}["movie"]
    assert (hashed.num_rows, hashed.vocabulary) == (100, None)
    ids = tables["train"]["movie"].to_numpy()
    assert 1 <= ids.min() <= ids.max() < 100
    assert "hashed into 100 rows" in next(line["note"] for line in schema.notes["found"] if line["column"] == "movie")


def test_rare_values_go_to_zero(folder):
    schema, tables = prepared(folder, max_vocabulary=50, min_count=2)
    movie = {column.name: column for column in schema.sparse}["movie"]
    assert movie.num_rows == 51
    assert 0 in tables["train"]["movie"].to_numpy()


def test_the_split_is_random_by_seed_eighty_ten_ten(folder, tmp_path):
    schema, first = prepared(folder)
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert schema.splits[split].rows / NUM == pytest.approx(share, abs=0.02)
    _, again = prepared(folder, overwrite=True)
    _, other = prepared(folder, overwrite=True, seed=1)
    assert first["test"].equals(again["test"])
    assert not first["test"].equals(other["test"])


def test_a_column_may_say_the_split(tmp_path):
    names = np.array(["train", "Valid", "TEST", "train"])[np.arange(NUM) % 4]
    folder = write(tmp_path, raw_rows().append_column("part", pa.array(names)))
    schema, _ = prepared(folder, split_by="part")
    assert [schema.splits[split].rows for split in SPLITS] == [2_000, 1_000, 1_000]
    assert "part" not in {column.name for column in schema.sparse}
    folder = write(tmp_path, raw_rows().append_column("part", pa.array(np.where(names == "TEST", "tset", names))))
    with pytest.raises(DataError, match=r"column part, value tset.*Remedy"):
        prepared(folder, split_by="part", overwrite=True)


def test_folders_named_by_split_are_the_splits(tmp_path):
    for i, split in enumerate(SPLITS):
        (tmp_path / "raw" / split).mkdir(parents=True)
        pq.write_table(raw_rows(100 * (i + 1)), tmp_path / "raw" / split / "p.parquet")
    schema, _ = prepared(str(tmp_path / "raw"))
    assert [schema.splits[split].rows for split in SPLITS] == [100, 200, 300]


def test_equal_times_are_never_parted_and_too_few_are_refused(tmp_path):
    days = np.sort(np.arange(NUM) % 10)
    folder = write(tmp_path, raw_rows().append_column("day", pa.array(days)))
    schema, _ = prepared(folder, split_by="day")
    assert [schema.splits[split].rows for split in SPLITS] == [3_200, 400, 400]
    folder = write(tmp_path, raw_rows().append_column("day", pa.array(days % 2)))
    with pytest.raises(DataError, match="2 distinct values"):
        prepared(folder, split_by="day", overwrite=True)


def test_csv_and_other_file_systems_work_too():
    table = raw_rows().drop_columns(["tags", "embedding"])
    table = table.set_column(table.column_names.index("country"), "country", table["country"].cast(pa.string()))
    with fsspec.open("memory://shop/raw/a.csv", "wb") as file:
        pa.csv.write_csv(table, file)
    schema, tables = prepared("memory://shop/raw", overwrite=True, axes=["country"])
    assert "when_hour" in {column.name for column in schema.sparse}
    assert schema.axis("country").cohorts == ("de", "fr", "uk", "unknown")
    assert sum(table.num_rows for table in tables.values()) == NUM


def test_weights_are_kept_as_they_are(tmp_path):
    weight = np.where(np.arange(NUM) % 2, 0.5, 4.0)
    folder = write(tmp_path, raw_rows().append_column("w", pa.array(weight)))
    schema, tables = prepared(folder, weight="w")
    assert schema.weight == "w"
    assert tables["test"]["w"].type == pa.float32()
    assert sum(split.weight for split in schema.splits.values()) == pytest.approx(weight.sum())
    assert "w" not in {column.name for column in schema.dense}


def test_progress_counts_all_passes(folder):
    seen = []
    prepared(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3 * NUM, 3 * NUM)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_values_new_after_training_are_unknown_and_extremes_stay_finite(tmp_path):
    part = pa.array(["train"] * (NUM - 200) + ["validation"] * 100 + ["test"] * 100)
    spend = np.r_[np.random.default_rng(0).lognormal(0, 2, NUM - 3), -5.0, np.inf, 1e300]
    country = pa.array(["de", "fr"] * (NUM // 2 - 1) + ["xx", None])
    table = raw_rows().drop_columns(["spend", "country"])
    table = table.append_column("spend", pa.array(spend)).append_column("country", country).append_column("part", part)
    schema, tables = prepared(write(tmp_path, table), split_by="part", axes=["country"])
    assert tables["test"]["country"].to_pylist()[-2:] == [0, 0]
    assert tables["test"]["cohort_country"].to_pylist()[-2:] == [-1, -1]
    last = tables["test"]["spend"].to_numpy()
    assert schema.dense[-1].name == "spend"
    assert np.isfinite(last).all()
    assert last[-2] == 0


def log_by_day(tmp_path, ending: str, num: int = 900) -> str:
    """A log in folders by day, with a click that every purchase implies, and an index."""
    rng = np.random.default_rng(0)
    purchase = rng.random(num) < 0.2
    table = pa.table(
        {
            "__index_level_0__": np.arange(num),
            "item": rng.integers(0, 30, num),
            "hour": rng.integers(0, 24, num),
            "click": purchase | (rng.random(num) < 0.2),
            "purchase": purchase.astype(int),
        }
    )
    for i in range(9):
        part, place = table.slice(i * num // 9, num // 9), tmp_path / "log" / f"dt=2026-11-0{i + 1}"
        place.mkdir(parents=True)
        with fsspec.open(str(place / f"a.{ending}"), "wb", compression="infer") as file:
            pq.write_table(part, file) if ending == "parquet" else pyarrow.csv.write_csv(part, file)
    return str(tmp_path / "log")


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_a_log_by_day(tmp_path, ending):
    folder = log_by_day(tmp_path, ending)
    split = {"train": ["2026-11-01", "2026-11-05"], "validation": "2026-11-06", "test": "2026-11-08"}
    schema, tables = prepared(folder, label="purchase", split=split)
    assert [column.name for column in schema.sparse] == ["item", "hour", "click"]
    assert {name: table.num_rows for name, table in tables.items()} == {"train": 500, "validation": 100, "test": 100}
    leak, left_out = schema.notes["warnings"]
    assert "column click may give the label away" in leak
    assert "100.00% of the positives" in leak
    assert "exclude=[click]" in leak
    assert left_out == "200 of 900 rows (22.22%) are in no range of split= and left out"
    found = {line["column"]: (line["role"], line["note"]) for line in schema.notes["found"]}
    assert found["dt"] == ("split", "not a feature: it orders the split")
    assert found["__index_level_0__"][0] == "ignored"
    assert schema.notes["split"] == "by dt: train 2026-11-01 to 2026-11-05, validation 2026-11-06, test 2026-11-08"
    json.dumps(schema.notes)
    schema, _ = prepared(folder, label="purchase", split_by="dt", exclude="click", overwrite=True)
    assert [column.name for column in schema.sparse] == ["item", "hour"]
    assert not schema.notes["warnings"]
    assert schema.notes["split"] == "by dt: validation from 2026-11-08, test from 2026-11-09"
    assert [split.rows for split in schema.splits.values()] == [700, 100, 100]


def test_the_command_line_takes_ranges_as_people_write_them(tmp_path, capsys):
    folder = log_by_day(tmp_path, "parquet")
    ranges = "split={train: [2026-11-01, 2026-11-07], validation: 2026-11-08, test: 2026-11-09}"
    words = ["source=parquet", f"from={folder}", f"to={tmp_path}/out", "label=purchase", "exclude=[click]", ranges]
    assert cli.run("prepare", words) == 0
    assert [split.rows for split in Schema.load(f"{tmp_path}/out").splits.values()] == [700, 100, 100]
    said = capsys.readouterr().out
    assert "split by dt: train 2026-11-01 to 2026-11-07" in said
    assert "in all 900 rows" in said


def test_ranges_that_no_row_is_in_are_named_and_nothing_is_left(tmp_path):
    folder = log_by_day(tmp_path, "parquet")
    split = {"train": ["2026-11-01", "2026-11-07"], "validation": "2026-11-08", "test": "2027-01-01"}
    with pytest.raises(DataError, match=r"no rows for test .*fix the ranges of split"):
        prepared(folder, label="purchase", split=split)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
