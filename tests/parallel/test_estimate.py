"""TorchRec's model of a plan's cost, asked for the plan's own shards."""

import pytest

from c2al.embedding.tables import embedding_tables
from c2al.parallel.estimate import Cluster, Cost, estimate, rank_costs
from c2al.parallel.plan import SHARDINGS, place_tables
from c2al.schema import SparseColumn

COLUMNS = [SparseColumn("big", 10_000_000_000), SparseColumn("small", 1000), SparseColumn("tags", 30, multi=True)]
TABLES = embedding_tables(COLUMNS, dim=128)


def costs(sharding, *, world_size=16, batch_size=4096, bandwidths=None, device="cuda", ids_per_row=None):
    placements = place_tables(
        COLUMNS, dim=128, sharding=sharding, world_size=world_size, ranks_per_host=8, optimizer="adagrad"
    )
    cluster = Cluster(world_size, 8, device, bandwidths or {})
    found = estimate(placements, TABLES, cluster=cluster, batch_size=batch_size, ids_per_row=ids_per_row or {})
    return placements, found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("sharding", ["auto", *SHARDINGS])
def test_every_shard_has_its_cost(sharding, device):
    """Also those of a table that no machine could hold."""
    placements, found = costs(sharding, device=device)
    for placement in placements:
        assert len(found[placement.table]) == len(placement.shards())
        assert all(cost.forward_compute > 0 and cost.backward_compute > 0 for cost in found[placement.table])
    totals = rank_costs(placements, found, 16)
    assert sum(cost.total for cost in totals) == pytest.approx(sum(c.total for each in found.values() for c in each))


def test_what_the_figures_are_made_of():
    """Table-wise on one rank: 8 bytes an id and a row read over HBM's 897 GiB/s, the pooled row written, and back."""
    _, found = costs("table_wise", world_size=1, bandwidths={"hbm": 1000.0})
    _, faster = costs("table_wise", world_size=1, bandwidths={"hbm": 2000.0})
    cost = found["small"][0]
    moved = 4096 * (8 + 2 * 4 * 128)
    assert cost.forward_compute == pytest.approx(1000 * moved / (1000 * 2**30), rel=0.01)
    assert cost.backward_compute == pytest.approx(2 * cost.forward_compute)
    assert faster["small"][0].forward_compute == pytest.approx(cost.forward_compute / 2)


def test_more_rows_and_more_ids_cost_more():
    one, twice = (costs("row_wise", batch_size=rows)[1]["big"][0] for rows in (4096, 8192))
    assert twice.total == pytest.approx(2 * one.total, rel=0.01)
    few, many = (costs("row_wise", ids_per_row={"tags": ids})[1]["tags"][0] for ids in (1.0, 20.0))
    assert many.forward_compute > 2 * few.forward_compute


def test_one_host_talks_faster_than_two():
    within, between = (costs("row_wise", world_size=size)[1]["big"][0] for size in (8, 16))
    assert between.comms > 10 * within.comms
    assert costs("row_wise", bandwidths={"inter_host": 600.0})[1]["big"][0].comms < between.comms / 10


def test_a_cost_is_the_sum_of_its_parts():
    one = Cost(input_comms=1, forward_compute=2, forward_comms=3, backward_compute=4, backward_comms=5)
    assert (one + one).total == 30
    assert one.comms == 9
