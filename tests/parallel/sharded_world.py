"""Started once a rank by ``test_shard.py``: every sharding trains beside plain ``nn.EmbeddingBag``; says what differs.

``python -m tests.parallel.sharded_world OUT.json``; LOCAL_WORLD_SIZE says how many ranks a host has.
"""

import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.batch import Batch
from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables, table_name
from c2al.embedding.tokens import FeatureTokens
from c2al.model import Ranker, TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import replicated_tables
from c2al.parallel.plan import SHARDINGS, Placement, TableOptions, place_tables, rank_bytes
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import Rates, TableRates, shard, table_shards
from c2al.schema import SparseColumn
from tests.parallel.plain_optimizers import EPS, RATES, plain_moment, plain_optimizer

# Not in alphabetical order, sizes that no number of ranks divides, a bag, names that torch cannot take as they are.
COLUMNS = (
    SparseColumn("store", 5),
    SparseColumn("item", 1001),
    SparseColumn("tags", 30, multi=True),
    SparseColumn("type", 3),
    SparseColumn("a.b", 70_001),  # more than one block of drawn rows
)
DIM, NUM_DENSE, ROWS, STEPS = 16, 2, 6, 4
DENSE_RATE = 0.1


@dataclass(frozen=True)
class Case:
    """A plan, the tables' optimizer, and what single tables have of their own."""

    sharding: str
    optimizer: str
    own: Mapping[str, TableOptions] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sharding} {self.optimizer}{' own' if self.own else ''}"

    def optimizer_of(self, table: str) -> str:
        return self.own.get(table, TableOptions()).optimizer or self.optimizer

    def place(self, ranks: Ranks) -> list[Placement]:
        return place_tables(
            COLUMNS,
            dim=DIM,
            sharding=self.sharding,
            world_size=ranks.world_size,
            ranks_per_host=ranks.local_world_size,
            optimizer=self.optimizer,
            own=self.own,
        )

    @property
    def rates(self) -> TableRates:
        own = {column.name: Rates(RATES[self.optimizer_of(column.name)], EPS) for column in COLUMNS}
        return TableRates(Rates(RATES[self.optimizer], EPS), own)


def cases(world_size: int, ranks_per_host: int) -> list[Case]:
    """Every sharding under every optimizer that it can have; every kind of table in one plan."""
    cut = {"column_wise", "table_column_wise"} | ({"grid"} if world_size > ranks_per_host else set())
    mixed = {
        "store": TableOptions("table_wise", ranks=(world_size - 1,), optimizer="sgd"),
        "item": TableOptions("row_wise", dim=32, optimizer="rowwise_adagrad"),
        "tags": TableOptions("data_parallel", dim=8, optimizer="rowwise_adagrad"),
        "type": TableOptions("data_parallel"),
        "a.b": TableOptions("column_wise", ranks=tuple(reversed(range(world_size)))),
    }
    return [
        *(
            Case(sharding, optimizer)
            for sharding in ("auto", *SHARDINGS)
            for optimizer in RATES
            if world_size == 1 or sharding not in cut or optimizer != "rowwise_adagrad"
        ),
        Case("custom", "adagrad", mixed),
        Case("table_wise", "adagrad", {"a.b": TableOptions("grid"), "item": TableOptions("table_row_wise", host=0)}),
    ]


@dataclass
class Rows:
    """Rows of all ranks: ids as a list of lists by column, and the rest as tensors."""

    ids: dict[str, list[list[int]]]
    dense_BN: torch.Tensor
    label_B: torch.Tensor

    def part(self, rank: int, world_size: int) -> "Rows":
        size = len(self.label_B) // world_size
        rows = slice(rank * size, (rank + 1) * size)
        return Rows({name: bags[rows] for name, bags in self.ids.items()}, self.dense_BN[rows], self.label_B[rows])

    def batch(self) -> Batch:
        bags = [bag for name in self.ids for bag in self.ids[name]]
        sparse = KeyedJaggedTensor(
            keys=list(self.ids),
            values=torch.tensor([value for bag in bags for value in bag]),
            lengths=torch.tensor([len(bag) for bag in bags]),
        )
        rows = len(self.label_B)
        none_BA = torch.empty(rows, 0, dtype=torch.long)
        return Batch(self.dense_BN, sparse, self.label_B, torch.ones(rows), none_BA, torch.arange(rows))


