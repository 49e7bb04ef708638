from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from c2al.cohorts.at_random import assign, random_axis
from c2al.data.reader import Reader
from c2al.data.scan import read_columns
from c2al.schema import DataError, Schema

Prepared = Callable[..., tuple[str, pa.Table]]


def test_columns_in_file_order(prepared: Prepared) -> None:
    folder, rows = prepared(100)
    found = read_columns(folder, "train", ["clicked", "weight", "unit", "price"], axes=["place", "age_x_place"])
    assert list(found) == ["clicked", "weight", "unit", "price", "cohort_place", "cohort_age_x_place"]
    for name in ("clicked", "weight", "unit", "price", "cohort_place"):
        np.testing.assert_array_equal(found[name], rows[name].to_numpy())
    assert [str(values.dtype) for values in found.values()][:3] == ["int8", "float32", "int32"]
    axis = Schema.load(folder).axis("age_x_place")
    for crossed, age, place in zip(
        found["cohort_age_x_place"], rows["cohort_age"].to_pylist(), rows["cohort_place"].to_pylist(), strict=True
    ):
        names = (("young", "middle", "old"), ("here", "there"))
        assert crossed == -1 if min(age, place) < 0 else axis.cohorts[crossed] == f"{names[0][age]} × {names[1][place]}"


def test_errors(prepared: Prepared) -> None:
    folder, rows = prepared(20)
    with pytest.raises(DataError, match="multi-valued"):
        read_columns(folder, "train", ["tags"])
    with pytest.raises(DataError, match="did you mean clicked"):
        read_columns(folder, "train", ["cliked"])
    with pytest.raises(DataError, match="no such cohort axis"):
        read_columns(folder, "train", axes=["agee"])
    label = rows["clicked"].to_numpy().copy()
    label[17] = 3
    prepared(20, table=rows.set_column(rows.schema.get_field_index("clicked"), "clicked", pa.array(label)))
    assert len(read_columns(folder, "train", ["unit"])["unit"]) == 20  # columns not asked for are not read
    with pytest.raises(DataError, match=r"label other than 0 or 1 in row 4 of the row group .*part-00001.*value 3"):
        read_columns(folder, "train", ["clicked"])


@pytest.mark.parametrize("unit", ["unit", None])
def test_random_cohorts_are_the_readers_own(prepared: Prepared, unit: str | None) -> None:
    """By unit, or by row number where there is none; whichever rank reads a row, and in whatever order."""
    folder, _ = prepared(100)
    replace(Schema.load(folder), unit=unit).save(folder)
    units = read_columns(folder, "train", ["unit"])["unit"] if unit else np.arange(100)
    axis = random_axis(units, head_rows=40, tail_rows=30, seed=1)
    ids = read_columns(folder, "train", ["clicked"], axes=[axis])["cohort_random"]
    np.testing.assert_array_equal(ids, assign(units, axis))
    assert {0, 1} <= set(ids.tolist())
    for rank in range(2):
        part = Reader(
            folder=folder, split="train", batch_size=8, axes=["age", axis], rank=rank, world_size=2, shuffle=True
        )
        for batch in part.batches():
            real = batch.row_B >= 0
            np.testing.assert_array_equal(batch.cohort_BA[real, 1], ids[batch.row_B[real]])
