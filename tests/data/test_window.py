import numpy as np
import pyarrow as pa
import pytest
import torch

import c2al.data.window
from c2al.data.columns import Piece, stored_columns
from c2al.data.window import Selection, Window
from c2al.schema import CohortAxis, Schema, SparseColumn

NUM_ROWS = 50
HUGE = 2**31 + 7


def selection(*names: str) -> Selection:
    schema = Schema(
        name="s",
        label="y",
        sparse=(SparseColumn("a", 10), SparseColumn("huge", 2**33), SparseColumn("b", 100, multi=True)),
        axes=(CohortAxis("p", ("p0", "p1")),),
    )
    stored = stored_columns(schema)
    return Selection(
        schema=schema,
        sparse=[stored[name] for name in names],
        dense=[],
        label=stored["y"],
        weight=None,
        cohorts=[stored["cohort_p"]],
        axes=schema.axes,
    )


def pieces(bags: list[list[int]]) -> list[Piece]:
    """Rows in two pieces that stand apart in the split."""
    table = pa.table(
        {
            "a": pa.array([row % 10 for row in range(NUM_ROWS)], pa.int32()),
            "huge": pa.array([HUGE + row for row in range(NUM_ROWS)], pa.int64()),
            "b": pa.array(bags, pa.list_(pa.int32())),
            "y": pa.array([row % 2 for row in range(NUM_ROWS)], pa.int8()),
            "cohort_p": pa.array([row % 3 - 1 for row in range(NUM_ROWS)], pa.int16()),
        }
    )
    return [Piece(table.slice(0, 20), "f", 0, 0, 1000), Piece(table.slice(20), "f", 3, 0, 5000)]


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 1000])
def test_bags_follow_their_rows(rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c2al.data.window, "ROWS_AT_A_TIME", rows_at_a_time)
    random = np.random.default_rng(0)
    bags = [random.integers(0, 100, random.integers(0, 5)).tolist() for _ in range(NUM_ROWS)]
    order = random.permutation(NUM_ROWS)
    window = Window(selection("a", "b"), pieces(bags), order, filler=False)
    for start in range(0, NUM_ROWS, 8):
        batch = window.batch(start, start + 8)
        rows = order[start : start + 8].tolist()
        assert [bag.tolist() for bag in batch.sparse["b"].to_dense()] == [bags[row] for row in rows]
        assert batch.sparse["a"].values().tolist() == [row % 10 for row in rows]
        assert batch.row_B.tolist() == [1000 + row if row < 20 else 4980 + row for row in rows]
        assert batch.label_B.tolist() == [row % 2 for row in rows]


def test_all_bags_empty() -> None:
    batch = Window(selection("b"), pieces([[]] * NUM_ROWS), np.arange(NUM_ROWS), filler=False).batch(0, 4)
    assert batch.sparse.values().dtype == torch.int64
    assert batch.sparse.values().numel() == 0
    assert batch.sparse.lengths().tolist() == [0] * 4


def test_a_huge_table_beside_a_small_one_keeps_its_ids() -> None:
    batch = Window(selection("a", "huge"), pieces([[]] * NUM_ROWS), np.arange(NUM_ROWS), filler=False).batch(2, 4)
    assert batch.sparse.values().tolist() == [2, 3, HUGE + 2, HUGE + 3]


def test_the_filler_counts_for_nothing() -> None:
    window = Window(selection("a", "b"), pieces([[1, 2]] * NUM_ROWS), np.array([5, 2, 2]), filler=True)
    batch = window.batch(0, 4)
    assert batch.weight_B.tolist() == [1.0, 1.0, 0.0]
    assert batch.row_B.tolist() == [1005, 1002, -1]
    assert batch.cohort_BA.tolist() == [[1], [1], [-1]]
    assert batch.sparse["a"].values().tolist() == [5, 2, 2]


def test_no_sparse_columns_at_all() -> None:
    batch = Window(selection(), pieces([[]] * NUM_ROWS), np.arange(NUM_ROWS), filler=False).batch(0, 4)
    assert batch.sparse.keys() == []
    assert len(batch) == 4
