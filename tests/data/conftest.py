"""A small prepared folder with everything in it: two files, uneven row groups, bags, two axes, weights, units."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import CohortAxis, DenseColumn, Schema, SparseColumn, Split

ROWS_PER_GROUP = 7


def small_table(num_rows: int) -> pa.Table:
    """Columns of ``small_schema``; ``item`` is the row's number, so that rows can be told apart in any order."""
    random = np.random.default_rng(num_rows)
    bags = [random.integers(0, 30, random.integers(0, 4)).tolist() for _ in range(num_rows)]
    return pa.table(
        {
            "unit": pa.array(np.arange(num_rows) // 3, pa.int32()),
            "tags": pa.array(bags, pa.list_(pa.int32())),
            "item": pa.array(np.arange(num_rows), pa.int32()),
            "store": pa.array(random.integers(0, 5, num_rows), pa.int32()),
            "price": pa.array(random.normal(size=num_rows), pa.float32()),
            "age": pa.array(random.normal(size=num_rows), pa.float32()),
            "clicked": pa.array(random.integers(0, 2, num_rows), pa.int8()),
            "weight": pa.array(random.uniform(0.5, 2, num_rows), pa.float32()),
            "cohort_age": pa.array(random.integers(-1, 3, num_rows), pa.int16()),
            "cohort_place": pa.array(random.integers(-1, 2, num_rows), pa.int16()),
        }
    )


def small_schema(num_rows: int) -> Schema:
    """Sparse columns in another order than in the files."""
    return Schema(
        name="small",
        label="clicked",
        sparse=(SparseColumn("item", 1000), SparseColumn("tags", 30, multi=True), SparseColumn("store", 5)),
        dense=(DenseColumn("age"), DenseColumn("price")),
        axes=(CohortAxis("age", ("young", "middle", "old")), CohortAxis("place", ("here", "there"))),
        weight="weight",
        unit="unit",
        splits={"train": Split(num_rows, 1, 1.0, 1.0)},
    )


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., tuple[str, pa.Table]]:
    """``prepared(num_rows)`` -> (folder, all rows); ``table`` stands in for good rows, ``folder`` may be any path."""

    def prepare(num_rows: int, *, table: pa.Table | None = None, folder: str | None = None) -> tuple[str, pa.Table]:
        folder = folder or str(tmp_path)
        rows = table if table is not None else small_table(num_rows)
        storage, root = fsspec.url_to_fs(f"{folder}/train")
        storage.makedirs(root, exist_ok=True)
        cut = rows.num_rows * 2 // 3
        for name, part in (("part-00000", rows.slice(0, cut)), ("part-00001", rows.slice(cut))):
            with storage.open(f"{root}/{name}.parquet", "wb") as file:
                pq.write_table(part, file, row_group_size=ROWS_PER_GROUP)
        small_schema(num_rows).save(folder)
        return folder, rows

    return prepare
