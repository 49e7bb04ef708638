"""Bytes of a rank by hand; tables and their state are checked against real ones in test_shard."""

import pytest

from c2al.cli import compose
from c2al.model import TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel.memory import DenseMemory, StepShape, dense_memory, rank_memory
from c2al.parallel.plan import TableOptions, place_tables
from c2al.parallel.shard import find_tables
from c2al.schema import Schema, SparseColumn
from c2al.training.build import build_ranker

COLUMNS = [SparseColumn("user", 1000), SparseColumn("tags", 10, multi=True)]
SHAPE = StepShape(batch_size=100, num_dense=3, num_axes=1, ids_per_row={"tags": 2.5})
DENSE = DenseMemory(held=4000, saved=500, parameters=1000)
BATCHES = 2 * 100 * (4 * 3 + 4 * 2 + 8 + 8 + (8 + 8 + 8) + (8 * 2.5 + 8 + 8))  # two held; ids, lengths, offsets
ALIKE = 500 + BATCHES + 2 * 100 * 4 * (8 + 8)  # saved, batches, pooled rows of both tables and their gradients


def memory(sharding, world_size, *, ranks_per_host=2, shape=SHAPE, **own):
    sizes = {"world_size": world_size, "ranks_per_host": ranks_per_host}
    placements = place_tables(COLUMNS, dim=8, sharding=sharding, optimizer="adagrad", **sizes, **own)
    return rank_memory(placements, DENSE, shape, world_size=world_size)


def test_whole_tables():
    """A table's rank takes all ranks' ids and gives all their pooled rows."""
    first, second = memory("table_wise", 2)
    assert (first.weights, first.optimizer, first.dense) == (32_000, 32_000, 4000)
    assert first.activations == ALIKE + 200 * (8 + 8 + 4 * 8)
    assert (second.weights, second.optimizer) == (320, 320)
    assert second.activations == ALIKE + 200 * (8 * 2.5 + 8 + 4 * 8)
    assert second.total == 640 + 4000 + second.activations


def test_rows_share_the_ids_but_not_the_pooled_rows():
    for rank in memory("row_wise", 2):
        assert rank.weights == 16_000 + 160
        assert rank.activations == ALIKE + 200 * (8 / 2 + 8 + 4 * 8) + 200 * (8 * 2.5 / 2 + 8 + 4 * 8)


def test_columns_share_the_pooled_rows_but_not_the_ids():
    for rank in memory("column_wise", 2):
        assert rank.activations == ALIKE + 200 * (8 + 8 + 4 * 4) + 200 * (8 * 2.5 + 8 + 4 * 4)


def test_every_rank_holds_a_replicated_table_and_its_gradient():
    first, second = memory("data_parallel", 2)
    assert first == second
    assert first.weights == 32_000 + 320
    assert first.activations == ALIKE + first.weights


def test_rows_and_columns_are_cut_by_a_grid():
    """Two hosts of two: half of the columns a host, half of the rows a rank."""
    for rank in memory("grid", 4):
        assert rank.weights == (32_000 + 320) / 4
        assert rank.activations == ALIKE + 400 * (8 / 2 + 8 + 4 * 4) + 400 * (8 * 2.5 / 2 + 8 + 4 * 4)


@pytest.mark.parametrize(("kernel", "cached"), [("fused_uvm", 0), ("fused_uvm_caching", 0.2)])
def test_unified_memory_is_not_the_devices(kernel, cached):
    """A table's rows and state go to the host; what is cached stays, and steps are as large."""
    own = {"user": TableOptions(kernel=kernel)}
    (alone,) = memory("table_wise", 1)
    (rank,) = memory("table_wise", 1, own=own, device="cuda")
    assert (rank.weights, rank.optimizer) == (320 + cached * 32_000, 320)
    assert rank.host == 64_000
    assert rank.activations == alone.activations
    assert rank.total == alone.total - 64_000 + cached * 32_000


def test_more_batches_under_way_are_held():
    sparse_dist = StepShape(**{**vars(SHAPE), "pipeline": "sparse_dist"})
    more = memory("table_wise", 2, shape=sparse_dist)[0].activations - memory("table_wise", 2)[0].activations
    assert more == BATCHES / 2


@pytest.mark.parametrize("averaged", [False, True])
def test_the_dense_part_is_held_with_gradients_and_adam(averaged, tiny_rows):
    schema = Schema.load(tiny_rows)
    model = TrainingModel(build_ranker(compose("config", []), schema, num_heads=1), Fixed(), auxiliaries=[])
    shape = StepShape(batch_size=10, num_dense=len(schema.dense), num_axes=0, ids_per_row={})
    found = dense_memory(model, shape, averaged=averaged)
    tables = sum(p.numel() for each in find_tables(model).values() for p in each.parameters())
    assert found.parameters == 4 * (sum(p.numel() for p in model.parameters()) - tables)
    assert found.held == (5 if averaged else 4) * found.parameters
    assert found.saved > 0
