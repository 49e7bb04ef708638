"""Started once a rank by ``test_sequences.py``: sequences under every sharding beside plain ``nn.Embedding``.

``python -m tests.parallel.sequences_world OUT.json``.
"""

import json
import sys

import torch
from torch import nn
from torch.nn import functional
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.batch import Batch
from c2al.embedding.sequences import sequence_tables
from c2al.embedding.tables import embedding_tables, table_name
from c2al.embedding.tokens import FeatureTokens
from c2al.model import Ranker, TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel import ranks as process_group
from c2al.parallel.conflicts import OF_SEQUENCES
from c2al.parallel.optimizers import Optimizers, Schedule, dense_adam, replicated_tables
from c2al.parallel.pipelines import pipeline
from c2al.parallel.plan import Placement, TableOptions, place_tables
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import Rates, TableRates, shard, table_shards
from c2al.schema import SparseColumn
from tests.parallel.plain_optimizers import EPS, RATES, plain_optimizer
from tests.parallel.sharded_world import put_together

# The columns that are pooled stand first, last and between, so that neither kind is a prefix of the batch's keys.
COLUMNS = (
    SparseColumn("seen", 31, multi=True),
    SparseColumn("item", 101),
    SparseColumn("tags", 13, multi=True),
    SparseColumn("bought", 101, multi=True),
    SparseColumn("store", 5),
)
PLACES = {"seen": 3, "bought": 4}
POOLED = [column for column in COLUMNS if column.name not in PLACES]
NUM_TOKENS, DIM, ROWS, STEPS = len(POOLED) + sum(PLACES.values()), 8, 6, 4


def draw(step: int, rows: int) -> tuple[dict[str, list[list[int]]], torch.Tensor]:
    """Ids by column and labels; histories are empty, shorter and longer than their places; once a rank has none."""
    random = torch.Generator().manual_seed(step)
    ids = {}
    for column in COLUMNS:
        sizes = torch.randint(0, 7, (rows,), generator=random) if column.multi else torch.ones(rows, dtype=torch.long)
        if column.multi and step == 2:
            sizes[:ROWS] = 0
        ids[column.name] = [torch.randint(0, column.num_rows, (n,), generator=random).tolist() for n in sizes.tolist()]
    return ids, torch.randint(0, 2, (rows,), generator=random).float()


def batch(ids: dict[str, list[list[int]]], label_B: torch.Tensor, rows: slice = slice(None)) -> Batch:
    bags = [bag for column in ids.values() for bag in column[rows]]
    values = torch.tensor([value for bag in bags for value in bag], dtype=torch.long)
    sparse = KeyedJaggedTensor(list(ids), values, lengths=torch.tensor([len(bag) for bag in bags]))
    label_B = label_B[rows]
    num = len(label_B)
    return Batch(torch.empty(num, 0), sparse, label_B, torch.ones(num), torch.empty(num, 0).long(), torch.arange(num))


