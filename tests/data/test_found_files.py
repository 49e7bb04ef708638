from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al.data.found_files import FoundFiles, find_data_files
from c2al.data.prepare import prepare_parquet
from c2al.data.raw_files import RawFiles
from c2al.schema import REPLACED, DataError

TABLE = pa.table({"x": [1, 2]})


def write(path: Path, table: pa.Table = TABLE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        pq.write_table(table, path)
    else:
        with fsspec.open(str(path), "wb", compression="infer") as file:
            pa.csv.write_csv(table, file)


def names(found: FoundFiles, root: Path) -> list[str]:
    return [str(Path(file.path.removeprefix("file://")).relative_to(root)) for file in found.files]


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz", "tsv"])
@pytest.mark.parametrize("pattern", ["rows", "rows/day=*/*.{}", "rows/day=*", "rows/**/*.{}", "rows/day=[12]/a.{}"])
def test_linked_folders_and_files_are_read(tmp_path, ending, pattern):
    write(tmp_path / f"rows/day=1/a.{ending}")
    write(tmp_path / f"disk/a.{ending}")
    write(tmp_path / f"disk2/z.{ending}")
    (tmp_path / "rows/day=2").symlink_to(tmp_path / "disk")
    (tmp_path / f"rows/day=1/b.{ending}").symlink_to(f"../../disk2/z.{ending}")
    raw = RawFiles(str(tmp_path / pattern.format(ending)))
    table = pa.concat_tables([chunk.table for chunk in raw.chunks(["day", "x"])])
    one = pattern.endswith("a.{}")
    assert table["day"].to_pylist() == (["1"] * 2 if one else ["1"] * 4) + ["2"] * 2
    assert raw.left_out is None


def test_the_folder_itself_may_be_a_link(tmp_path):
    write(tmp_path / "disk/day=1/a.parquet")
    (tmp_path / "rows").symlink_to("disk")
    found = find_data_files(str(tmp_path / "rows"))
    assert names(found, tmp_path) == ["rows/day=1/a.parquet"]
    assert found.files[0].partitions == {"day": "1"}


@pytest.mark.parametrize("pattern", ["", "/**/*.parquet", "/*"])
def test_links_in_a_circle_end(tmp_path, pattern):
    write(tmp_path / "rows/a/x.parquet")
    write(tmp_path / "rows/b/y.parquet")
    (tmp_path / "rows/a/up").symlink_to(tmp_path / "rows")
    (tmp_path / "rows/a/self").symlink_to(".")
    (tmp_path / "rows/a/other").symlink_to("../b")
    (tmp_path / "rows/b/other").symlink_to("../a")
    found = find_data_files(f"{tmp_path}/rows{pattern}")
    assert names(found, tmp_path / "rows") == ["a/x.parquet", "b/y.parquet"]


def test_what_is_reached_twice_is_read_once_under_its_own_name(tmp_path):
    write(tmp_path / "rows/day=1/a.parquet")
    write(tmp_path / "rows/day=2/a.parquet")
    (tmp_path / "rows/current").symlink_to("day=2")  # comes before day=2
    found = find_data_files(str(tmp_path / "rows"))
    assert names(found, tmp_path / "rows") == ["day=1/a.parquet", "day=2/a.parquet"]
    assert found.told == f"not read: 1 reached twice; the first: {tmp_path}/rows/current/a.parquet"


@pytest.mark.parametrize("name", ["day=3", "b.parquet", "day=1/b.csv"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, name):
    write(tmp_path / "rows/day=1/a.parquet")
    (tmp_path / "rows" / name).symlink_to("/nowhere/at/all")
    with pytest.raises(
        DataError, match=rf"leads nowhere \(file .*rows/{name}, value /nowhere/at/all\).*remove the link"
    ):
        find_data_files(str(tmp_path / "rows"))


def test_what_is_left_out_is_told_in_one_line(tmp_path):
    for name in ("a.csv", ".b.csv", "_SUCCESS", "_temporary/c.csv", "README.md", "d.json", "e.csv.bak"):
        write(tmp_path / "rows" / name)
    (tmp_path / "rows/empty.csv").touch()
    found = find_data_files(str(tmp_path / "rows"))
    assert names(found, tmp_path / "rows") == ["a.csv"]
    assert found.told == (
        "not read: 3 hidden or named _…, 3 of other endings, 1 empty; the first: " + f"{tmp_path}/rows/.b.csv"
    )


def test_a_partition_may_begin_with_an_underscore(tmp_path):
    write(tmp_path / "rows/_day=1/a.parquet")
    assert find_data_files(str(tmp_path / "rows")).files[0].partitions == {"_day": "1"}


def test_where_all_is_left_out_the_error_says_what(tmp_path):
    write(tmp_path / "rows/a.json")
    with pytest.raises(DataError, match=r"no file that ends in .*1 of other endings; the first: .*a\.json"):
        find_data_files(str(tmp_path / "rows"))


def test_what_was_prepared_below_is_no_raw_data(tmp_path):
    for name in ("a", "out/train/part-00000", "out.partial/train/p", f"out{REPLACED}/train/p", "old/train/p"):
        write(tmp_path / f"{name}.parquet")
    (tmp_path / "old/schema.yaml").touch()
    (tmp_path / "out.lock").touch()
    found = find_data_files(str(tmp_path), skip=str(tmp_path / "out"))
    assert names(found, tmp_path) == ["a.parquet"]
    assert found.told == f"not read: 1 prepared data; the first: {tmp_path}/old"
    for name in ("out/train/part-00000.parquet", "out/train/*.parquet"):
        with pytest.raises(DataError, match=r"to be written|no data file"):
            find_data_files(str(tmp_path / name), skip=str(tmp_path / "out"))


def test_other_file_systems_are_told_of_likewise():
    storage = fsspec.filesystem("memory")
    storage.store.clear()
    for name in ("a.csv", "_SUCCESS", "notes.txt"):
        with fsspec.open(f"memory://found/{name}", "w") as file:
            file.write("x\n1\n")
    found = find_data_files("memory://found")
    assert [file.path for file in found.files] == ["memory:///found/a.csv"]
    assert found.told == "not read: 1 hidden or named _…, 1 of other endings; the first: /found/_SUCCESS"


@pytest.mark.parametrize("pattern", ["rows", "rows/day=*/*.parquet"])
def test_rows_behind_a_link_are_prepared(tmp_path, pattern):
    """Two days, one of them on another disk."""
    rng = np.random.default_rng(0)
    rows = pa.table({"item": rng.integers(0, 30, 2_000), "click": rng.integers(0, 2, 2_000)})
    write(tmp_path / "rows/day=1/a.parquet", rows.slice(0, 1_000))
    write(tmp_path / "disk/a.parquet", rows.slice(1_000))
    (tmp_path / "rows/day=2").symlink_to(tmp_path / "disk")
    (tmp_path / "rows/day=1/notes.txt").touch()
    schema = prepare_parquet(folder=str(tmp_path / pattern), to=str(tmp_path / "out"), label="click")
    assert sum(split.rows for split in schema.splits.values()) == 2_000
    day = next(column for column in schema.notes["found"] if column["column"] == "day")
    assert (day["role"], day["distinct"]) == ("sparse", 2)
    assert ("left_out" in schema.notes) == (pattern == "rows")


@pytest.mark.parametrize("pattern", ["rows", "rows/*", "rows/**", "rows/*/*.parquet", "rows/*/*/*.parquet"])
def test_a_pattern_leaves_out_what_a_folder_does(tmp_path, pattern):
    for name in ("day=1/a", "day=1/b/a", "_temporary/b", "_temporary/0/b", "day=1/_old", ".hidden/c", "x/_y/z"):
        write(tmp_path / f"rows/{name}.parquet")
    for place in ("prepared", "day=1/prepared"):
        write(tmp_path / f"rows/{place}/train/part-0.parquet")
        (tmp_path / f"rows/{place}/schema.yaml").write_text("x")
    found = find_data_files(str(tmp_path / pattern))
    assert set(names(found, tmp_path)) <= {"rows/day=1/a.parquet", "rows/day=1/b/a.parquet"}
    assert names(find_data_files(str(tmp_path / "rows/_temp*/*.parquet")), tmp_path) == ["rows/_temporary/b.parquet"]


def test_a_link_that_leads_nowhere_is_an_error_for_a_pattern_too(tmp_path):
    write(tmp_path / "a.csv")
    (tmp_path / "b.csv").symlink_to("/nonexistent")
    with pytest.raises(DataError, match=r"a link leads nowhere.*b\.csv"):
        find_data_files(str(tmp_path / "*.csv"))


@pytest.mark.parametrize("pattern", ["", "*", "**", "*/*.parquet", "[tv]*"])
def test_folders_named_by_split_are_splits_for_a_pattern_too(tmp_path, pattern):
    for split in ("train", "validation", "test"):
        write(tmp_path / split / "a.parquet")
    found = find_data_files(f"{tmp_path}/{pattern}")
    assert [file.split for file in found.files] == ["test", "train", "validation"]


def test_endings_may_be_in_capitals(tmp_path):
    pq.write_table(TABLE, tmp_path / "A.PARQUET")
    for place in (tmp_path, tmp_path / "A.PARQUET"):
        assert RawFiles(str(place)).num_rows == 2


def test_a_folder_without_a_key_is_no_column(tmp_path):
    write(tmp_path / "=v/k=1/a.parquet")
    assert find_data_files(str(tmp_path)).files[0].partitions == {"k": "1"}


@pytest.mark.parametrize("path", ["nosuch://bucket/rows", "dropbox://rows"])
def test_file_systems_that_are_not_there(path):
    with pytest.raises(DataError, match="the path cannot be read") as raised:
        find_data_files(path)
    assert raised.value.where["file"] == path
