"""Distribution, applied from outside, in one order: meta tables -> fused optimizer -> plan -> shard -> fill the shards.

One rank takes the same way as many: fused FBGEMM tables behind TorchRec's DistributedModelParallel.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec import EnumerableShardingSpec
from torch.distributed.optim import _apply_optimizer_in_backward
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs_registry
from torchrec.distributed.model_parallel import (
    DataParallelWrapper,
    DefaultDataParallelWrapper,
    DistributedModelParallel,
)
from torchrec.distributed.sharding_plan import placement as device_of
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingEnv, ShardingPlan
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from c2al.embedding.tables import table_name, table_of
from c2al.parallel.plan import Placement
from c2al.parallel.ranks import Ranks
from c2al.schema import DataError

TABLE_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "rowwise_adagrad": RowWiseAdagrad}
TORCHREC_NAMES = {"grid": "grid_shard"}  # where they differ from c2al's
PRECISIONS = {"fp32": CommType.FP32, "fp16": CommType.FP16, "bf16": CommType.BF16}
ROWS_PER_DRAW = 65_536
Tables: TypeAlias = EmbeddingBagCollection | EmbeddingCollection


@dataclass(frozen=True)
class Rates:
    """A table optimizer's learning rate and eps, the latter unused by SGD."""

    learning_rate: float
    eps: float

    def options(self, optimizer: str) -> dict[str, float]:
        """As torch's optimizers and FBGEMM's take them."""
        return {"lr": self.learning_rate} if optimizer == "sgd" else {"lr": self.learning_rate, "eps": self.eps}


@dataclass(frozen=True)
class TableRates:
    """Of all tables, and of those that have their own."""

    all: Rates
    own: Mapping[str, Rates] = field(default_factory=dict)

    def of(self, table: str) -> Rates:
        """By column."""
        return self.own.get(table, self.all)


def shard(
    model: nn.Module,
    *,
    placements: Sequence[Placement],
    rates: TableRates,
    ranks: Ranks,
    seed: int,
    init: float | None = None,
    communication: str = "fp32",
    ddp_bucket_mib: int = 25,
) -> DistributedModelParallel:
    """Give the model's tables their fused optimizer and places, its dense part to every rank.

    Data-parallel tables get no fused optimizer: ``optimizers.replicated`` steps them by the same rule.
    ``communication`` is the precision of rows, pooled or not, and their gradients on the way between ranks. ``init``:
    see ``fill_tables``.
    """
    found = find_tables(model)
    weight = {name: each for tables in found.values() for name, each in weights_of(tables).items()}
    for each in placements:
        if each.sharding != "data_parallel":
            options = rates.of(each.table).options(each.optimizer)
            _apply_optimizer_in_backward(TABLE_OPTIMIZERS[each.optimizer], [weight[table_name(each.table)]], options)
    of_table = {table_name(each.table): _sharding(each, ranks) for each in placements}
    plan = {
        path: EmbeddingModuleShardingPlan({name: of_table[name] for name in weights_of(tables)})
        for path, tables in found.items()
    }
    codecs = _codecs(communication, ranks)
    group = dist.GroupMember.WORLD
    assert group is not None, "join the process group first"
    sharded = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(group),
        device=ranks.device,
        plan=ShardingPlan(plan=dict(plan)),
        sharders=[
            EmbeddingBagCollectionSharder(qcomm_codecs_registry=codecs),
            EmbeddingCollectionSharder(qcomm_codecs_registry=codecs),
        ],
        data_parallel_wrapper=(
            DefaultDataParallelWrapper(bucket_cap_mb=ddp_bucket_mib) if ranks.world_size > 1 else OneRank()
        ),
    )
    fill_tables(sharded, seed=seed, init=init)
    return sharded


class OneRank(DataParallelWrapper):
    """No DDP around the dense part of a single rank: it would copy gradients and sum them with nobody's."""

    def wrap(self, dmp: DistributedModelParallel, env: ShardingEnv, device: torch.device) -> None:
        """Only move it to the device."""
        dmp.module.to(device)


def find_tables(model: nn.Module) -> dict[str, Tables]:
    """The model's collections of tables by dotted path, before sharding: the pooled ones, then those of sequences."""
    return {path: each for path, each in model.named_modules() if isinstance(each, Tables)}


def weights_of(tables: Tables) -> dict[str, nn.Parameter]:
    """A collection's weights by table, before sharding."""
    inside = tables.embedding_bags if isinstance(tables, EmbeddingBagCollection) else tables.embeddings
    return {name: table.weight for name, table in inside.items()}


def table_shards(sharded: nn.Module) -> dict[str, list[tuple[torch.Tensor, list[int]]]]:
    """For every table, this rank's shards as (tensor, [first row, first column]); the tensors are the live weights.

    A data-parallel table is one shard on every rank.
    """
    shards: dict[str, list[tuple[torch.Tensor, list[int]]]] = {}
    for name, value in sharded.state_dict().items():
        if (table := table_of(name)) is not None:
            if hasattr(value, "local_shards"):
                shards[table] = [(each.tensor, each.metadata.shard_offsets) for each in value.local_shards()]
            else:
                shards[table] = [(value, [0, 0])]
    return shards


@torch.no_grad()
def fill_tables(sharded: nn.Module, *, seed: int, init: float | None = None) -> None:
    """Draw every table's initial rows, U(-init, init), the same whatever the plan or the arm.

    Without ``init`` each table's is 1 / sqrt(rows).

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
                drawn.mul_(num_rows**-0.5 if init is None else init)
                low, high = max(first_row, start), min(last_row, start + len(drawn))
                part = drawn[low - start : high - start, first_column : first_column + tensor.shape[1]]
                tensor[low - first_row : high - first_row].copy_(part)


def _draw(seed: int, table: str, block: int, *, rows: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{table}/{block}".encode()) + (seed << 32))
    return torch.rand(rows, dim, generator=generator).mul_(2).sub_(1)


def _full_size(sharded: nn.Module, table: str) -> tuple[int, int]:
    name = next(name for name in sharded.state_dict() if table_of(name) == table)
    rows, dim = sharded.state_dict()[name].size()
    return rows, dim


def _sharding(placement: Placement, ranks: Ranks) -> ParameterSharding:
    """TorchRec's words for a placement: its rectangles are ours, not those that TorchRec would cut."""
    kind = TORCHREC_NAMES.get(placement.sharding, placement.sharding)
    if kind == "data_parallel":
        return ParameterSharding(kind, EmbeddingComputeKernel.DENSE.value, list(placement.ranks))
    spec = EnumerableShardingSpec(
        [
            ShardMetadata(
                shard_offsets=[each.first_row, each.first_column],
                shard_sizes=[each.rows, each.columns],
                placement=device_of(ranks.device.type, each.rank, ranks.local_world_size),
            )
            for each in placement.shards()
        ]
    )
    return ParameterSharding(kind, placement.kernel, list(placement.ranks), spec)


def _codecs(communication: str, ranks: Ranks) -> dict | None:
    if communication == "fp32":
        return None
    if ranks.device.type != "cuda":
        raise DataError(
            "quantised communication is NCCL's, and this run talks over gloo",
            value=f"parallel.communication={communication}",
            remedy="parallel.communication=fp32 on a CPU",
        )
    precision = PRECISIONS[communication]
    return get_qcomm_codecs_registry(
        QCommsConfig(forward_precision=precision, backward_precision=precision), device=ranks.device
    )