class Head(nn.Module):
    """Tells tokens apart by their place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, NUM_TOKENS * DIM).sin().view(-1, 1))

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        return x_BFD.flatten(1) @ self.weight


def plain_tokens(tables: dict[str, nn.Parameter], ids: dict[str, list[list[int]]]) -> torch.Tensor:
    """By hand: sums of pooled columns, the last ids of the others, latest last, zeros before."""

    def rows(name: str, bag: list[int]) -> torch.Tensor:
        return tables[name][torch.tensor(bag, dtype=torch.long)]

    parts = [torch.stack([rows(column.name, bag).sum(0) for bag in ids[column.name]]).unsqueeze(1) for column in POOLED]
    for name, places in PLACES.items():
        last = [rows(name, bag[-places:]) for bag in ids[name]]
        parts.append(torch.stack([functional.pad(each, (0, 0, places - len(each), 0)) for each in last]))
    return torch.cat(parts, dim=1)


def cases(world_size: int) -> dict[str, tuple[str, str, dict[str, TableOptions]]]:
    """Every sharding that sequences can have, under every optimizer that it can have; and a mixture."""
    backwards = tuple(reversed(range(world_size)))
    mixed = {
        "seen": TableOptions("table_wise", ranks=(world_size - 1,)),
        "item": TableOptions("data_parallel"),
        "bought": TableOptions("column_wise", ranks=backwards),
    }
    return {
        **{
            f"{kind} {optimizer}": (kind, optimizer, {})
            for kind in ("auto", *OF_SEQUENCES)
            for optimizer in RATES
            if world_size == 1 or kind != "column_wise" or optimizer != "rowwise_adagrad"
        },
        "mixed": ("row_wise", "adagrad", mixed),
        "pooled by host": ("grid", "sgd", {name: TableOptions("table_wise") for name in PLACES}),
        "sparse_dist": ("row_wise", "adagrad", {}),
    }


def compare(name: str, ranks: Ranks) -> dict[str, float]:
    """The largest differences to plain torch over all steps."""
    sharding, optimizer, own = cases(ranks.world_size)[name]
    places = place_tables(
        COLUMNS,
        dim=DIM,
        sharding=sharding,
        world_size=ranks.world_size,
        ranks_per_host=ranks.local_world_size,
        optimizer=optimizer,
        own=own,
        sequences=PLACES,
    )
    sequences = [column for column in COLUMNS if column.name in PLACES]
    tokens = FeatureTokens(
        embedding_tables(POOLED, dim=DIM), None, sequences=sequence_tables(sequences, dim=DIM), places=PLACES
    )
    model = TrainingModel(Ranker(tokens, nn.Identity(), Head()), Fixed(weights=[1.0]), auxiliaries=[])
    rates = TableRates(Rates(RATES[optimizer], EPS))
    sharded = shard(model, placements=places, rates=rates, ranks=ranks, seed=3)
    steps = Optimizers(
        sharded.fused_optimizer,
        dense_adam(sharded, learning_rate=0.0),
        replicated=replicated_tables(sharded, places, rates),
        schedule=Schedule(STEPS, decay="constant"),
        max_grad_norm=None,
    )
    start = whole(sharded, places)
    plain = {table: nn.Parameter(weight.clone()) for table, weight in start.items()}
    plain_steps = [plain_optimizer(optimizer, parameter) for parameter in plain.values()]
    mine = slice(ranks.rank * ROWS, (ranks.rank + 1) * ROWS)
    drawn = [draw(step, ROWS * ranks.world_size) for step in range(STEPS)]
    trained = pipeline("sparse_dist" if name == "sparse_dist" else "base", sharded, steps, ranks.device)
    batches = iter([batch(*each, mine) for each in drawn])
    losses, token_error = [], 0.0
    for ids, label_B in drawn:
        expected_BFD = plain_tokens(plain, ids)
        if name != "sparse_dist":
            with torch.no_grad():
                x_BFD = sharded.module.ranker.embedding(batch(ids, label_B, mine))
            token_error = max(token_error, float((x_BFD - expected_BFD.detach()[mine]).abs().max()))
        losses_H, _ = trained.progress(batches)
        expected = functional.binary_cross_entropy_with_logits(Head()(expected_BFD)[:, 0], label_B)
        expected.backward()
        for each, weight in zip(plain_steps, plain.values(), strict=True):
            each.step()
            weight.grad = None
        losses.append(abs(sum(process_group.gather(float(losses_H[0]))) / ranks.world_size - float(expected.detach())))
    end = whole(sharded, places)
    return {
        "tokens": token_error,
        "losses": max(losses),
        "tables": max(float((end[table] - weight.detach()).abs().max()) for table, weight in plain.items()),
        "moved": min(float((end[table] - start[table]).abs().max()) for table in end),
    }


def whole(sharded: nn.Module, places: list[Placement]) -> dict[str, torch.Tensor]:
    """Every table from all ranks' shards."""
    shards = table_shards(sharded)
    held = {p.table: [(tensor.clone(), at) for tensor, at in shards[table_name(p.table)]] for p in places}
    return put_together(held, {p.table: torch.Size([p.num_rows, p.dim]) for p in places}, places)


def main(out: str) -> None:
    ranks = process_group.start(threads=1)
    found = {name: compare(name, ranks) for name in cases(ranks.world_size)}
    every = process_group.gather(found)
    if ranks.is_first:
        with open(out, "w") as file:
            json.dump(every, file)
    process_group.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
