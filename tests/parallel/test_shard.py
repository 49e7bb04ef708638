"""A sharded model is the same model: every plan on one rank and two against plain torch (see ``sharded_world``)."""

import json

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed.model_parallel import DefaultDataParallelWrapper

from c2al.embedding.tables import embedding_tables
from c2al.embedding.tokens import FeatureTokens
from c2al.parallel import ranks as process_group
from c2al.parallel.plan import place_tables
from c2al.parallel.shard import find_tables, shard
from tests import runs
from tests.parallel import sharded_world
from tests.parallel.sharded_world import PLANS

pytestmark = pytest.mark.slow
NAMES = [f"{sharding} {optimizer}" for sharding, optimizer in PLANS]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two ranks found under every plan."""
    out = tmp_path_factory.mktemp("shard") / "found.json"
    ended = runs.on_ranks(["-m", "tests.parallel.sharded_world", str(out)], timeout_s=120)
    assert [status for status, _, _ in ended] == [0, 0], ended[0][2]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def one_rank():
    """The same on one rank, in this process."""
    ranks = process_group.start()
    try:
        return {name: sharded_world.compare(*name.split(), ranks) for name in NAMES[:2]}
    finally:
        process_group.stop()


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_as_plain_torch_does(name, two_ranks):
    """Tokens in the schema's order, losses, tables and dense part after four steps of repeating ids and empty bags."""
    for rank in two_ranks:
        assert rank[name]["tokens"] < 1e-5
        assert rank[name]["losses"] < 1e-5
        assert rank[name]["tables"] < 1e-5
        assert rank[name]["head"] < 1e-5
        assert rank[name]["moved"] > 1e-3, "every table learns"


def test_one_rank_trains_as_plain_torch_does(one_rank):
    for found in one_rank.values():
        assert max(found[part] for part in ("tokens", "losses", "tables", "head")) < 1e-5


def test_tables_start_equal_under_every_plan_and_world(two_ranks, one_rank):
    """And within U(-1/√rows, 1/√rows), nearly filling it."""
    starts = {found["start"] for world in (*two_ranks, one_rank) for found in world.values()}
    assert len(starts) == 1
    assert all(0.99 < found["largest"] <= 1 for found in two_ranks[0].values())


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_counts_the_bytes_that_ranks_hold(name, two_ranks):
    """Weights and optimizer state, on each rank, to the byte."""
    assert [rank[name]["bytes"] for rank in two_ranks] == [0, 0]
    assert [rank[name]["moment_bytes"] for rank in two_ranks] == [0, 0]


def test_both_ranks_hold_tables(two_ranks):
    assert {found["ranks_used"] for found in two_ranks[0].values()} == {2.0}


def test_tables_are_found_by_their_path():
    tables = embedding_tables(sharded_world.COLUMNS, dim=8)
    model = nn.ModuleDict({"ranker": nn.ModuleDict({"embedding": FeatureTokens(tables, None)})})
    assert find_tables(model) == ("ranker.embedding.tables", tables)
    assert tables.embedding_bags["table_type"].weight.device == torch.device("meta")


def test_one_rank_has_no_ddp_and_the_same_names(monkeypatch):
    """A checkpoint of one rank and one of many hold the same keys."""

    def sharded() -> nn.Module:
        columns, dim = sharded_world.COLUMNS, sharded_world.DIM
        model = nn.ModuleDict({"tokens": FeatureTokens(embedding_tables(columns, dim=dim), None), "y": nn.Linear(2, 1)})
        places = place_tables(
            columns, dim=dim, sharding="table_wise", world_size=1, ranks_per_host=1, optimizer="adagrad"
        )
        return shard(model, placements=places, optimizer="adagrad", learning_rate=0.1, eps=1e-6, ranks=ranks, seed=0)

    ranks = process_group.start()
    try:
        alone = sharded()
        monkeypatch.setattr("c2al.parallel.shard.OneRank", DefaultDataParallelWrapper)
        wrapped = sharded()
    finally:
        process_group.stop()
    assert not any(isinstance(each, DistributedDataParallel) for each in alone.modules())
    assert any(isinstance(each, DistributedDataParallel) for each in wrapped.modules())
    assert list(alone.state_dict()) == list(wrapped.state_dict())
    assert [name for name, _ in alone.named_parameters()] == [name for name, _ in wrapped.named_parameters()]
