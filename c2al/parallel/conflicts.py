"""What a table's plan cannot be: refused before any rank starts work, with the table, the plan and what would do."""

from collections.abc import Mapping, Sequence

from c2al.schema import DataError

FUSED = ("fused", "fused_uvm", "fused_uvm_caching")
EVERYWHERE = ("data_parallel", "row_wise")  # shardings that take all ranks
BY_HOST = ("table_row_wise", "table_column_wise", "grid")
OF_SEQUENCES = ("table_wise", "row_wise", "column_wise")


def ranks_of_host(host: int, ranks_per_host: int) -> range:
    """The consecutive ranks of a host."""
    return range(host * ranks_per_host, (host + 1) * ranks_per_host)


def check_ranks(
    table: str, kind: str, ranks: Sequence[int] | None, host: int | None, world_size: int, ranks_per_host: int
) -> None:
    """Ranks that exist, once each, and as many and where the sharding takes them."""
    if kind in BY_HOST and world_size % ranks_per_host:
        raise DataError(
            f"{kind} needs hosts with equally many ranks, and {world_size} ranks are not hosts of {ranks_per_host}",
            column=table,
            remedy=f"another number of ranks, or parallel.tables.{table}=row_wise",
        )
    if host is not None:
        _check_host(table, kind, ranks, host, world_size, ranks_per_host)
    if ranks is None:
        return
    if not ranks or len(set(ranks)) < len(ranks) or not all(0 <= rank < world_size for rank in ranks):
        raise _refused(table, kind, "ranks", list(ranks), f"different ranks from 0 to {world_size - 1}")
    if kind in EVERYWHERE and list(ranks) != list(range(world_size)):
        raise _refused(table, kind, "ranks", list(ranks), f"no ranks of its own: {kind} takes all of them")
    if kind == "table_wise" and len(ranks) > 1:
        raise _refused(table, kind, "ranks", list(ranks), "one rank, such as [0]; or column_wise, which takes several")
    if kind in BY_HOST:
        _check_whole_hosts(table, kind, list(ranks), ranks_per_host)


def check_sequence(table: str, kind: str) -> None:
    """TorchRec 1.8.0's EmbeddingCollection cuts no table over the ranks of a host.

    It has data_parallel, but the dense kernel of FBGEMM 1.8.0 sums a row's ids on a CPU where it should leave them
    apart; on a GPU nobody has tried.
    """
    if kind not in OF_SEQUENCES:
        raise DataError(
            f"{kind} is for pooled columns, and this one is read as a sequence",
            column=table,
            remedy=f"parallel.tables.{table}={', '.join(OF_SEQUENCES[:-1])} or {OF_SEQUENCES[-1]}",
        )


def check_cuts(table: str, num_shards: int, others: Mapping[str, int]) -> None:
    """TorchRec's EmbeddingCollection cuts the rows of all its column-wise tables into equally many parts."""
    for other, theirs in others.items():
        if theirs != num_shards:
            raise DataError(
                f"column-wise sequences are cut alike: {table} into {num_shards} parts, {other} into {theirs}",
                column=table,
                remedy=f"parallel.tables.{table}.ranks=[…] as many as {other} has, or parallel.tables.{table}=row_wise",
            )


def check_width(table: str, dim: int, num_shards: int, kind: str) -> None:
    """Column shards are alike, and FBGEMM's rows are of 16 bytes or a multiple."""
    if dim % (4 * num_shards):
        wide = 4 * num_shards * -(-dim // (4 * num_shards))
        raise DataError(
            f"{kind}: {dim} columns cannot be cut into {num_shards} shards of a multiple of 4",
            column=table,
            remedy=f"model.dim={wide}, model.dims.{table}={wide}, or parallel.tables.{table}=row_wise",
        )


def check_row_moments(table: str, optimizer: str, num_shards: int, kind: str) -> None:
    """Row-wise Adagrad divides by a moment of the whole row, which no column shard sees."""
    if optimizer == "rowwise_adagrad" and num_shards > 1:
        raise DataError(
            f"{kind} with row-wise Adagrad would give each of {num_shards} column shards a row moment of its own, "
            "another optimizer",
            column=table,
            remedy=f"training.sparse.optimizer=adagrad, training.sparse.tables.{table}.optimizer=adagrad, "
            f"or parallel.tables.{table}=row_wise",
        )


def check_kernel(table: str, kind: str, kernel: str | None, device: str) -> str:
    """The kernel that a table gets: FBGEMM's fused one, or the dense one where every rank holds the table whole."""
    allowed = ("dense",) if kind == "data_parallel" else FUSED if device == "cuda" else FUSED[:1]
    if kernel is None or kernel in allowed:
        return kernel or allowed[0]
    why = {
        "dense": "the dense kernel would leave the table to the dense part's Adam, another optimizer",
        "fused": "data_parallel tables have no fused kernel",
    }.get(kernel, "there is no such kernel" if kernel not in FUSED else f"{kernel} is for GPUs and sharded tables")
    remedy = f"parallel.tables.{table}.kernel={' or '.join(allowed)}"
    raise DataError(f"{kind}: {why}", column=table, value=kernel, remedy=remedy)


def _check_host(
    table: str, kind: str, ranks: Sequence[int] | None, host: int, world_size: int, ranks_per_host: int
) -> None:
    if ranks is not None:
        raise _refused(table, kind, "host", host, "host or ranks, not both")
    if kind not in ("table_wise", "table_row_wise", "table_column_wise"):
        raise _refused(table, kind, "host", host, f"no host of its own: {kind} goes over all of them")
    if not 0 <= host < max(1, world_size // ranks_per_host):
        raise _refused(table, kind, "host", host, f"a host from 0 to {world_size // ranks_per_host - 1}")


def _check_whole_hosts(table: str, kind: str, ranks: list[int], ranks_per_host: int) -> None:
    hosts = [rank // ranks_per_host for rank in ranks[::ranks_per_host]]
    if ranks != [rank for host in hosts for rank in ranks_of_host(host, ranks_per_host)]:
        wanted = list(ranks_of_host(hosts[0], ranks_per_host))
        raise _refused(table, kind, "ranks", ranks, f"all ranks of a host in order, such as {wanted}")
    if kind != "grid" and len(hosts) > 1:
        raise _refused(table, kind, "ranks", ranks, "the ranks of one host; or grid, which goes over several")


def _refused(table: str, kind: str, key: str, value: object, wanted: str) -> DataError:
    return DataError(
        f"{kind} cannot have these {key}", column=table, value=value, remedy=f"parallel.tables.{table}.{key}: {wanted}"
    )
