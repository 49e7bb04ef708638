"""Placements are arithmetic: nothing lost, nothing held twice, loads even, and what cannot work refused by name."""

import random

import pytest

from c2al.parallel.plan import SHARDINGS, TableOptions, place_tables, rank_bytes
from c2al.schema import DataError, SparseColumn

SIZES = (1, 3, 24, 1001, 50_000, 1_000_003)
COLUMNS = [SparseColumn(f"column_{rows}", rows) for rows in SIZES]


def place(sharding, world_size, *, columns=COLUMNS, dim=32, ranks_per_host=2, optimizer="adagrad", own=None, **more):
    return place_tables(
        columns,
        dim=dim,
        sharding=sharding,
        world_size=world_size,
        ranks_per_host=ranks_per_host,
        optimizer=optimizer,
        own=own,
        **more,
    )


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("sharding", ["auto", *SHARDINGS])
def test_every_cell_is_held_once(sharding, world_size):
    """By as many ranks as there are, in a data-parallel table."""
    placements = place(sharding, world_size)
    assert [placement.table for placement in placements] == [column.name for column in COLUMNS]
    for placement in placements:
        shards = placement.shards()
        held = sum(shard.rows * shard.columns for shard in shards)
        assert held == placement.num_rows * 32 * (world_size if sharding == "data_parallel" else 1)
        assert len({shard.rank for shard in shards}) == len(shards)
        assert all(0 <= shard.rank < world_size and shard.rows >= 0 for shard in shards)
        if sharding != "data_parallel":
            rectangles = [(s.first_row, s.first_column, s.rows, s.columns) for s in shards if s.rows]
            assert not any(_overlap(a, b) for i, a in enumerate(rectangles) for b in rectangles[:i])


def _overlap(a, b):
    rows = a[0] < b[0] + b[2] and b[0] < a[0] + a[2]
    return rows and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def test_grid_cuts_columns_over_hosts_and_rows_over_their_ranks():
    (placement,) = place("grid", 4, columns=[SparseColumn("x", 5)], dim=16)
    cut = [(s.rank, s.first_row, s.first_column, s.rows, s.columns) for s in placement.shards()]
    assert cut == [(0, 0, 0, 3, 8), (1, 3, 0, 2, 8), (2, 0, 8, 3, 8), (3, 3, 8, 2, 8)]


def test_row_blocks_are_cut_as_torchrec_cuts_them():
    """Of ceil(rows / ranks) rows, the last ones shorter or empty: 10 rows on 4 ranks, 3 rows on 4."""
    for rows, expected in ((10, [3, 3, 3, 1]), (3, [1, 1, 1, 0]), (1, [1, 0, 0, 0])):
        (placement,) = place("row_wise", 4, columns=[SparseColumn("x", rows)])
        assert [shard.rows for shard in placement.shards()] == expected


def test_table_row_wise_stays_on_one_host():
    for placement in place("table_row_wise", 8, ranks_per_host=4):
        assert placement.ranks in ((0, 1, 2, 3), (4, 5, 6, 7))
    assert {placement.ranks for placement in place("table_row_wise", 8, ranks_per_host=4)} == {
        (0, 1, 2, 3),
        (4, 5, 6, 7),
    }


@pytest.mark.parametrize("seed", range(20))
def test_auto_keeps_loads_even(seed):
    """No rank holds more than its fair share by more than the largest table that goes whole."""
    draw = random.Random(seed)
    columns = [SparseColumn(f"c{i}", int(10 ** draw.uniform(0, 6))) for i in range(draw.randint(1, 30))]
    world_size = draw.choice([2, 4, 8])
    placements = place("auto", world_size, columns=columns, dim=4)
    loads = [each["weight_bytes"] for each in rank_bytes(placements, world_size=world_size)]
    fair = sum(column.num_rows for column in columns) * 16 / world_size
    whole = [p.num_rows * 16 for p in placements if p.sharding == "table_wise"]
    assert sum(loads) == pytest.approx(fair * world_size)
    assert max(loads) <= fair + max(whole, default=0) + 16 * len(columns)
    assert all(size <= fair / 2 for size in whole), "a table of more than half a fair share is cut"


