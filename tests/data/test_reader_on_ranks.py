"""Ranks that read together: one error on all of them, asked for equally often."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.reader import Reader
from c2al.schema import DataError
from tests.data.test_reader import no_reader_thread

Prepared = Callable[..., tuple[str, pa.Table]]
AXES = ["place", "age_x_place", "age"]


def reader(folder: str, **settings: object) -> Reader:
    defaults = {"split": "train", "batch_size": 4, "axes": AXES, "window_rows": 16}
    return Reader(**({"folder": folder} | defaults | settings))  # type: ignore[arg-type]


class Ranks:
    """Ranks as threads that agree at a barrier, as the real ones do over the network."""

    def __init__(self, world_size: int) -> None:
        self.calls = [0] * world_size
        self.errors: list[DataError | None] = [None] * world_size
        self.barrier = threading.Barrier(world_size, timeout=900)

    def agree(self, rank: int, error: DataError | None) -> None:
        self.calls[rank] += 1
        self.errors[rank] = error
        self.barrier.wait()
        found = next((error for error in self.errors if error), None)
        self.barrier.wait()
        if found:
            raise pickle.loads(pickle.dumps(found))

    def read(self, folder: str) -> list[str]:
        """What every rank raises, after it has read all it can."""
        raised = [""] * len(self.calls)

        def run(rank: int) -> None:
            try:
                one = reader(folder, rank=rank, world_size=len(self.calls), agree=lambda error: self.agree(rank, error))
                for _ in one.batches():
                    pass
            except DataError as error:
                raised[rank] = str(error)

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(self.calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return raised


def test_all_ranks_agree_equally_often(prepared: Prepared) -> None:
    folder, _ = prepared(81)
    ranks = Ranks(3)
    assert ranks.read(folder) == [""] * 3
    assert ranks.calls == [1 + 7] * 3  # windows of 12 rows


@pytest.fixture
def bad(prepared: Prepared) -> Callable[[str, int, object], str]:
    def replace_value(column: str, row: int, value: object) -> str:
        _, table = prepared(60)
        values = table[column].to_pylist()
        values[row] = value
        field = table.schema.field(column)
        folder, _ = prepared(
            60, table=table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
        )
        return folder

    return replace_value


@pytest.mark.parametrize(
    ("column", "value", "problem", "shown"),
    [
        ("item", 1000, "id outside [0, 1000)", "1000"),
        ("store", None, "null", "null"),
        ("tags", [1, 30], "id outside [0, 30)", "30"),
        ("tags", None, "null", "null"),
        ("price", np.nan, "not finite", "nan"),
        ("clicked", 2, "label other than 0 or 1", "2"),
        ("weight", -1.0, "weight that is negative", "-1.0"),
        ("cohort_age", 3, "cohort id outside [-1, 3)", "3"),
    ],
)
def test_bad_row_stops_all_ranks_with_one_error(
    bad: Callable[[str, int, object], str], column: str, value: object, problem: str, shown: str
) -> None:
    folder = bad(column, 49, value)  # row 9 of the second file: row 2 of its second row group
    ranks = Ranks(2)
    raised = ranks.read(folder)
    assert raised[0] == raised[1]
    assert problem in raised[0]
    where = f"in row 2 of the row group (file {folder}/train/part-00001.parquet, row group 1, column {column}"
    assert where in raised[0]
    assert f"value {shown}). Remedy: " in raised[0]
    assert ranks.calls == [1 + 4] * 2  # windows of 16 rows: the fourth is bad
    del ranks
    assert no_reader_thread()


def test_bad_footer_stops_all_ranks(prepared: Prepared, tmp_path: Path) -> None:
    folder, _ = prepared(60)
    path = tmp_path / "train" / "part-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["store"]), path)
    ranks = Ranks(2)
    raised = ranks.read(folder)
    assert raised[0] == raised[1]
    assert "column missing" in raised[0]
    assert ranks.calls == [1, 1]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("no room"), r"memory ran out while rows were read \(value MemoryError: no room\)"),
        (KeyError("x"), r"reading failed: KeyError\('x'\)"),
    ],
)
def test_an_unforeseen_error_travels_too(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    folder, _ = prepared(20)

    def fail(*_: object, filler: bool) -> None:
        raise error

    one = reader(folder)
    monkeypatch.setattr("c2al.data.reader.Window", fail)
    with pytest.raises(DataError, match=line) as caught:
        next(one.batches())
    assert caught.value.__cause__ is error