def draw(step: int, rows: int) -> Rows:
    """Rows of a step: ids repeat within it and over steps, some bags are empty."""
    random = torch.Generator().manual_seed(step)

    def some(column: SparseColumn) -> list[int]:
        number = int(torch.randint(0, 4, (1,), generator=random)) if column.multi else 1
        few = torch.randint(0, 7, (number,), generator=random) * (column.num_rows // 7 or 1)
        return few.clamp(max=column.num_rows - 1).tolist()

    return Rows(
        {column.name: [some(column) for _ in range(rows)] for column in COLUMNS},
        torch.randn(rows, NUM_DENSE, generator=random),
        torch.randint(0, 2, (rows,), generator=random).float(),
    )


class Flat(nn.Module):
    """An interaction and head in one that tells tokens apart by their place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear((len(COLUMNS) + 1) * DIM, 1)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        return self.layer(x_BFD.flatten(1))


class Plain(nn.Module):
    """The same model of plain torch modules on one process."""

    def __init__(self, tables: dict[str, torch.Tensor], dense: nn.Module, to_dim: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag.from_pretrained(tables[c.name].clone(), freeze=False, mode="mean" if c.multi else "sum")
            for c in COLUMNS
        )
        self.dense, self.to_dim, self.head = (copy.deepcopy(each) for each in (dense, to_dim, head))

    def tokens(self, rows: Rows) -> torch.Tensor:
        pooled = []
        for bag, column in zip(self.bags, COLUMNS, strict=True):
            ids = rows.ids[column.name]
            starts = torch.tensor([0, *(len(each) for each in ids)]).cumsum(0)[:-1]
            found = bag(torch.tensor([value for each in ids for value in each]), starts)
            pooled.append(self.to_dim[key(column)](found) if key(column) in self.to_dim else found)
        return torch.cat([torch.stack(pooled, 1), self.dense(rows.dense_BN)], 1)

    def forward(self, rows: Rows) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(self.head(self.tokens(rows))[:, 0], rows.label_B)


def key(column: SparseColumn) -> str:
    return table_name(column.name)


def put_together(held_here: dict[str, list], shapes: dict[str, torch.Size], places: list[Placement]) -> dict:
    """Every table, or its moments, from all ranks' shards: a cell is held once, or alike on every rank."""
    everyone = process_group.gather(held_here)
    whole = {}
    for place in places:
        if place.table not in shapes:
            continue
        copies = [rank[place.table] for rank in everyone]
        if place.sharding == "data_parallel":
            assert all(torch.equal(each[0][0], copies[0][0][0]) for each in copies), place.table
            copies = copies[:1]
        table, times = torch.zeros(shapes[place.table]), torch.zeros(shapes[place.table])
        for tensor, offsets in (each for held in copies for each in held):
            at = tuple(slice(first, first + size) for first, size in zip(offsets, tensor.shape, strict=True))
            table[at] = tensor
            times[at] += 1
        assert times.eq(1).all(), place.table
        whole[place.table] = table
    return whole


def whole_tables(sharded: nn.Module, places: list[Placement]) -> dict[str, torch.Tensor]:
    shards = table_shards(sharded)
    held = {c.name: [(tensor.clone(), at) for tensor, at in shards[key(c)]] for c in COLUMNS}
    return put_together(held, {p.table: torch.Size([p.num_rows, p.dim]) for p in places}, places)


def held_moments(sharded: nn.Module, replicated) -> dict[str, list]:
    """This rank's moments by table, as (tensor, offsets)."""
    names = {key(column): column.name for column in COLUMNS}
    held: dict[str, list] = {column.name: [] for column in COLUMNS}
    for parameter, state in sharded.fused_optimizer.state_dict()["state"].items():
        table = names[parameter.split(".embedding_bags.")[1].split(".")[0]]
        for name, value in state.items():
            if name.endswith("momentum1"):
                held[table] += [(each.tensor.clone(), each.metadata.shard_offsets) for each in local_shards(value)]
    for parameter, state in (replicated.state_dict()["state"] if replicated else {}).items():
        moment = state.get("sum") if state else None
        if moment is not None:
            table = names[parameter.split(".embedding_bags.")[1].split(".")[0]]
            moment = moment[:, 0] if moment.shape[1:] == (1,) else moment
            held[table].append((moment.clone(), [0] * moment.dim()))
    return held


def compare(case: Case, ranks: Ranks) -> dict[str, float]:
    torch.manual_seed(0)
    places = case.place(ranks)
    dims = {place.table: place.dim for place in places}
    tokens = FeatureTokens(
        embedding_tables(COLUMNS, dim=DIM, dims=dims),
        DenseTokens(num_dense=NUM_DENSE, dim=DIM),
        dim=DIM,
        mean=[column.name for column in COLUMNS if column.multi],
    )
    head = Flat()
    dense, to_dim = copy.deepcopy(tokens.dense), copy.deepcopy(tokens.order.to_dim)
    model = TrainingModel(Ranker(tokens, nn.Identity(), head), Fixed(weights=[1.0]), auxiliaries=[])
    sharded = shard(model, placements=places, rates=case.rates, ranks=ranks, seed=3)
    replicated = replicated_tables(sharded, places, case.rates)
    held = sum(tensor.numel() * 4 for shards in table_shards(sharded).values() for tensor, _ in shards)
    planned = rank_bytes(places, world_size=ranks.world_size)[ranks.rank]
    moments = sum(t.numel() * 4 for held in held_moments(sharded, replicated).values() for t, _ in held)
    start = whole_tables(sharded, places)
    plain = Plain(start, dense, to_dim, head)
    bags = {column.name: bag for column, bag in zip(COLUMNS, plain.bags, strict=True)}
    steps = {name: plain_optimizer(case.optimizer_of(name), bag.weight) for name, bag in bags.items()}
    plain_dense = [*plain.dense.parameters(), *plain.to_dim.parameters(), *plain.head.parameters()]
    dense_steps = torch.optim.SGD(plain_dense, lr=DENSE_RATE)
    own = torch.optim.SGD([p for name, p in sharded.named_parameters() if ".tables." not in name], lr=DENSE_RATE)
    losses, token_error = [], 0.0
    for step in range(STEPS):
        rows = draw(step, ROWS * ranks.world_size)
        mine = rows.part(ranks.rank, ranks.world_size)
        with torch.no_grad():
            x_BFD = sharded.module.ranker.embedding(mine.batch())
            token_error = max(token_error, float((x_BFD - plain.tokens(mine)).abs().max()))
        for each in (own, *([replicated] if replicated else [])):
            each.zero_grad()
        loss, _ = sharded(mine.batch())
        loss.backward()
        for each in (own, *([replicated] if replicated else [])):
            each.step()
        plain.zero_grad()
        expected = plain(rows)
        expected.backward()
        for each in (*steps.values(), dense_steps):
            each.step()
        losses.append(abs(sum(process_group.gather(float(loss.detach()))) / ranks.world_size - float(expected)))
    end = whole_tables(sharded, places)
    wanted = {name: plain_moment(steps[name], bag.weight) for name, bag in bags.items()}
    wanted = {name: moment for name, moment in wanted.items() if moment is not None}
    found = put_together(held_moments(sharded, replicated), {n: m.shape for n, m in wanted.items()}, places)
    return {
        "tokens": token_error,
        "losses": max(losses),
        "tables": max(float((end[name] - bag.weight).abs().max()) for name, bag in bags.items()),
        "moments": max((float((found[name] - moment).abs().max()) for name, moment in wanted.items()), default=0.0),
        "head": float((head.layer.weight - plain.head.layer.weight).abs().max()),
        "moved": min(float((end[name] - start[name]).abs().max()) for name in end),
        "largest": max(float(start[c.name].abs().max()) * c.num_rows**0.5 for c in COLUMNS),
        "start": sum(float(table.double().square().sum()) for table in start.values()),
        "bytes": float(abs(held - planned["weight_bytes"])),
        "moment_bytes": float(abs(moments - planned["optimizer_bytes"])),
        "ranks_used": float(len({rank for place in places for rank in place.ranks})),
    }


def local_shards(value: object) -> list:
    return value.local_shards() if hasattr(value, "local_shards") else []


def main(out: str) -> None:
    ranks = process_group.start(threads=1)
    found = {str(case): compare(case, ranks) for case in cases(ranks.world_size, ranks.local_world_size)}
    every = process_group.gather(found)
    if ranks.is_first:
        with open(out, "w") as file:
            json.dump(every, file)
    process_group.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
