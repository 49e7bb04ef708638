"""Which rank holds which part of which table: decided here in plain numbers, before any rank starts or allocates.

Every rank computes the same placements from the same config, so that a plan which cannot work fails on all of them with
the table's name, and ``c2al plan`` shows it without starting any.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from c2al.parallel.conflicts import (
    check_cuts,
    check_kernel,
    check_ranks,
    check_row_moments,
    check_sequence,
    check_width,
    ranks_of_host,
)
from c2al.schema import DataError, SparseColumn

SHARDINGS = (
    *("data_parallel", "table_wise", "row_wise", "column_wise"),
    *("table_row_wise", "table_column_wise", "grid"),
)
MOMENT_BYTES = {  # optimizer state for one table shard of rows x columns in float32
    "sgd": lambda rows, columns: 0,
    "adagrad": lambda rows, columns: 4 * rows * columns,
    "rowwise_adagrad": lambda rows, columns: 4 * rows,
}


@dataclass(frozen=True)
class Shard:
    """A rectangle of a table on one rank."""

    rank: int
    first_row: int
    first_column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class TableOptions:
    """What a table has of its own; None is what the plan, the model and the training say for all."""

    sharding: str | None = None
    ranks: tuple[int, ...] | None = None
    host: int | None = None
    kernel: str | None = None
    dim: int | None = None
    optimizer: str | None = None


@dataclass(frozen=True)
class Placement:
    """One table's sharding and the ranks that hold it, in the order of its shards.

    ``grid`` goes over whole hosts of ``ranks_per_host`` ranks: columns are cut over hosts, rows over a host's ranks.
    """

    table: str
    num_rows: int
    dim: int
    sharding: str
    ranks: tuple[int, ...]
    optimizer: str = "adagrad"
    kernel: str = "fused"
    ranks_per_host: int = 1
    reason: str = ""  # why ``auto`` chose that
    sequence: bool = False  # its rows are not pooled

    def shards(self) -> list[Shard]:
        """What each rank holds; row shards are blocks of ``ceil(rows / ranks)``, as TorchRec cuts them."""
        if self.sharding == "data_parallel":
            return [Shard(rank, 0, 0, self.num_rows, self.dim) for rank in self.ranks]
        width = self.dim // self.num_column_shards
        if self.sharding in ("column_wise", "table_column_wise"):
            return [Shard(rank, 0, i * width, self.num_rows, width) for i, rank in enumerate(self.ranks)]
        per_group = len(self.ranks) // self.num_column_shards
        block = -(-self.num_rows // per_group)
        starts = [min(i * block, self.num_rows) for i in range(per_group + 1)]
        return [
            Shard(rank, starts[i % per_group], i // per_group * width, _length(starts, i % per_group), width)
            for i, rank in enumerate(self.ranks)
        ]

    @property
    def num_column_shards(self) -> int:
        """Into how many parts a row is cut."""
        if self.sharding in ("column_wise", "table_column_wise"):
            return len(self.ranks)
        return max(1, len(self.ranks) // self.ranks_per_host) if self.sharding == "grid" else 1


def place_tables(
    columns: Sequence[SparseColumn],
    *,
    dim: int,
    sharding: str,
    world_size: int,
    ranks_per_host: int,
    optimizer: str,
    own: Mapping[str, TableOptions] | None = None,
    device: str = "cpu",
    sequences: Collection[str] = (),
) -> list[Placement]:
    """Place every table by one sharding, or each by its size with ``auto``; ``own`` says what single tables have.

    ``sequences`` names the columns whose rows are not pooled.

    ``auto`` cuts a table by rows when it alone is more than half of a rank's fair share of all rows; the others go
    whole, largest first, each to the rank that holds the least so far. ``custom`` takes every table's sharding from
    ``own``. Raises a DataError, naming the table, at a plan that cannot work or would train another model.
    """
    own = own or {}
    _check_names(columns, sharding, own)
    hosts = _Hosts(world_size, min(ranks_per_host, world_size))
    fair_share = sum(column.num_rows for column in columns) / world_size
    held = [0] * world_size
    placements: dict[str, Placement] = {}
    for column in sorted(columns, key=lambda column: -column.num_rows):
        options = own.get(column.name, TableOptions())
        kind, reason = options.sharding or sharding, ""
        if kind == "auto":
            kind, reason = _chosen(column.num_rows, fair_share, world_size)
        check_ranks(column.name, kind, options.ranks, options.host, world_size, hosts.size)
        placement = Placement(
            column.name,
            column.num_rows,
            options.dim or dim,
            kind,
            options.ranks or hosts.ranks(kind, options.host, held),
            options.optimizer or optimizer,
            check_kernel(column.name, kind, options.kernel, device),
            hosts.size,
            reason,
            column.name in sequences,
        )
        if placement.sequence:
            check_sequence(column.name, kind)
            check_cuts(column.name, placement.num_column_shards, _cuts(placements, like=placement))
        check_width(column.name, placement.dim, placement.num_column_shards, kind)
        check_row_moments(column.name, placement.optimizer, placement.num_column_shards, kind)
        for shard in placement.shards():
            held[shard.rank] += shard.rows * shard.columns
        placements[column.name] = placement
    return [placements[column.name] for column in columns]


def rank_bytes(placements: Sequence[Placement], *, world_size: int) -> list[dict[str, int]]:
    """For every rank: number of shards, bytes of weights, bytes of optimizer state."""
    totals = [{"shards": 0, "weight_bytes": 0, "optimizer_bytes": 0} for _ in range(world_size)]
    for placement in placements:
        for shard in placement.shards():
            totals[shard.rank]["shards"] += 1
            totals[shard.rank]["weight_bytes"] += 4 * shard.rows * shard.columns
            totals[shard.rank]["optimizer_bytes"] += MOMENT_BYTES[placement.optimizer](shard.rows, shard.columns)
    return totals


def span(ranks: Sequence[int]) -> str:
    """Ranks in short: ``0–7`` or ``0, 2``."""
    if len(ranks) > 1 and list(ranks) == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}–{ranks[-1]}"
    return ", ".join(map(str, ranks))


def check_table(name: str, known: Sequence[str], *, key: str) -> None:
    """DataError where ``key.<name>`` speaks of a table that there is not."""
    if name not in known:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]}?" if close else f"tables: {', '.join(known)}"
        raise DataError(f"{key} names a table that the model does not have", value=name, remedy=remedy)


@dataclass(frozen=True)
class _Hosts:
    """Ranks by host: ``size`` consecutive ones each."""

    world_size: int
    size: int

    def ranks(self, kind: str, host: int | None, held: list[int]) -> tuple[int, ...]:
        """Where a table goes that names no ranks: everywhere, or where the least is held."""
        if kind == "table_wise":
            among = range(self.world_size) if host is None else ranks_of_host(host, self.size)
            return (min(among, key=held.__getitem__),)
        if kind not in ("table_row_wise", "table_column_wise"):
            return tuple(range(self.world_size))
        if host is None:
            all_hosts = range(self.world_size // self.size)
            host = min(all_hosts, key=lambda each: sum(held[rank] for rank in ranks_of_host(each, self.size)))
        return tuple(ranks_of_host(host, self.size))


def _chosen(num_rows: int, fair_share: float, world_size: int) -> tuple[str, str]:
    """A sharding by a table's size, and why."""
    if world_size == 1:
        return "table_wise", "one rank holds all"
    if num_rows > fair_share / 2:
        return "row_wise", f"more than half of a rank's fair share of {fair_share:,.0f} rows"
    return "table_wise", "small enough to lie whole where the least is held"


