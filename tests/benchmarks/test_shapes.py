from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rows import Ids
from benchmarks.shapes import CRITEO_ROWS, MULTI_HOT_SIZES, capped, make, schema
from c2al.data.footers import mean_ids
from c2al.data.reader import Reader
from c2al.schema import DataError, Schema


@pytest.mark.parametrize("rows", [1_000, 10_000_000, 300_000_000])
def test_tables_are_capped_to_the_rows_wanted(rows: int) -> None:
    sizes = capped(CRITEO_ROWS, rows)
    assert rows - len(sizes) < sum(sizes) <= rows
    assert all(own <= size or size == max(CRITEO_ROWS) for own, size in zip(sizes, CRITEO_ROWS, strict=True))
    assert min(sizes) == 3


def test_ids_fall_off_by_a_power_and_lie_everywhere() -> None:
    drawn = Ids(exponent=1.05).draw(np.random.default_rng(0), 100_000, 200_000)
    assert 0 <= drawn.min() < 1_000
    assert 99_000 < drawn.max() < 100_000
    counts = np.array([count for _, count in Counter(drawn.tolist()).most_common(1_000)])
    assert 1.8 < counts[9] / counts[19] < 2.4  # 2 ** 1.05
    assert abs(np.mean(drawn < 50_000) - 0.5) < 0.1  # the frequent ones are not all in one rank's rows


def test_bags_have_their_mean(tmp_path: Path) -> None:
    make("multi_hot", str(tmp_path), table_rows=5_000, train_rows=2_000)
    found = Schema.load(str(tmp_path))
    assert (len(found.sparse), len(found.dense)) == (26, 13)
    means = mean_ids(str(tmp_path), found.sparse)
    wanted = {f"s{i}": size for i, size in enumerate(MULTI_HOT_SIZES) if size > 1}
    assert means == pytest.approx(wanted, rel=0.05)
    batch = next(iter(Reader(folder=str(tmp_path), split="train", batch_size=8, axes=["revenue"]).batches()))
    assert len(batch) == 8


def test_shapes_are_known_by_name() -> None:
    assert len(schema("journey", 0).sparse) == 27
    with pytest.raises(DataError, match="criteo"):
        schema("criteo2", 100)
