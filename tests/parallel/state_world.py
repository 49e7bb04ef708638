"""Started once a rank by ``test_state.py``: every plan's state saved, then loaded into every plan; says what differs.

``python -m tests.parallel.state_world FOLDER PORT…``, one port for each of 8 worlds.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torchrec.distributed import comm

from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import Optimizers, Schedule, dense_adam, replicated_tables
from c2al.parallel.plan import place_tables
from c2al.parallel.ranks import Ranks
from c2al.parallel.rectangles import LoadPlanner, Rectangles, SavePlanner, Value, copied
from c2al.parallel.shard import Rates, TableRates, shard
from c2al.parallel.state import State, fill_lazy_state, moments, weights
from c2al.schema import SparseColumn
from c2al.training.averaging import WeightAverage
from tests.parallel import sharded_world as world

COLUMNS = (SparseColumn("store", 5), SparseColumn("a.b", 61), SparseColumn("tags", 30, multi=True))
WORLDS = (4, 3, 2, 1)
PLANS = ("row_wise", "table_wise", "column_wise", "table_row_wise", "data_parallel")
DIM = 48  # which 2, 3 and 4 ranks can cut
RATES = TableRates(Rates(0.1, 1e-8))


class Trained:
    """A small model under a plan, and the state of it, live."""

    def __init__(self, sharding: str, optimizer: str, ranks: Ranks, seed: int) -> None:
        torch.manual_seed(seed)
        tokens = world.FeatureTokens(
            world.embedding_tables(COLUMNS, dim=DIM), world.DenseTokens(num_dense=world.NUM_DENSE, dim=DIM)
        )
        head = nn.Sequential(nn.Flatten(), nn.Linear((len(COLUMNS) + 1) * DIM, 1))
        model = world.TrainingModel(
            world.Ranker(tokens, nn.Identity(), head), world.Fixed(weights=[1.0]), auxiliaries=[]
        )
        self.placements = place_tables(
            COLUMNS,
            dim=DIM,
            sharding=sharding,
            world_size=ranks.world_size,
            ranks_per_host=ranks.world_size,
            optimizer=optimizer,
        )
        self.sharded = shard(model, placements=self.placements, rates=RATES, ranks=ranks, seed=seed)
        self.optimizers = Optimizers(
            self.sharded.fused_optimizer,
            dense_adam(self.sharded, learning_rate=0.1),
            replicated=replicated_tables(self.sharded, self.placements, RATES),
            schedule=Schedule(9),
            max_grad_norm=None,
        )
        self.average = WeightAverage(self.sharded, decay=0.5)

    def step(self, number: int, ranks: Ranks) -> None:
        world.COLUMNS, kept = COLUMNS, world.COLUMNS
        rows = world.draw(number, 4 * ranks.world_size).part(ranks.rank, ranks.world_size)
        world.COLUMNS = kept
        self.optimizers.zero_grad()
        loss, _ = self.sharded(rows.batch())
        loss.backward()
        self.optimizers.step()
        self.average.update(number)

    def state(self) -> State:
        averages = weights(self.average.state, self.placements)
        state = weights(self.sharded.state_dict(), self.placements) | moments(self.optimizers, self.placements)
        return state | {f"average.{name}": value for name, value in averages.items()}


def gathered(state: State) -> dict[str, torch.Tensor]:
    """Every tensor whole, from all ranks' parts; what each rank holds whole must be the same on all."""
    every = process_group.gather({name: copied(value) for name, value in state.items()})
    whole = {}
    for name, first in every[0].items():
        held = [rank[name] for rank in every]
        if isinstance(first, Rectangles):
            whole[name] = torch.full(tuple(first.shape), torch.nan)
            for tensor, offsets in (part for each in held for part in each.parts):
                whole[name][_at(tensor, offsets)] = tensor
            assert not whole[name].isnan().any(), name
        else:
            assert all(torch.equal(each, first) for each in held), name
            whole[name] = first
    return whole


