import errno

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import DataError
from c2al.serving.scores_file import scores_file

TABLE = pa.table({"row": [1, 2]})


@pytest.mark.parametrize("place", ["file", "memory"])
def test_tables_are_added_and_the_file_takes_its_name_at_the_end(tmp_path, place):
    to = str(tmp_path / "new" / "s.parquet") if place == "file" else "memory://scores/new/s.parquet"
    files, target = fsspec.url_to_fs(to)
    with scores_file(to) as out:
        out.write(TABLE)
        out.write(TABLE)
        assert not files.exists(target)
    assert pq.read_table(target, filesystem=files)["row"].to_pylist() == [1, 2, 1, 2]
    assert [path.split("/")[-1] for path in files.ls(files._parent(target), detail=False)] == ["s.parquet"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "s.parquet"
    path.write_bytes(b"earlier")

    def write() -> None:
        with scores_file(str(path)) as out:
            out.write(TABLE)
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "s.parquet"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with scores_file(str(path)) as out:
            monkeypatch.setattr(out._file, "write", full, raising=False)
            out.write(TABLE)
            out.write(TABLE)

    with pytest.raises(DataError, match=r"disk is full.*another to="):
        write()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"s\.parquet"), scores_file(str(tmp_path / "file" / "s.parquet")):
        pass