def _check_names(columns: Sequence[SparseColumn], sharding: str, own: Mapping[str, TableOptions]) -> None:
    known = [column.name for column in columns]
    for name, options in own.items():
        check_table(name, known, key="parallel.tables")
        if options.sharding not in (None, "auto", *SHARDINGS):
            remedy = f"parallel.tables.{name}=auto, {', '.join(SHARDINGS[:-1])} or {SHARDINGS[-1]}"
            raise DataError("unknown sharding", column=name, value=options.sharding, remedy=remedy)
    if sharding not in ("auto", "custom", *SHARDINGS):
        remedy = f"parallel=auto, custom or one of {', '.join(SHARDINGS)}"
        raise DataError("unknown sharding", value=sharding, remedy=remedy)
    unsaid = [name for name in known if own.get(name, TableOptions()).sharding is None]
    if sharding == "custom" and unsaid:
        raise DataError(
            "parallel=custom needs a sharding for every table",
            column=", ".join(unsaid),
            remedy=f"parallel.tables.{unsaid[0]}=…, or parallel=auto, where parallel.tables may name single tables",
        )


def _cuts(placed: Mapping[str, Placement], *, like: Placement) -> dict[str, int]:
    """Into how many parts the column-wise sequences among those placed already are cut."""
    alike = [each for each in placed.values() if each.sequence and each.sharding == like.sharding == "column_wise"]
    return {each.table: each.num_column_shards for each in alike}


def _length(starts: Sequence[int], index: int) -> int:
    return starts[index + 1] - starts[index]
