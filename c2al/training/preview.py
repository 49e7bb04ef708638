"""A config's sharding plan before any rank starts: what each would hold and spend, whether it fits, and what would."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from c2al.data.footers import mean_ids
from c2al.model import TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel.estimate import Cluster, Cost, estimate, rank_costs
from c2al.parallel.memory import RankMemory, StepShape, dense_memory, rank_memory
from c2al.parallel.plan import SHARDINGS, Placement, rank_bytes
from c2al.parallel.search import least_world_size
from c2al.parallel.shard import find_tables
from c2al.schema import DataError, Schema
from c2al.training.auxiliaries import planned
from c2al.training.build import build_ranker, chosen_columns, place, prepare_dense
from c2al.training.preview_settings import check_preview
from c2al.training.settings import check_columns, check_settings

GIB = 2**30


@dataclass(frozen=True)
class Preview:
    """A plan in numbers. ``limit`` is what a device may hold (bytes), None where nobody said."""

    sharding: str
    cluster: Cluster
    limit: int | None
    placements: Sequence[Placement]
    costs: dict[str, list[Cost]]  # of each table's shards
    memory: Sequence[RankMemory]

    @cached_property
    def rank_costs(self) -> list[Cost]:
        """Of each rank, its shards one after another."""
        return rank_costs(self.placements, self.costs, self.cluster.world_size)

    @property
    def step_ms(self) -> float:
        """The slowest rank's: the others wait for it."""
        return max(cost.total for cost in self.rank_costs)

    @property
    def heaviest(self) -> int:
        """Bytes of the rank that holds the most."""
        return max(each.total for each in self.memory)

    @property
    def first_over(self) -> int | None:
        """The first rank that does not fit its device."""
        over = (rank for rank, each in enumerate(self.memory) if self.limit is not None and each.total > self.limit)
        return next(over, None)

    def summary(self) -> dict[str, Any]:
        """One line of a comparison."""
        return {
            "sharding": self.sharding,
            "fits": self.first_over is None,
            "heaviest_bytes": self.heaviest,
            "balance": balance([each.total for each in self.memory]),
            "step_ms": self.step_ms,
        }

    def report(self) -> dict[str, Any]:
        """All of it as plain values, for JSON, tables and pictures."""
        return {
            **self.summary(),
            "cost_balance": balance([cost.total for cost in self.rank_costs]),
            **{name: value for name, value in asdict(self.cluster).items()},
            "limit_bytes": self.limit,
            "first_over": self.first_over,
            "tables": [self._table(each) for each in self.placements],
            "ranks": [
                {**{f"{name}_bytes": value for name, value in asdict(held).items()}, "ms": _ms(cost)}
                for held, cost in zip(self.memory, self.rank_costs, strict=True)
            ],
        }

    def _table(self, placement: Placement) -> dict[str, Any]:
        held = rank_bytes([placement], world_size=self.cluster.world_size)
        shards = [
            {**asdict(shard), **held[shard.rank], "ms": _ms(cost)}
            for shard, cost in zip(placement.shards(), self.costs[placement.table], strict=True)
        ]
        return {**asdict(placement), "shards": shards}


