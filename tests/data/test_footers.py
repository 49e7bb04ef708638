import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.footers import mean_ids
from c2al.schema import SparseColumn

COLUMNS = (SparseColumn("user", 10), SparseColumn("tags", 10, multi=True), SparseColumn("a.b", 10, multi=True))


@pytest.fixture
def folder(tmp_path):
    """Two row groups of the first file count, the second file does not."""
    lists = pa.list_(pa.int32())
    for name, tags in (("a", [[1, 2, 3], [4, 5], [6]]), ("b", [[1] * 9])):
        table = pa.table(
            {"user": pa.array([1] * len(tags), pa.int32()), "tags": pa.array(tags, lists), "a.b": pa.array(tags, lists)}
        )
        (tmp_path / "train").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "train" / f"{name}.parquet", row_group_size=2)
    return tmp_path


def test_of_multi_valued_columns(folder):
    assert mean_ids(str(folder), COLUMNS) == {"tags": 2.0, "a.b": 2.0}


def test_single_valued_columns_need_no_file(tmp_path):
    assert mean_ids(str(tmp_path), COLUMNS[:1]) == {}


def test_nothing_is_said_without_a_whole_file(tmp_path):
    assert mean_ids(str(tmp_path), COLUMNS) == {}
    (tmp_path / "train").mkdir()
    assert mean_ids(str(tmp_path), COLUMNS) == {}
    (tmp_path / "train" / "a.parquet").write_bytes(b"cut")
    assert mean_ids(str(tmp_path), COLUMNS) == {}


def test_a_single_column_with_the_path_of_a_list_does_not_count(tmp_path):
    (tmp_path / "train").mkdir()
    bags = pa.array([[1, 2], [3]], pa.list_(pa.int32()))
    rows = pa.table({"a": bags, "a.list.element": [1, 2], "a.b": bags})
    pq.write_table(rows, tmp_path / "train" / "part.parquet")
    columns = [SparseColumn("a", 5, multi=True), SparseColumn("a.list.element", 5), SparseColumn("a.b", 5, multi=True)]
    assert mean_ids(str(tmp_path), columns) == {"a": 1.5, "a.b": 1.5}
