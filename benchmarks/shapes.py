"""Table shapes to measure on where there are no rows of one's own: Complete Journey's, Criteo-1TB-like, multi-hot.

``criteo`` has the 13 dense and 26 single-valued columns of the Criteo 1TB click logs, with the table sizes of MLPerf's
DLRM v2 (github.com/mlcommons/training, recommendation_v2/torchrec_dlrm: ``num_embeddings_per_feature``), whose largest
tables are capped at 40 M rows there and here at what leaves the wanted number of rows in all. ``multi_hot`` is the same
with bags, whose mean numbers of ids are MLPerf's ``multi_hot_sizes``: 214 ids a row. ``journey`` has the columns and
table sizes of ``source=complete_journey``. Rows are random; the ids of the first two fall off by a power of 1.05.
"""

from collections.abc import Sequence

from benchmarks.rows import Ids, write_rows
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn

SHAPES = ("journey", "criteo", "multi_hot")
EXPONENT = 1.05
CRITEO_ROWS = (
    *(40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282, 10, 2_209),
    *(11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108, 36),
)
MULTI_HOT_SIZES = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)
JOURNEY_ROWS = (
    *(37_632, 2_424, 2_148, 2_007, 1_616, 275, 111, 25, 25, 13, 12, 11, 9, 8),
    *(7, 7, 7, 7, 6, 6, 6, 5, 5, 3, 3),
)
JOURNEY_BAG_ROWS, JOURNEY_LONGEST_BAG = (24_316, 295), 3
NUM_DENSE = 13  # of both


def make(shape: str, folder: str, *, table_rows: int, train_rows: int) -> None:
    """A prepared folder of that shape; ``table_rows`` in all tables together, which ``journey`` does not ask for."""
    ids = Ids(longest_bag=JOURNEY_LONGEST_BAG)
    if shape != "journey":
        mean = {f"s{i}": float(size) for i, size in enumerate(MULTI_HOT_SIZES) if size > 1}
        ids = Ids(mean=mean if shape == "multi_hot" else {}, exponent=EXPONENT)
    write_rows(folder, schema(shape, table_rows), {"train": train_rows, "validation": 512}, ids)


def schema(shape: str, table_rows: int) -> Schema:
    """Of a shape by name."""
    if shape not in SHAPES:
        raise DataError("no such shapes", value=shape, remedy=f"shapes={' or '.join(SHAPES)}; or data=… data.path=DIR")
    dense = tuple(DenseColumn(f"d{i}") for i in range(NUM_DENSE))
    axis = CohortAxis("revenue", ("low", "bottom", "middle", "high", "top"))
    if shape == "journey":
        singles = [SparseColumn(f"s{i}", rows) for i, rows in enumerate(JOURNEY_ROWS)]
        bags = [SparseColumn(f"m{i}", rows, multi=True) for i, rows in enumerate(JOURNEY_BAG_ROWS)]
        return Schema(shape, "label", (*singles, *bags), dense, (axis,), "weight")
    sparse = [
        SparseColumn(f"s{i}", rows, multi=shape == "multi_hot" and size > 1)
        for i, (rows, size) in enumerate(zip(capped(CRITEO_ROWS, table_rows), MULTI_HOT_SIZES, strict=True))
    ]
    return Schema(shape, "label", tuple(sparse), dense, (axis,), "weight")


def capped(sizes: Sequence[int], total: int) -> list[int]:
    """The sizes under one cap, so that all are ``total`` together; where that is more, the largest ones grow alike.

    A table keeps at least three rows.
    """
    largest = [size == max(sizes) for size in sizes]
    if total > sum(sizes):
        more = (total - sum(sizes)) // sum(largest)
        return [size + more if grows else size for size, grows in zip(sizes, largest, strict=True)]
    low, high = 3, max(sizes)
    while low < high:
        cap = (low + high + 1) // 2
        low, high = (cap, high) if sum(min(size, cap) for size in sizes) <= total else (low, cap - 1)
    return [min(size, low) for size in sizes]