class Planner:
    """Previews one config, composed from ``conf/plan.yaml``, on clusters of any size; looks at model and data once.

    Needs ``schema.yaml`` alone; where there are training files, one footer for the mean number of ids. No table is
    allocated, whatever its size. Raises a DataError at what cannot be.
    """

    def __init__(self, config: DictConfig, schema: Schema) -> None:
        check_settings(config)
        check_columns(config, schema)
        check_preview(config, schema)
        options = config.parallel
        self.config, self.schema = config, schema
        self.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.limit = _limit(options.memory_gib, options.headroom, self.device)
        sparse, dense = chosen_columns(config, schema)
        pipeline = {"auto": "sparse_dist" if self.device == "cuda" else "base"}.get(options.pipeline, options.pipeline)
        self.shape = StepShape(
            batch_size=config.training.batch_size,
            num_dense=len(dense),
            num_axes=planned(config, schema)[1],
            ids_per_row=mean_ids(config.data.path, sparse) | dict(config.ids_per_row),
            pipeline=pipeline,
        )
        model = _model(config, schema)
        self.tables = nn.ModuleList(find_tables(model).values())
        self.dense = dense_memory(model, self.shape, averaged=config.training.average is not None)

    def place(self, sharding: str | None = None, world_size: int | None = None) -> list[Placement]:
        """Tables by the config's plan, with what single tables have of their own, or by one sharding for all."""
        config, options = self.config, self.config.parallel
        if sharding not in (None, self.config.parallel.sharding):
            config = copy.deepcopy(config)
            config.parallel.sharding, config.parallel.tables = sharding, {}
        return place(
            config,
            self.schema,
            world_size=world_size or options.world_size,
            ranks_per_host=options.ranks_per_host,
            device=self.device,
        )

    def preview(self, sharding: str | None = None, world_size: int | None = None) -> Preview:
        """Of one plan and size."""
        options = self.config.parallel
        placements = self.place(sharding, world_size)
        cluster = self._cluster(world_size or options.world_size)
        costs = estimate(
            placements,
            self.tables,
            cluster=cluster,
            batch_size=self.shape.batch_size,
            ids_per_row=self.shape.ids_per_row,
        )
        memory = self._memory(placements, cluster.world_size)
        return Preview(sharding or options.sharding, cluster, self.limit, placements, costs, memory)

    def report(self) -> dict[str, Any]:
        """``Preview.report()`` of the config's own plan and size, with the remedy where it does not fit."""
        preview = self.preview()
        return preview.report() | ({} if preview.first_over is None else {"remedy": self.remedy()})

    @property
    def comparable(self) -> list[str]:
        """All shardings, the config's own plan among them."""
        return list(dict.fromkeys([self.config.parallel.sharding, "auto", *SHARDINGS]))

    def compare(self, shardings: Sequence[str]) -> dict[str, Any]:
        """``plans``, a line for each sharding: those that fit first, the quickest of them on top; refused ones last."""
        for sharding in shardings:
            if sharding not in self.comparable:
                raise DataError("no such sharding", value=sharding, remedy=f"compare={self.comparable}")
        lines = [self._line(sharding) for sharding in shardings]
        cluster = {**asdict(self._cluster(self.config.parallel.world_size)), "limit_bytes": self.limit}
        order = sorted(lines, key=lambda line: ("refused" in line, not line["fits"], line.get("step_ms", 0.0)))
        return {**cluster, "plans": order}

    def would_fit(self, sharding: str | None = None) -> int | None:
        """The least number of ranks on which a plan fits; None if no number up to 4,096 does."""
        assert self.limit is not None
        try:
            placements = self.place(sharding)
        except DataError:  # refused on as many ranks as the config says; on others it may do
            placements = []
        whole = [replace(each, sharding="table_wise", ranks=(0,)) for each in placements]
        alone = self._memory(whole, 1)[0]
        return least_world_size(
            lambda world_size: self._fits(sharding, world_size),
            ranks_per_host=self.config.parallel.ranks_per_host,
            at_least=max(1, (alone.weights + alone.optimizer) // self.limit),  # all ranks hold no less
        )

    def remedy(self) -> str:
        """What would make the config's plan fit, in one line."""
        own, hosts = self.config.parallel.sharding, self.config.parallel.ranks_per_host
        if ranks := self.would_fit():
            return f"{own} would fit on {ranks:,} ranks{_hosts(ranks, hosts)}"
        others = {kind: ranks for kind in SHARDINGS if kind != own and (ranks := self.would_fit(kind))}
        if not others:
            return f"{own} fits on no number of ranks, nor does any other sharding: lower model.dim or batch_size"
        best = min(others, key=lambda kind: others[kind])
        return f"{own} fits on no number of ranks; {best} would, on {others[best]:,} ranks{_hosts(others[best], hosts)}"

    def _cluster(self, world_size: int) -> Cluster:
        options = self.config.parallel
        return Cluster(world_size, options.ranks_per_host, self.device, dict(options.bandwidths))

    def _line(self, sharding: str) -> dict[str, Any]:
        try:
            return self.preview(sharding).summary()
        except DataError as refused:
            return {"sharding": sharding, "fits": False, "refused": str(refused)}

    def _fits(self, sharding: str | None, world_size: int) -> bool:
        try:
            memory = self._memory(self.place(sharding, world_size), world_size)
        except DataError:  # this sharding cannot be cut into so many
            return False
        assert self.limit is not None
        return max(each.total for each in memory) <= self.limit

    def _memory(self, placements: Sequence[Placement], world_size: int) -> list[RankMemory]:
        return rank_memory(placements, self.dense, self.shape, world_size=world_size)


def balance(values: Sequence[float]) -> float:
    """The heaviest over the mean; 1 is even."""
    mean = sum(values) / len(values)
    return max(values) / mean if mean else 1.0


def _ms(cost: Cost) -> dict[str, float]:
    return {**asdict(cost), "total": cost.total}


def _hosts(ranks: int, ranks_per_host: int) -> str:
    return f" ({ranks // ranks_per_host:,} hosts of {ranks_per_host})" if ranks > ranks_per_host else ""


def _model(config: DictConfig, schema: Schema) -> TrainingModel:
    """The training model without what only data can say: base rates, and which cohorts the heads are for."""
    heads, _ = planned(config, schema)
    ranker = build_ranker(config, schema, num_heads=1 + heads)
    prepare_dense(ranker, config.training.precision, compiled=False, device=torch.device("cpu"))
    plain = Fixed(weights=[1.0] * (1 + heads))  # a method's own weights are a few numbers, and need real gradients
    return TrainingModel(ranker, plain, auxiliaries=[(0, 0)] * heads)


def _limit(memory_gib: float | None, headroom: float, device: str) -> int | None:
    if memory_gib is not None:
        return int(memory_gib * GIB * (1 - headroom))
    if device == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory * (1 - headroom))
    return None
