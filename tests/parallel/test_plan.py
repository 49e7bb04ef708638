"""Placements are arithmetic: nothing lost, nothing held twice, loads even, and what cannot work refused by name."""

import random

import pytest

from c2al.parallel.plan import SHARDINGS, place_tables, rank_bytes
from c2al.schema import DataError, SparseColumn

SIZES = (1, 3, 24, 1001, 50_000, 1_000_003)
COLUMNS = [SparseColumn(f"column_{rows}", rows) for rows in SIZES]


def place(sharding, world_size, *, columns=COLUMNS, dim=32, ranks_per_host=2, optimizer="adagrad"):
    return place_tables(
        columns,
        dim=dim,
        sharding=sharding,
        world_size=world_size,
        ranks_per_host=ranks_per_host,
        optimizer=optimizer,
    )


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("sharding", ["auto", *SHARDINGS])
def test_every_cell_is_held_once(sharding, world_size):
    placements = place(sharding, world_size)
    assert [placement.table for placement in placements] == [column.name for column in COLUMNS]
    for placement in placements:
        shards = placement.shards()
        assert sum(shard.rows * shard.columns for shard in shards) == placement.num_rows * 32
        assert len({shard.rank for shard in shards}) == len(shards)
        assert all(0 <= shard.rank < world_size and shard.rows >= 0 for shard in shards)
        if placement.sharding == "column_wise":
            assert {shard.rows for shard in shards} == {placement.num_rows}
        else:
            assert {shard.columns for shard in shards} == {32}


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
    loads = [each["weight_bytes"] for each in rank_bytes(placements, world_size=world_size, optimizer="sgd")]
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
        assert rank_bytes(placements, world_size=2, optimizer=optimizer) == [expected] * 2


def test_column_wise_refuses_another_optimizer_than_asked_for():
    with pytest.raises(DataError, match=r"row moment of its own.*column column_1\b.*adagrad, or parallel=row_wise"):
        place("column_wise", 2, optimizer="rowwise_adagrad")
    assert place("column_wise", 1, optimizer="rowwise_adagrad")[0].ranks == (0,)  # nothing is cut


def test_column_wise_refuses_widths_that_do_not_divide():
    with pytest.raises(DataError, match=r"12 columns cannot be cut into 2 shards.*model\.dim=16"):
        place("column_wise", 2, dim=12)


def test_unknown_sharding():
    with pytest.raises(DataError, match=r"unknown sharding.*value rowwise.*row_wise"):
        place("rowwise", 2)
