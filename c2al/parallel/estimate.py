"""What a sharding plan's tables cost in a step, by the model that TorchRec's own planner ranks plans with.

A model of hardware constants, not a measurement: bytes moved by a step's lookups and collectives, over bandwidths that
TorchRec takes from constants (HBM 897 GiB/s, DDR 51 GiB/s, 600 GiB/s within a host, 12.5 GiB/s between hosts) or from
``parallel.bandwidths``. It knows neither latency nor overlap, caches nor the optimizer's arithmetic, nothing of the
dense part, and on a CPU nothing of gloo. It tells plans apart better than it tells milliseconds:
``benchmarks/sharding_plans.py`` sets it beside measured steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    ParameterConstraints,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.planner.types import Shard as PlannedShard
from torchrec.distributed.types import ShardingType

from c2al.embedding.tables import table_name
from c2al.parallel.plan import Placement, Shard
from c2al.parallel.shard import TORCHREC_NAMES

GIB_PER_S = 2**30 / 1000  # in bytes a ms, the planner's unit


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one step: ids sent, rows looked up, pooled rows sent, and the way back."""

    input_comms: float = 0.0
    forward_compute: float = 0.0
    forward_comms: float = 0.0
    backward_compute: float = 0.0
    backward_comms: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    @property
    def total(self) -> float:
        """Of all parts, one after another."""
        return sum(asdict(self).values())

    @property
    def comms(self) -> float:
        """The share that travels between ranks."""
        return self.input_comms + self.forward_comms + self.backward_comms


@dataclass(frozen=True)
class Cluster:
    """Where a plan would run. ``bandwidths`` in GiB/s by ``hbm``, ``ddr``, ``intra_host``, ``inter_host``."""

    world_size: int
    ranks_per_host: int
    device: str
    bandwidths: Mapping[str, float]

    def topology(self) -> Topology:
        """As TorchRec's planner takes it."""
        given = {name: value * GIB_PER_S for name, value in self.bandwidths.items()}
        return TopologyFactory.create_topology(
            trainer_config=TrainerConfig(
                world_size=self.world_size, local_world_size=min(self.ranks_per_host, self.world_size)
            ),
            hardware_config=HardwareConfig(
                hbm_mem_bw=given.get("hbm"),
                ddr_mem_bw=given.get("ddr"),
                intra_host_bw=given.get("intra_host"),
                inter_host_bw=given.get("inter_host"),
            ),
            kernel_config=KernelConfig(compute_device=self.device, use_hardware_based_bandwidth=True),
        )


class _AnySharding(EmbeddingBagCollectionSharder):
    """Every kind of sharding on every device: which one a table gets is decided already, only its cost is asked."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [kind.value for kind in ShardingType]


class _AnySequenceSharding(EmbeddingCollectionSharder):
    """The same for tables of sequences."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [kind.value for kind in ShardingType]


def estimate(
    placements: Sequence[Placement],
    tables: nn.Module,
    *,
    cluster: Cluster,
    batch_size: int,
    ids_per_row: Mapping[str, float],
) -> dict[str, list[Cost]]:
    """For every table, the cost of each of its shards, in the order of ``Placement.shards()``.

    ``tables``, one collection or several, are on the meta device; ``batch_size`` is of one rank; ``ids_per_row`` is a
    column's mean number of ids (1 where it is not named). The shards are the plan's own, not those that TorchRec's
    enumerator would cut.
    """
    constraints = {table_name(each.table): _constraint(each, ids_per_row.get(each.table, 1.0)) for each in placements}
    sharders: list[Any] = [_AnySharding(), _AnySequenceSharding()]
    enumerator = EmbeddingEnumerator(cluster.topology(), batch_size, constraints)
    options = {option.name: option for option in enumerator.enumerate(tables, sharders)}
    sizes = {each.table: list(dict.fromkeys(_size(shard) for shard in each.shards())) for each in placements}
    for each in placements:  # enumerated whole, which is quick, and only then cut as the plan cuts it
        option = options[table_name(each.table)]
        option.sharding_type = TORCHREC_NAMES.get(each.sharding, each.sharding)
        option.compute_kernel = each.kernel
        option.shards = [PlannedShard(size=list(size), offset=[0, 0]) for size in sizes[each.table]]
    enumerator.populate_estimates(list(options.values()))
    found = {}
    for each in placements:
        shards = options[table_name(each.table)].shards
        by_size = {size: _cost(shard.perf) for size, shard in zip(sizes[each.table], shards, strict=True)}
        found[each.table] = [by_size[_size(shard)] for shard in each.shards()]
    return found


def _size(shard: Shard) -> tuple[int, int]:
    return shard.rows, shard.columns


def rank_costs(placements: Sequence[Placement], costs: Mapping[str, Sequence[Cost]], world_size: int) -> list[Cost]:
    """What each rank spends on its shards, one after another."""
    totals = [Cost()] * world_size
    for each in placements:
        for shard, cost in zip(each.shards(), costs[each.table], strict=True):
            totals[shard.rank] += cost
    return totals


def _constraint(placement: Placement, mean_ids: float) -> ParameterConstraints:
    replicated = placement.sharding == "data_parallel"
    return ParameterConstraints(
        sharding_types=["data_parallel" if replicated else "table_wise"],
        compute_kernels=["dense" if replicated else "fused"],
        pooling_factors=[mean_ids],
    )


def _cost(perf: Any) -> Cost:
    return Cost(
        input_comms=perf.input_dist_comms,
        forward_compute=perf.fwd_compute,
        forward_comms=perf.fwd_comms,
        backward_compute=perf.bwd_compute,
        backward_comms=perf.bwd_comms,
    )
