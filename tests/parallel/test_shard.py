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
from c2al.parallel.shard import Rates, TableRates, find_tables, shard, table_shards
from tests import runs
from tests.parallel import sharded_world

pytestmark = pytest.mark.slow
WORLDS = {1: 1, 2: 2, 4: 2}  # ranks: ranks of a host
FOUND = [(world, str(case)) for world, per_host in WORLDS.items() for case in sharded_world.cases(world, per_host)]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """What each rank found under every plan, by number of ranks; four ranks are two hosts."""
    folder, found = tmp_path_factory.mktemp("shard"), {}
    for world_size, per_host in WORLDS.items():
        words = ["-m", "tests.parallel.sharded_world", str(folder / "found.json")]
        ended = runs.on_ranks(words, world_size=world_size, ranks_per_host=per_host)
        assert [status for status, _, _ in ended] == [0] * world_size, [text for _, _, text in ended]
        found[world_size] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize(("world_size", "case"), FOUND)
def test_ranks_train_as_plain_torch_does(world_size, case, worlds):
    """Tokens in the schema's order, losses, tables, moments, dense part after four steps of repeating ids."""
    for rank in worlds[world_size]:
        for part in ("tokens", "losses", "tables", "moments", "head"):
            assert rank[case][part] < 2e-5, part
        assert rank[case]["moved"] > 1e-3, "every table learns"


def test_tables_start_equal_under_every_plan_and_world(worlds):
    """And within U(-1/√rows, 1/√rows), nearly filling it."""
    found = [case for world in worlds.values() for rank in world for name, case in rank.items() if "own" not in name]
    assert len({case["start"] for case in found}) == 1
    assert all(0.99 < case["largest"] <= 1 for case in found)


@pytest.mark.parametrize(("world_size", "case"), FOUND)
def test_the_plan_counts_the_bytes_that_ranks_hold(world_size, case, worlds):
    """Weights and optimizer state, on each rank, to the byte."""
    assert [(rank[case]["bytes"], rank[case]["moment_bytes"]) for rank in worlds[world_size]] == [(0, 0)] * world_size


def test_all_ranks_hold_tables(worlds):
    assert {found["ranks_used"] for found in worlds[4][0].values()} == {4.0}


def test_tables_are_found_by_their_path():
    tables = embedding_tables(sharded_world.COLUMNS, dim=8)
    model = nn.ModuleDict({"ranker": nn.ModuleDict({"embedding": FeatureTokens(tables, None)})})
    assert find_tables(model) == {"ranker.embedding.tables": tables}
    assert tables.embedding_bags["table_type"].weight.device == torch.device("meta")


def test_one_rank_has_no_ddp_and_the_same_names(monkeypatch):
    """A checkpoint of one rank and one of many hold the same keys."""

    def sharded(init: float | None = None) -> nn.Module:
        columns, dim = sharded_world.COLUMNS, sharded_world.DIM
        model = nn.ModuleDict({"tokens": FeatureTokens(embedding_tables(columns, dim=dim), None), "y": nn.Linear(2, 1)})
        places = place_tables(
            columns, dim=dim, sharding="table_wise", world_size=1, ranks_per_host=1, optimizer="adagrad"
        )
        return shard(model, placements=places, rates=TableRates(Rates(0.1, 1e-6)), ranks=ranks, seed=0, init=init)

    ranks = process_group.start()
    try:
        alone, small = sharded(), sharded(init=0.001)
        monkeypatch.setattr("c2al.parallel.shard.OneRank", DefaultDataParallelWrapper)
        wrapped = sharded()
    finally:
        process_group.stop()
    assert not any(isinstance(each, DistributedDataParallel) for each in alone.modules())
    assert any(isinstance(each, DistributedDataParallel) for each in wrapped.modules())
    assert list(alone.state_dict()) == list(wrapped.state_dict())
    assert [name for name, _ in alone.named_parameters()] == [name for name, _ in wrapped.named_parameters()]
    for table, [(rows, _)] in table_shards(alone).items():
        [(small_rows, _)] = table_shards(small)[table]
        torch.testing.assert_close(small_rows, rows * len(rows) ** 0.5 * 0.001)
