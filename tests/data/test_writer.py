import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.data import writer
from c2al.data.writer import write_splits
from c2al.schema import Split


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
