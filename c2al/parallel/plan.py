"""Which rank holds which part of which table: decided here in plain numbers, before any rank starts or allocates.

Every rank computes the same placements from the same config, so that a plan which cannot work fails on all of them with
the table's name, and ``c2al plan`` shows it without starting any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from c2al.schema import DataError, SparseColumn

SHARDINGS = ("table_wise", "row_wise", "column_wise", "table_row_wise")
MOMENT_BYTES = {  # optimizer state for one table shard of rows x columns in float32
    "sgd": lambda rows, columns: 0,
    "adagrad": lambda rows, columns: 4 * rows * columns,
    "rowwise_adagrad": lambda rows, columns: 4 * rows,
}


@dataclass(frozen=True)
class Shard:
    """A rectangle of a table on one rank."""

    rank: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Placement:
    """One table's sharding and the ranks that hold it, in the order of its shards."""

    table: str
    num_rows: int
    dim: int
    sharding: str
    ranks: tuple[int, ...]
    reason: str = ""  # why ``auto`` chose that

    def shards(self) -> list[Shard]:
        """What each rank holds; row shards are blocks of ``ceil(rows / ranks)``, as TorchRec cuts them."""
        if self.sharding == "column_wise":
            return [Shard(rank, self.num_rows, self.dim // len(self.ranks)) for rank in self.ranks]
        block = -(-self.num_rows // len(self.ranks))
        starts = [min(i * block, self.num_rows) for i in range(len(self.ranks) + 1)]
        return [Shard(rank, starts[i + 1] - starts[i], self.dim) for i, rank in enumerate(self.ranks)]


def place_tables(
    columns: Sequence[SparseColumn],
    *,
    dim: int,
    sharding: str,
    world_size: int,
    ranks_per_host: int,
    optimizer: str,
) -> list[Placement]:
    """Place every table by one sharding, or each by its size with ``auto``.

    ``auto`` cuts a table by rows when it alone is more than half of a rank's fair share of all rows; the others go
    whole, largest first, each to the rank that holds the least so far.
    """
    if sharding not in ("auto", *SHARDINGS):
        raise DataError("unknown sharding", value=sharding, remedy=f"parallel=auto or one of {', '.join(SHARDINGS)}")
    if sharding == "column_wise" and world_size > 1:
        _check_columns(columns, dim=dim, world_size=world_size, optimizer=optimizer)
    fair_share = sum(column.num_rows for column in columns) / world_size
    held = [0] * world_size
    placements = {}
    for column in sorted(columns, key=lambda column: -column.num_rows):
        kind, reason = _chosen(column.num_rows, fair_share, world_size) if sharding == "auto" else (sharding, "")
        ranks = _ranks_of(kind, held, ranks_per_host)
        placement = Placement(column.name, column.num_rows, dim, kind, ranks, reason)
        for shard in placement.shards():
            held[shard.rank] += shard.rows * shard.columns
        placements[column.name] = placement
    return [placements[column.name] for column in columns]


def rank_bytes(placements: Sequence[Placement], *, world_size: int, optimizer: str) -> list[dict[str, int]]:
    """For every rank: number of shards, bytes of weights, bytes of optimizer state."""
    totals = [{"shards": 0, "weight_bytes": 0, "optimizer_bytes": 0} for _ in range(world_size)]
    for placement in placements:
        for shard in placement.shards():
            totals[shard.rank]["shards"] += 1
            totals[shard.rank]["weight_bytes"] += 4 * shard.rows * shard.columns
            totals[shard.rank]["optimizer_bytes"] += MOMENT_BYTES[optimizer](shard.rows, shard.columns)
    return totals


def _chosen(num_rows: int, fair_share: float, world_size: int) -> tuple[str, str]:
    """A sharding by a table's size, and why."""
    if world_size == 1:
        return "table_wise", "one rank holds all"
    if num_rows > fair_share / 2:
        return "row_wise", f"more than half of a rank's fair share of {fair_share:,.0f} rows"
    return "table_wise", "small enough to lie whole where the least is held"


def _ranks_of(kind: str, held: list[int], ranks_per_host: int) -> tuple[int, ...]:
    if kind in ("row_wise", "column_wise"):
        return tuple(range(len(held)))
    if kind == "table_wise":
        return (min(range(len(held)), key=held.__getitem__),)
    hosts = range(0, len(held), ranks_per_host)
    first = min(hosts, key=lambda start: sum(held[start : start + ranks_per_host]))
    return tuple(range(first, min(first + ranks_per_host, len(held))))


def _check_columns(columns: Sequence[SparseColumn], *, dim: int, world_size: int, optimizer: str) -> None:
    if optimizer == "rowwise_adagrad":
        raise DataError(
            "column_wise with row-wise Adagrad would give each column shard a row moment of its own, another optimizer",
            column=columns[0].name,
            remedy="training.sparse.optimizer=adagrad, or parallel=row_wise",
        )
    if dim % (4 * world_size):
        raise DataError(
            f"{dim} columns cannot be cut into {world_size} shards of a multiple of 4",
            column=columns[0].name,
            remedy=f"model.dim={4 * world_size * -(-dim // (4 * world_size))}, or parallel=row_wise",
        )
