"""Reports of previewed plans, small enough to read."""

PARTS = ("weights", "optimizer", "dense", "activations")
MIB = 2**20


def milliseconds(total):
    parts = ("input_comms", "forward_compute", "forward_comms", "backward_compute", "backward_comms")
    return {**dict.fromkeys(parts, total / 5), "total": total}


def rank(weights, optimizer, dense, activations, ms):
    held = zip(PARTS, (weights, optimizer, dense, activations), strict=True)
    return {**{f"{name}_bytes": size * MIB for name, size in held}, "ms": milliseconds(ms)}


def report(ranks=None, *, limit=100, **own):
    """Two tables, one whole on rank 0, one cut over four ranks of two hosts."""
    ranks = ranks or [rank(30, 20, 10, 20, 4.0), *[rank(10, 10, 10, 20, 2.0)] * 3]
    totals = [sum(each[f"{part}_bytes"] for part in PARTS) for each in ranks]
    over = [i for i, total in enumerate(totals) if limit and total > limit * MIB]
    shard = {"weight_bytes": 10 * MIB, "optimizer_bytes": 10 * MIB, "ms": milliseconds(2.0)}
    whole = {"weight_bytes": 20 * MIB, "optimizer_bytes": 10 * MIB, "ms": milliseconds(2.0)}
    tables = [
        {"table": "user", "num_rows": 1_234_567, "dim": 8, "sharding": "row_wise", "ranks": [0, 1, 2, 3]},
        {"table": "item", "num_rows": 10, "dim": 8, "sharding": "table_wise", "ranks": [0]},
    ]
    return {
        "sharding": "auto",
        "world_size": len(ranks),
        "ranks_per_host": 2,
        "device": "cuda",
        "fits": not over,
        "first_over": over[0] if over else None,
        "limit_bytes": limit and limit * MIB,
        "heaviest_bytes": max(totals),
        "balance": 1.23,
        "cost_balance": 1.6,
        "step_ms": 4.0,
        "tables": [{**tables[0], "shards": [shard] * 4}, {**tables[1], "shards": [whole]}],
        "ranks": ranks,
    } | own
