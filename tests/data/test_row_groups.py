from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import c2al.data.row_groups
from c2al.data.columns import stored_columns
from c2al.data.row_groups import OpenFiles, SplitFiles
from c2al.schema import DataError, Schema, SparseColumn, Split

Prepared = Callable[..., tuple[str, pa.Table]]


def split_files(folder: str, split: str = "train") -> SplitFiles:
    schema = Schema.load(folder)
    return SplitFiles(folder=folder, split=split, schema=schema, columns=list(stored_columns(schema).values()))


def test_groups_in_file_order(prepared: Prepared) -> None:
    folder, rows = prepared(40)
    files = split_files(folder)
    assert [group.num_rows for group in files.groups] == [7, 7, 7, 5, 7, 7]
    assert [group.first_row for group in files.groups] == [0, 7, 14, 21, 26, 33]
    with OpenFiles(files) as opened:
        for group in reversed(files.groups):
            piece = opened.read(group, 1, group.num_rows)
            assert (
                piece.table["item"].to_pylist() == rows["item"].to_pylist()[piece.row_in_split :][: group.num_rows - 1]
            )


def test_files_are_opened_once_and_few_at_a_time(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = prepared(40)
    files = split_files(folder)
    opened = []
    open_file = files.open_file
    monkeypatch.setattr(files, "open_file", lambda path: opened.append(path) or open_file(path))
    with OpenFiles(files) as reading:
        for group in files.groups * 2:
            reading.read(group, 0, group.num_rows)
    assert len(opened) == 2
    monkeypatch.setattr(c2al.data.row_groups, "MOST_OPEN_FILES", 1)
    with OpenFiles(files) as reading:
        for group in files.groups:
            reading.read(group, 0, group.num_rows)
            assert len(reading._open) == 1


def test_no_such_folder_or_split(prepared: Prepared, tmp_path: Path) -> None:
    folder, _ = prepared(40)
    with pytest.raises(DataError, match=r"no such split .*value trian.*did you mean train"):
        split_files(folder, "trian")
    for path in (tmp_path / "train").glob("*"):
        path.unlink()
    with pytest.raises(DataError, match="no parquet files there"):
        split_files(folder)
    (tmp_path / "train").rmdir()
    with pytest.raises(DataError, match="no parquet files there"):
        split_files(folder)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_truncated_file(prepared: Prepared, tmp_path: Path, keep: int) -> None:
    folder, _ = prepared(40)
    path = tmp_path / "train" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="not a whole parquet file") as caught:
        split_files(folder)
    assert caught.value.where["file"] == str(path)


def test_corrupt_pages(prepared: Prepared, tmp_path: Path) -> None:
    folder, _ = prepared(40)
    path = tmp_path / "train" / "part-00001.parquet"
    whole = bytearray(path.read_bytes())
    whole[4:1000] = b"\xff" * 996
    path.write_bytes(whole)
    files = split_files(folder)
    with pytest.raises(DataError, match="row group does not read") as caught, OpenFiles(files) as opened:
        opened.read(files.groups[-2], 0, 1)
    assert (caught.value.where["file"], caught.value.where["row group"]) == (str(path), 0)


def test_rows_that_schema_yaml_does_not_know(prepared: Prepared, tmp_path: Path) -> None:
    folder, rows = prepared(40)
    pq.write_table(rows.slice(0, 3), tmp_path / "train" / "part-00002.parquet")
    with pytest.raises(DataError, match="says 40 rows, the files hold 43"):
        split_files(folder)


def test_no_rows(prepared: Prepared) -> None:
    folder, _ = prepared(0)
    with pytest.raises(DataError, match="no rows"):
        split_files(folder)


def test_missing_column_names_its_file(prepared: Prepared, tmp_path: Path) -> None:
    folder, _ = prepared(40)
    path = tmp_path / "train" / "part-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["store"]), path)
    with pytest.raises(DataError, match=r"column missing .*column store.*the file has: unit, tags") as caught:
        split_files(folder)
    assert caught.value.where["file"] == str(path)


def test_names_with_dots(tmp_path: Path) -> None:
    # Parquet paths use dots for nesting: a flat "user.age" beside "user" must not confuse the selection.
    schema = Schema(
        name="s",
        label="y",
        sparse=(SparseColumn("user", 9), SparseColumn("user.age", 9)),
        splits={"train": Split(3, 1, 1.0, 1.0)},
    )
    (tmp_path / "train").mkdir()
    table = pa.table({"user": [1, 2, 3], "user.age": [4, 5, 6], "y": pa.array(np.array([0, 1, 0], np.int8))})
    pq.write_table(table, tmp_path / "train" / "a.parquet")
    schema.save(str(tmp_path))
    for columns, name in ((["user"], "user"), (["user.age"], "user.age")):
        chosen = [stored_columns(schema)[column] for column in columns]
        files = SplitFiles(folder=str(tmp_path), split="train", schema=schema, columns=chosen)
        with OpenFiles(files) as opened:
            piece = opened.read(files.groups[0], 0, 3)
            assert piece.values(chosen[0]).tolist() == table[name].to_pylist()