def test_table_wise_goes_largest_first_to_the_least_loaded():
    columns = [SparseColumn(name, rows) for name, rows in (("a", 5), ("b", 9), ("c", 4), ("d", 8))]
    placed = {p.table: p.ranks for p in place("table_wise", 2, columns=columns)}
    assert placed == {"b": (0,), "d": (1,), "a": (1,), "c": (0,)}  # 9 | 8, then 8 + 5, then 9 + 4


def test_one_rank_holds_all_whole_with_auto():
    assert {(p.sharding, p.ranks) for p in place("auto", 1)} == {("table_wise", (0,))}


def test_auto_says_why():
    """Of all 1,051,032 rows, a fair share of two ranks is 525,516."""
    reasons = {placement.table: placement.reason for placement in place("auto", 2)}
    assert reasons["column_1000003"] == "more than half of a rank's fair share of 525,516 rows"
    assert reasons["column_50000"] == "small enough to lie whole where the least is held"
    assert {placement.reason for placement in place("auto", 1)} == {"one rank holds all"}
    assert {placement.reason for placement in place("row_wise", 2)} == {""}


def test_bytes_by_hand():
    """A table of 10 x 8 on two ranks: 5 rows each; 4 bytes a weight, a moment a weight, or one a row."""
    columns = [SparseColumn("x", 10)]
    for optimizer, moments in (("sgd", 0), ("adagrad", 160), ("rowwise_adagrad", 20)):
        placements = place("row_wise", 2, columns=columns, dim=8, optimizer=optimizer)
        expected = {"shards": 1, "weight_bytes": 160, "optimizer_bytes": moments}
        assert rank_bytes(placements, world_size=2) == [expected] * 2


def test_column_wise_refuses_another_optimizer_than_asked_for():
    with pytest.raises(
        DataError,
        match=r"row moment of its own.*column column_1000003\b.*adagrad, or parallel\.tables\.column_1000003=row_wise",
    ):
        place("column_wise", 2, optimizer="rowwise_adagrad")
    assert place("column_wise", 1, optimizer="rowwise_adagrad")[0].ranks == (0,)  # nothing is cut


def test_column_wise_refuses_widths_that_do_not_divide():
    with pytest.raises(DataError, match=r"12 columns cannot be cut into 2 shards.*model\.dim=16"):
        place("column_wise", 2, dim=12)


def test_unknown_sharding():
    with pytest.raises(DataError, match=r"unknown sharding.*value rowwise.*row_wise"):
        place("rowwise", 2)


def test_single_tables_have_their_own():
    own = {
        "column_24": TableOptions(sharding="row_wise", dim=64),
        "column_3": TableOptions(ranks=(1,), optimizer="sgd"),
        "column_1": TableOptions("table_row_wise", host=1),
    }
    placed = {each.table: each for each in place("table_wise", 4, own=own)}
    assert (placed["column_24"].sharding, placed["column_24"].dim) == ("row_wise", 64)
    assert (placed["column_3"].ranks, placed["column_3"].optimizer) == ((1,), "sgd")
    assert placed["column_1"].ranks == (2, 3)
    assert placed["column_1001"].sharding == "table_wise"


def test_custom_names_every_table():
    own = {column.name: TableOptions("row_wise") for column in COLUMNS}
    assert {each.sharding for each in place("custom", 2, own=own)} == {"row_wise"}
    del own["column_24"]
    with pytest.raises(DataError, match=r"sharding for every table.*column column_24.*parallel\.tables\.column_24=…"):
        place("custom", 2, own=own)


def test_unknown_tables_and_shardings_of_tables():
    with pytest.raises(DataError, match=r"does not have.*value column_25.*did you mean column_24\?"):
        place("auto", 2, own={"column_25": TableOptions("row_wise")})
    with pytest.raises(DataError, match=r"unknown sharding.*column column_24, value rows.*row_wise"):
        place("auto", 2, own={"column_24": TableOptions("rows")})
