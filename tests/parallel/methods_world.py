"""Started once a rank by ``test_methods_on_ranks.py``: every method takes a few steps on the same global batches.

``python -m tests.parallel.methods_world OUT.pt``; rank 0 writes tables, dense part, the objective's state, by case.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from c2al.batch import Batch
from c2al.cli import compose
from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables
from c2al.embedding.tokens import FeatureTokens
from c2al.heads.assembled import make_heads
from c2al.model import Ranker, TrainingModel
from c2al.parallel import ranks as process_group
from c2al.parallel.plan import place_tables
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import Rates, TableRates, shard
from c2al.schema import CohortAxis
from c2al.training.auxiliaries import Auxiliaries, AuxiliaryHead
from c2al.training.build import BaseRates, build_weighting, make_row_weights
from tests.parallel import sharded_world as world

CONF = Path(__file__).parents[2] / "conf" / "method"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml"))
SHARDINGS = ("row_wise", "table_wise")
AXIS = CohortAxis("axis", ("a", "b", "c"))
ROWS, STEPS, WIDTH = 16, 3, 12  # rows over all ranks


class Projected(nn.Module):
    """A representation that heads conflict in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear((len(world.COLUMNS) + 1) * world.DIM, WIDTH)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        return self.layer(x_BFD.flatten(1)).relu()


def batch(step: int, ranks: Ranks) -> Batch:
    """This rank's part of a step's rows, with weights and cohorts; some rows are in none, the last is a filler."""
    rows = world.draw(step, ROWS)
    random = torch.Generator().manual_seed(step + 50)
    weight_B = 0.5 + torch.rand(ROWS, generator=random)
    weight_B[-1] = 0
    cohort_BA = torch.randint(-1, 3, (ROWS, 1), generator=random)
    size = ROWS // ranks.world_size
    part = slice(ranks.rank * size, (ranks.rank + 1) * size)
    made = rows.part(ranks.rank, ranks.world_size).batch()
    made.weight_B, made.cohort_BA = weight_B[part], cohort_BA[part]
    return made


def built(method: str) -> TrainingModel:
    config = compose("config", [f"method={method}", "model.heads.hidden=[8]", "method.name=any"])
    if config.method.get("sharing"):
        config.method.sharing.expert = [8]
    if "step_size" in (config.method.get("rows") or {}):
        config.method.rows.step_size = 1.0  # so that three steps are seen
    heads = Auxiliaries(
        tuple(AuxiliaryHead(AXIS, cohort, role) for role, cohort in zip(config.method.heads, "ab", strict=False)),
        rows=AXIS if config.method.get("rows") else None,
        members=config.method.get("labels") == "members",
    )
    torch.manual_seed(0)
    tokens = FeatureTokens(
        embedding_tables(world.COLUMNS, dim=world.DIM),
        DenseTokens(num_dense=world.NUM_DENSE, dim=world.DIM),
        dim=world.DIM,
        mean=[column.name for column in world.COLUMNS if column.multi],
    )
    settings, num_heads = config.method.get("sharing") or config.model.heads, 1 + len(heads.heads)
    heads_module = make_heads(settings, WIDTH, num_heads=num_heads, seed=config.seed, make=instantiate)
    ranker = Ranker(tokens, Projected(), heads_module)
    rates = BaseRates(1.0, [], [30.0, 20.0, 40.0, 10.0])
    return TrainingModel(
        ranker,
        build_weighting(config, heads),
        auxiliaries=heads.places,
        members=heads.members,
        rows=make_row_weights(config, heads, rates),
    )


def trained(method: str, sharding: str, ranks: Ranks) -> dict[str, Any]:
    model = built(method)
    places = place_tables(
        world.COLUMNS,
        dim=world.DIM,
        sharding=sharding,
        world_size=ranks.world_size,
        ranks_per_host=ranks.local_world_size,
        optimizer="adagrad",
    )
    sharded = shard(model, placements=places, rates=TableRates(Rates(0.1, 1e-8)), ranks=ranks, seed=3)
    dense = {name: p for name, p in model.named_parameters() if ".tables." not in name}
    start = {name: p.detach().clone() for name, p in dense.items()}
    steps = torch.optim.SGD(dense.values(), lr=0.1)
    torch.manual_seed(ranks.rank)  # ranks draw differently, as in training
    for step in range(STEPS):
        model.objective.at(step, STEPS)
        steps.zero_grad()
        loss, _ = sharded(batch(step, ranks))
        loss.backward()
        steps.step()
    return {
        "tables": world.whole_tables(sharded, places),
        "dense": {name: p.detach().clone() for name, p in dense.items()},
        "state": {name: value.clone() for name, value in model.objective.state_dict().items()},
        "told": {name: torch.tensor(value) for name, value in model.objective.told().items()},
        "moved": max(float((p - start[name]).abs().max()) for name, p in dense.items()),
    }


def main(out: str) -> None:
    ranks = process_group.start(threads=1)
    found = {f"{method} {sharding}": trained(method, sharding, ranks) for method in METHODS for sharding in SHARDINGS}
    alike = process_group.gather({case: (each["dense"], each["state"]) for case, each in found.items()})
    for case, each in found.items():
        each["ranks_differ"] = max(
            (
                float((mine[name] - value).abs().max())
                for other in alike
                for mine, of in zip((each["dense"], each["state"]), other[case], strict=True)
                for name, value in of.items()
            ),
            default=0.0,
        )
    if ranks.is_first:
        torch.save(found, out)
    process_group.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
