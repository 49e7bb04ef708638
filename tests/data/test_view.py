"""A view adds cohorts to rows of another folder, and reads like a folder of its own."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.reader import Reader
from c2al.data.scan import read_columns
from c2al.data.view import write_view
from c2al.schema import CohortAxis, DataError, Schema
from tests.data.conftest import small_table

GROUPED = CohortAxis("learned", ("kmeans 1", "kmeans 2", "kmeans 3"))
NUM_ROWS = 100


def made_ids(num_rows: int = NUM_ROWS) -> np.ndarray:
    return (np.arange(num_rows) * 7 % 4 - 1).astype(np.int16)


@pytest.fixture
def view(prepared, tmp_path):
    """(the rows' folder, a view of it)."""
    rows, _ = prepared(NUM_ROWS, folder=str(tmp_path / "rows"))
    write_view(str(tmp_path / "view"), rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids()}})
    return rows, str(tmp_path / "view")


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_the_schema_is_that_of_the_rows_and_the_added_axes(view):
    rows, folder = view
    schema, plain = Schema.load(folder), Schema.load(rows)
    assert schema.axes == (*plain.axes, GROUPED)
    assert (schema.sparse, schema.dense, schema.splits, schema.unit) == (
        *(plain.sparse, plain.dense, plain.splits),
        plain.unit,
    )
    assert schema.axis("age_x_learned").crosses == ("age", "learned")
    assert plain.view is None


def test_columns_of_both_folders_row_by_row(view):
    table = small_table(NUM_ROWS)
    found = read_columns(view[1], "train", ["item"], axes=["age", "learned", "learned_x_age"])
    assert found["item"].tolist() == table["item"].to_pylist()
    assert found["cohort_age"].tolist() == table["cohort_age"].to_pylist()
    assert found["cohort_learned"].tolist() == made_ids().tolist()
    assert (found["cohort_learned_x_age"] < 0).any()
    assert read_columns(view[1], "train", axes=["learned"])["cohort_learned"].tolist() == made_ids().tolist()


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_carry_the_added_cohort_of_each_row(view, world_size):
    seen = []
    for rank in range(world_size):
        reader = Reader(
            folder=view[1],
            split="train",
            batch_size=8,
            axes=["learned", "age"],
            rank=rank,
            world_size=world_size,
            shuffle=True,
            window_rows=24,
        )
        for batch in reader.batches():
            row_B, cohort_BA = batch.row_B.numpy(), batch.cohort_BA.numpy()
            real = row_B >= 0
            np.testing.assert_array_equal(cohort_BA[real, 0], made_ids()[row_B[real]])
            np.testing.assert_array_equal(batch.sparse["item"].values().numpy()[real], row_B[real])
            seen += row_B[real].tolist()
    assert sorted(seen) == list(range(NUM_ROWS))


def test_rows_are_not_touched_and_not_copied(view):
    rows, folder = view
    before = contents(rows)
    write_view(folder, rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids()}})
    assert contents(rows) == before
    assert pq.read_schema(f"{folder}/train/part-00000.parquet").names == ["cohort_learned"]


def test_a_view_of_a_view_is_of_the_same_rows_and_keeps_its_axes(view, tmp_path):
    rows, folder = view
    other = CohortAxis("tree", ("tree 1", "tree 2"))
    ids = {"train": {"tree": np.zeros(NUM_ROWS, np.int16)}}
    schema = write_view(str(tmp_path / "second"), rows=folder, axes=[other], ids=ids)
    shutil.rmtree(folder)
    assert schema == Schema.load(str(tmp_path / "second"))
    assert schema.view.rows == rows
    found = read_columns(str(tmp_path / "second"), "train", axes=["learned", "tree"])
    assert found["cohort_learned"].tolist() == made_ids().tolist()


def test_empty_row_groups_and_files_do_not_shift_the_rows(view, tmp_path):
    rows, folder = view
    table = small_table(NUM_ROWS)
    with pq.ParquetWriter(f"{rows}/train/part-00000.parquet", table.schema) as writer:
        for part in (table.slice(0, 10), table.slice(0, 0), table.slice(10, 50)):
            writer.write_table(part)
    pq.write_table(table.slice(0, 0), f"{rows}/train/part-00000a.parquet")
    pq.write_table(table.slice(60), f"{rows}/train/part-00001.parquet")
    write_view(folder, rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids()}})
    assert read_columns(folder, "train", axes=["learned"])["cohort_learned"].tolist() == made_ids().tolist()


def test_other_rows_than_the_view_was_made_for_are_refused(view, prepared):
    rows, folder = view
    table = small_table(NUM_ROWS)
    pq.write_table(table, f"{rows}/train/part-00000.parquet")
    Path(f"{rows}/train/part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"not cut into the row groups of its rows.*discover"):
        read_columns(folder, "train", axes=["learned"])
    assert len(read_columns(folder, "train", axes=["age"])["cohort_age"]) == NUM_ROWS, "asks nothing of the view"
    prepared(NUM_ROWS - 1, table=pa.table(table.slice(1)), folder=rows)
    with pytest.raises(DataError, match=r"prepared again since.*learn the cohorts again"):
        Schema.load(folder)


def test_nothing_but_a_view_is_replaced(view, tmp_path):
    rows, _ = view
    ids = {"train": {"learned": made_ids()}}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for taken in (rows, str(tmp_path / "mine")):
        before = contents(taken)
        with pytest.raises(DataError, match="something other than learned cohorts"):
            write_view(taken, rows=rows, axes=[GROUPED], ids=ids)
        assert contents(taken) == before


def test_a_view_whose_rows_are_others_by_now_is_replaced(view, prepared):
    """As the error about it says: by learning the cohorts again."""
    rows, folder = view
    prepared(NUM_ROWS, table=pa.table(small_table(NUM_ROWS + 1).slice(1)), folder=rows)
    Path(rows, "schema.yaml").write_text(Path(rows, "schema.yaml").read_text() + "\n")
    write_view(folder, rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids()}})
    assert Schema.load(folder).view


def test_a_view_that_holds_the_users_files_is_refused(view):
    rows, folder = view
    Path(folder, "train", "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"something else beside prepared data.*notes\.txt"):
        write_view(folder, rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids()}})


def test_a_view_is_whole_or_not_there(view, tmp_path):
    rows, folder = view
    before = contents(folder)
    with pytest.raises(ValueError, match="99 cohort ids for 100 rows"):
        write_view(folder, rows=rows, axes=[GROUPED], ids={"train": {"learned": made_ids(99)}})
    assert contents(folder) == before
    assert not Path(f"{folder}.partial").exists()
