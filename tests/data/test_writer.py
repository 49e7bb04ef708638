import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import writer
from c2al.data.writer import prepared_folder, write_splits
from c2al.schema import DataError, Split


def rows(num: int, start: int = 0) -> pa.Table:
    x = np.arange(start, start + num, dtype=np.int32)
    weight = np.where(x % 2, 0.5, 2.0).astype(np.float32)
    return pa.table({"x": x, "label": (x % 4 == 0).astype(np.int8), "weight": weight})


def test_tables_of_any_size_become_equal_row_groups_and_parts_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 30)
    sizes = [1, 0, 9, 25, 3, 34, 2]
    starts = np.cumsum([0, *sizes])
    tables = [("train", rows(n, start)) for n, start in zip(sizes, starts, strict=False)]
    splits = write_splits(str(tmp_path), tables, label="label", weight="weight")
    parts = sorted((tmp_path / "train").glob("*.parquet"))
    groups = []
    for part in parts:
        metadata = pq.ParquetFile(part).metadata
        groups.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    assert groups == [[10, 10, 10], [10, 10, 10], [10, 4]]
    together = pa.concat_tables([pq.read_table(part) for part in parts])
    assert together["x"].to_pylist() == list(range(74))
    assert splits["train"] == Split(rows=74, positives=19, weight=37 * 2.5, positive_weight=38.0)
    assert splits["test"] == Split(0, 0, 0.0, 0.0)


def test_without_a_weight_every_row_weighs_one(tmp_path):
    splits = write_splits(str(tmp_path), [("test", rows(8))], label="label", weight=None)
    assert splits["test"] == Split(8, 2, 8.0, 2.0)


def test_a_split_written_again_holds_no_old_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 5)
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 5)
    write_splits(str(tmp_path), [("train", rows(20))], label="label", weight=None)
    write_splits(str(tmp_path), [("train", rows(3))], label="label", weight=None)
    assert pq.read_table(tmp_path / "train").num_rows == 3


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "deep" / "prepared")
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return "memory://deep/prepared"


def put(folder: str, name: str, text: str) -> None:
    with fsspec.open(f"{folder}/{name}", "w", auto_mkdir=True) as file:
        file.write(text)


def listing(folder: str) -> list[str]:
    files, root = fsspec.url_to_fs(folder)
    return sorted(path[path.index("prepared") :] for path in files.find(root.rsplit("/", 1)[0]))


def test_the_folder_takes_its_name_when_the_block_ends(place):
    with prepared_folder(place) as partial:
        put(partial, "train/part.parquet", "rows")
        put(partial, "schema.yaml", "new")
        assert listing(place) == ["prepared.partial/schema.yaml", "prepared.partial/train/part.parquet"]
    assert listing(place) == ["prepared/schema.yaml", "prepared/train/part.parquet"]


def test_an_error_leaves_nothing_new_and_the_old_data(place):
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "old")

    def fail() -> None:
        with prepared_folder(place, overwrite=True) as partial:
            put(partial, "schema.yaml", "new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert listing(place) == ["prepared/schema.yaml"]
    with fsspec.open(f"{place}/schema.yaml", "r") as file:
        assert file.read() == "old"


def test_overwrite_replaces_prepared_data_whole(place):
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "old")
        put(partial, "old.parquet", "rows")
    with pytest.raises(DataError, match="overwrite"), prepared_folder(place):
        pass
    with prepared_folder(place, overwrite=True) as partial:
        put(partial, "schema.yaml", "new")
    assert listing(place) == ["prepared/schema.yaml"]


def test_overwrite_spares_a_folder_that_is_no_prepared_data(place):
    put(place, "thesis.tex", "years of work")
    with pytest.raises(DataError, match="something else"), prepared_folder(place, overwrite=True):
        pass
    assert listing(place) == ["prepared/thesis.tex"]


def test_what_a_killed_run_left_is_swept_away(place):
    put(f"{place}.partial", "train/half.parquet", "rows")
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "new")
    assert listing(place) == ["prepared/schema.yaml"]


def test_an_empty_folder_is_taken_and_a_file_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with prepared_folder(str(tmp_path / "empty") + "/") as partial:
        put(partial, "schema.yaml", "new")
    assert (tmp_path / "empty" / "schema.yaml").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file stands"), prepared_folder(str(tmp_path / "file")):
        pass
