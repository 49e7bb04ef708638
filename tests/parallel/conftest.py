"""A small model, sharded, on one rank."""

import pytest
import torch
from torch import nn

from c2al.parallel import ranks as process_group
from c2al.parallel.plan import place_tables
from c2al.parallel.shard import Rates, TableRates, shard
from tests.parallel import sharded_world as world


@pytest.fixture
def sharded():
    """The small model of the sharding tests on one rank, its tables under SGD of rate 1."""
    ranks = process_group.start()
    torch.manual_seed(0)
    tokens = world.FeatureTokens(
        world.embedding_tables(world.COLUMNS, dim=world.DIM),
        world.DenseTokens(num_dense=world.NUM_DENSE, dim=world.DIM),
    )
    model = world.TrainingModel(
        world.Ranker(tokens, nn.Identity(), world.Flat()), world.Fixed(weights=[1.0]), auxiliaries=[]
    )
    places = place_tables(
        world.COLUMNS, dim=world.DIM, sharding="table_wise", world_size=1, ranks_per_host=1, optimizer="sgd"
    )
    yield shard(model, placements=places, rates=TableRates(Rates(1.0, 1e-8)), ranks=ranks, seed=0)
    process_group.stop()
