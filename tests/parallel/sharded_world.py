"""Started once a rank by ``test_shard.py``: every sharding trains beside plain ``nn.EmbeddingBag``; says what differs.

``python -m tests.parallel.sharded_world OUT.json``
"""

import copy
import json
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.batch import Batch
from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables
from c2al.embedding.tokens import FeatureTokens
from c2al.model import Ranker, TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel import ranks as process_group
from c2al.parallel.plan import place_tables, rank_bytes
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import shard, table_shards
from c2al.schema import SparseColumn

# Not in alphabetical order, sizes that no number of ranks divides, a bag, names that torch cannot take as they are.
COLUMNS = (
    SparseColumn("store", 5),
    SparseColumn("item", 1001),
    SparseColumn("tags", 30, multi=True),
    SparseColumn("type", 3),
    SparseColumn("a.b", 70_001),  # more than one block of drawn rows
)
DIM, NUM_DENSE, ROWS, STEPS = 8, 2, 6, 4
RATES = {"sgd": 0.5, "adagrad": 0.2, "rowwise_adagrad": 0.2}
EPS, DENSE_RATE = 1e-6, 0.1
PLANS = [
    (sharding, optimizer)
    for sharding in ("auto", "table_wise", "row_wise", "column_wise", "table_row_wise")
    for optimizer in RATES
    if (sharding, optimizer) != ("column_wise", "rowwise_adagrad")
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

    def __init__(self, tables: dict[str, torch.Tensor], dense: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag.from_pretrained(tables[c.name].clone(), freeze=False, mode="mean" if c.multi else "sum")
            for c in COLUMNS
        )
        self.dense, self.head = copy.deepcopy(dense), copy.deepcopy(head)

    def tokens(self, rows: Rows) -> torch.Tensor:
        pooled = []
        for bag, column in zip(self.bags, COLUMNS, strict=True):
            ids = rows.ids[column.name]
            starts = torch.tensor([0, *(len(each) for each in ids)]).cumsum(0)[:-1]
            pooled.append(bag(torch.tensor([value for each in ids for value in each]), starts))
        return torch.cat([torch.stack(pooled, 1), self.dense(rows.dense_BN)], 1)

    def forward(self, rows: Rows) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(self.head(self.tokens(rows))[:, 0], rows.label_B)


class RowWiseAdagrad:
    """One moment a row: m += mean(g²); w -= lr · g / (√m + eps)."""

    def __init__(self, weights: list[nn.Parameter], *, lr: float, eps: float) -> None:
        self.weights, self.lr, self.eps = weights, lr, eps
        self.moments = [torch.zeros(len(weight), 1) for weight in weights]

    @torch.no_grad()
    def step(self) -> None:
        for weight, moment in zip(self.weights, self.moments, strict=True):
            moment += weight.grad.square().mean(1, keepdim=True)
            weight -= self.lr * weight.grad / (moment.sqrt() + self.eps)


def plain_optimizer(name: str, weights: list[nn.Parameter]):
    if name == "sgd":
        return torch.optim.SGD(weights, lr=RATES[name])
    if name == "adagrad":
        return torch.optim.Adagrad(weights, lr=RATES[name], eps=EPS)
    return RowWiseAdagrad(weights, lr=RATES[name], eps=EPS)


def whole_tables(sharded: nn.Module) -> dict[str, torch.Tensor]:
    """Every table put together from all ranks' shards; each cell must be held exactly once."""
    named = {name: [(tensor.clone(), at) for tensor, at in held] for name, held in table_shards(sharded).items()}
    everyone = process_group.gather(named)
    tables = {}
    for column in COLUMNS:
        table, held = torch.zeros(column.num_rows, DIM), torch.zeros(column.num_rows, DIM)
        for rank in everyone:
            for tensor, (row, start) in rank[f"table_{column.name.replace('.', '__')}"]:
                place = slice(row, row + tensor.shape[0]), slice(start, start + tensor.shape[1])
                table[place] = tensor
                held[place] += 1
        assert held.eq(1).all(), column.name
        tables[column.name] = table
    return tables


def compare(sharding: str, optimizer: str, ranks: Ranks) -> dict[str, float]:
    torch.manual_seed(0)
    tokens = FeatureTokens(embedding_tables(COLUMNS, dim=DIM), DenseTokens(num_dense=NUM_DENSE, dim=DIM))
    head = Flat()
    dense = copy.deepcopy(tokens.dense)
    model = TrainingModel(Ranker(tokens, nn.Identity(), head), Fixed(weights=[1.0]), auxiliaries=[])
    places = place_tables(
        COLUMNS,
        dim=DIM,
        sharding=sharding,
        world_size=ranks.world_size,
        ranks_per_host=ranks.local_world_size,
        optimizer=optimizer,
    )
    sharded = shard(
        model, placements=places, optimizer=optimizer, learning_rate=RATES[optimizer], eps=EPS, ranks=ranks, seed=3
    )
    held = sum(tensor.numel() * 4 for shards in table_shards(sharded).values() for tensor, _ in shards)
    planned = rank_bytes(places, world_size=ranks.world_size, optimizer=optimizer)[ranks.rank]
    state = sharded.fused_optimizer.state_dict()["state"]
    moments = sum(s.tensor.numel() * 4 for m in state.values() for v in m.values() for s in local_shards(v))
    start = whole_tables(sharded)
    plain = Plain(start, dense, head)
    table_steps = plain_optimizer(optimizer, list(plain.bags.parameters()))
    dense_steps = torch.optim.SGD([*plain.dense.parameters(), *plain.head.parameters()], lr=DENSE_RATE)
    own = torch.optim.SGD([p for name, p in sharded.named_parameters() if "tables" not in name], lr=DENSE_RATE)
    losses, token_error = [], 0.0
    for step in range(STEPS):
        rows = draw(step, ROWS * ranks.world_size)
        mine = rows.part(ranks.rank, ranks.world_size)
        x_BFD = sharded.module.ranker.embedding(mine.batch())
        token_error = max(token_error, float((x_BFD - plain.tokens(mine)).abs().max()))
        own.zero_grad()
        loss, _ = sharded(mine.batch())
        loss.backward()
        own.step()
        plain.zero_grad()
        expected = plain(rows)
        expected.backward()
        table_steps.step()
        dense_steps.step()
        losses.append(abs(sum(process_group.gather(float(loss))) / ranks.world_size - float(expected)))
    end = whole_tables(sharded)
    return {
        "tokens": token_error,
        "losses": max(losses),
        "tables": max(float((end[c.name] - b.weight).abs().max()) for c, b in zip(COLUMNS, plain.bags, strict=True)),
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
    found = {f"{sharding} {optimizer}": compare(sharding, optimizer, ranks) for sharding, optimizer in PLANS}
    every = process_group.gather(found)
    if ranks.is_first:
        with open(out, "w") as file:
            json.dump(every, file)
    dist.barrier()
    process_group.stop()


if __name__ == "__main__":
    main(sys.argv[1])