def optimizers_of(sharding: str, world_size: int) -> list[str]:
    """Row-wise Adagrad goes with every plan that does not cut a row."""
    return ["adagrad", *(["rowwise_adagrad"] if sharding != "column_wise" or world_size == 1 else [])]


def save(folder: Path, ranks: Ranks) -> dict[str, list[str]]:
    """All plans of this world in one checkpoint, after two steps each."""
    states, wholes = {}, {}
    for sharding in PLANS:
        for optimizer in optimizers_of(sharding, ranks.world_size):
            trained = Trained(sharding, optimizer, ranks, seed=ranks.world_size)
            for step in (1, 2):
                trained.step(step, ranks)
            state = trained.state()
            states |= {f"{optimizer} {ranks.world_size} {sharding}/{name}": value for name, value in state.items()}
            wholes[f"{optimizer} {ranks.world_size} {sharding}"] = gathered(state)
    to = folder / str(ranks.world_size)
    dcp.save(states, storage_writer=dcp.FileSystemWriter(to, sync_files=False), planner=SavePlanner())
    if ranks.is_first:
        torch.save(wholes, to / "wholes.pt")
    return {}


def load(folder: Path, ranks: Ranks) -> dict[str, list[str]]:
    """For every pair, the tensors that are not what was saved, to the bit."""
    wholes = {size: torch.load(folder / str(size) / "wholes.pt") for size in WORLDS}
    differ = {}
    for sharding in PLANS:
        for optimizer in optimizers_of(sharding, ranks.world_size):
            trained = Trained(sharding, optimizer, ranks, seed=99)
            fill_lazy_state(trained.optimizers)
            for size in WORLDS:
                saved = [key for key in wholes[size] if key.startswith(f"{optimizer} ")]
                found = {key: {name: copied(value) for name, value in trained.state().items()} for key in saved}
                flat = {f"{key}/{name}": value for key, state in found.items() for name, value in state.items()}
                reader = dcp.FileSystemReader(folder / str(size))
                dcp.load(flat, storage_reader=reader, planner=LoadPlanner())
                for key in saved:
                    pair = f"{key} -> {ranks.world_size} {sharding}"
                    differ[pair] = different(found[key], wholes[size][key])
    every = process_group.gather(differ)
    return {pair: sorted({name for rank in every for name in rank[pair]}) for pair in differ}


def different(found: State, wanted: dict[str, torch.Tensor]) -> list[str]:
    """The tensors of which this rank has something else, or another size; that all is held, ``save`` has seen."""
    assert set(found) == set(wanted)
    return [name for name in wanted if not _same(found[name], wanted[name])]


def _same(value: Value, whole: torch.Tensor) -> bool:
    if isinstance(value, torch.Tensor):
        return torch.equal(value, whole)
    return value.shape == whole.shape and all(torch.equal(part, whole[_at(part, at)]) for part, at in value.parts)


def _at(part: torch.Tensor, offsets: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(offsets, part.shape, strict=True))


def main(folder: str, *ports: str) -> None:
    """The ranks meet in worlds of 4, 3, 2 and 1, first to save and then to load, at a port each.

    All four come first: TorchRec compares the ranks' plans once in a process, so all must do it at the same time.
    """
    rank, steps = int(os.environ["RANK"]), [(work, n) for work in (save, load) for n in WORLDS]
    found = {}
    for (work, world_size), port in zip(steps, ports, strict=True):
        if rank < world_size:
            size = str(world_size)
            os.environ |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
            ranks = process_group.start(threads=1)
            found |= work(Path(folder), ranks)
            dist.barrier()
            process_group.stop()
            comm._INTRA_PG = comm._CROSS_PG = None  # TorchRec keeps a host's group for the life of a process
    if rank == 0:
        (Path(folder) / "differ.json").write_text(json.dumps(found))
    os._exit(0)  # what is left of groups that are gone would be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
