"""Distribution, applied from outside, in one order: meta tables -> fused optimizer -> plan -> shard -> fill the shards.

One rank takes the same way as many: fused FBGEMM tables behind TorchRec's DistributedModelParallel.
"""

import zlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import (
    DataParallelWrapper,
    DefaultDataParallelWrapper,
    DistributedModelParallel,
)
from torchrec.distributed.sharding_plan import (
    ParameterShardingGenerator,
    column_wise,
    construct_module_sharding_plan,
    row_wise,
    table_row_wise,
    table_wise,
)
from torchrec.distributed.types import ShardingEnv, ShardingPlan
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from c2al.embedding.tables import table_name
from c2al.parallel.plan import Placement
from c2al.parallel.ranks import Ranks

TABLE_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "rowwise_adagrad": RowWiseAdagrad}
ROWS_PER_DRAW = 65_536


def shard(
    model: nn.Module,
    *,
    placements: Sequence[Placement],
    optimizer: str,
    learning_rate: float,
    eps: float,
    ranks: Ranks,
    seed: int,
) -> DistributedModelParallel:
    """Give the model's tables their fused optimizer and places, its dense part to every rank."""
    path, tables = find_tables(model)
    options = {"lr": learning_rate} if optimizer == "sgd" else {"lr": learning_rate, "eps": eps}
    apply_optimizer_in_backward(TABLE_OPTIMIZERS[optimizer], tables.parameters(), options)
    plan = construct_module_sharding_plan(
        tables,
        per_param_sharding={table_name(each.table): _generator(each, ranks) for each in placements},
        sharder=EmbeddingBagCollectionSharder(),
        local_size=ranks.local_world_size,
        world_size=ranks.world_size,
        device_type=ranks.device.type,
    )
    group = dist.GroupMember.WORLD
    assert group is not None, "join the process group first"
    sharded = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(group),
        device=ranks.device,
        plan=ShardingPlan(plan={path: plan}),
        sharders=[EmbeddingBagCollectionSharder()],
        data_parallel_wrapper=DefaultDataParallelWrapper() if ranks.world_size > 1 else OneRank(),
    )
    fill_tables(sharded, seed=seed)
    return sharded


class OneRank(DataParallelWrapper):
    """No DDP around the dense part of a single rank: it would copy gradients and sum them with nobody's."""

    def wrap(self, dmp: DistributedModelParallel, env: ShardingEnv, device: torch.device) -> None:
        """Only move it to the device."""
        dmp.module.to(device)


def find_tables(model: nn.Module) -> tuple[str, EmbeddingBagCollection]:
    """The dotted path and the module of the model's tables, before sharding."""
    return next((path, each) for path, each in model.named_modules() if isinstance(each, EmbeddingBagCollection))


def table_shards(sharded: nn.Module) -> dict[str, list[tuple[torch.Tensor, list[int]]]]:
    """For every table, this rank's shards as (tensor, [first row, first column]); the tensors are the live weights."""
    shards: dict[str, list[tuple[torch.Tensor, list[int]]]] = {}
    for name, value in sharded.state_dict().items():
        if ".embedding_bags." in name:
            table = name.split(".embedding_bags.")[1].split(".")[0]
            local = value.local_shards() if hasattr(value, "local_shards") else None
            shards[table] = [(each.tensor, each.metadata.shard_offsets) for each in local] if local is not None else []
    return shards


@torch.no_grad()
def fill_tables(sharded: nn.Module, *, seed: int) -> None:
    """Draw every table's initial rows, U(-a, a) with a = 1 / sqrt(rows), the same whatever the plan or the arm.

    A block of rows is drawn from (seed, table, block) and each rank keeps its rectangle, so no rank ever holds a table
    that it does not own, and two plans start from equal weights.
    """
    for table, shards in table_shards(sharded).items():
        num_rows, dim = _full_size(sharded, table)
        for tensor, (first_row, first_column) in shards:
            last_row = first_row + tensor.shape[0]
            for block in range(first_row // ROWS_PER_DRAW, -(-last_row // ROWS_PER_DRAW)):
                start = block * ROWS_PER_DRAW
                drawn = _draw(seed, table, block, rows=min(ROWS_PER_DRAW, num_rows - start), dim=dim)
                drawn.mul_(num_rows**-0.5)
                low, high = max(first_row, start), min(last_row, start + len(drawn))
                part = drawn[low - start : high - start, first_column : first_column + tensor.shape[1]]
                tensor[low - first_row : high - first_row].copy_(part)


def _draw(seed: int, table: str, block: int, *, rows: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{table}/{block}".encode()) + (seed << 32))
    return torch.rand(rows, dim, generator=generator).mul_(2).sub_(1)


def _full_size(sharded: nn.Module, table: str) -> tuple[int, int]:
    name = next(name for name in sharded.state_dict() if f".embedding_bags.{table}." in name)
    rows, dim = sharded.state_dict()[name].size()
    return rows, dim


def _generator(placement: Placement, ranks: Ranks) -> ParameterShardingGenerator:
    if placement.sharding == "table_wise":
        return table_wise(rank=placement.ranks[0])
    if placement.sharding == "column_wise":
        return column_wise(ranks=list(placement.ranks))
    if placement.sharding == "table_row_wise":
        return table_row_wise(host_index=placement.ranks[0] // ranks.local_world_size)
    return row_wise()
