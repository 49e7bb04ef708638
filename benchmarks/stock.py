"""The peers' reference: TorchRec's stock modules and a plain loop around them, with the same shapes and mathematics.

The model's modules, the initial weights, the batches, the table optimizer and TorchRec's own pipeline are c2al's or the
same as c2al's; the plan is made by TorchRec's ``construct_module_sharding_plan``. What it does not have is what c2al
adds: its optimizer with the finite check, its loop, its log, its pulse. Gradients are clipped by TorchRec's
``GradientClippingOptimizer`` where c2al clips, else the two would train different models.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.distributed import sharding_plan
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.types import ParameterSharding, ShardingPlan
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.clipping import GradientClipping, GradientClippingOptimizer
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from c2al.batch import Batch
from c2al.embedding.tables import table_name, table_of
from c2al.parallel.pipelines import pipeline
from c2al.parallel.plan import Placement
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import TABLE_OPTIMIZERS, Tables, fill_tables, find_tables, weights_of
from c2al.schema import Schema
from c2al.training import build
from c2al.training.auxiliaries import auxiliaries
from c2al.training.table_options import table_rates


class Stock:
    """``step()`` trains on the next batch and gives the primary head's loss."""

    def __init__(
        self,
        config: DictConfig,
        schema: Schema,
        placements: Sequence[Placement],
        ranks: Ranks,
        batches: Sequence[Batch],
    ) -> None:
        model = build.build_training_model(config, schema, auxiliaries(config, schema))
        build.prepare_dense(
            model.ranker, config.training.precision, compiled=config.training.compile, device=ranks.device
        )
        found = find_tables(model)
        rates = table_rates(config)
        weights = {name: weight for tables in found.values() for name, weight in weights_of(tables).items()}
        for each in placements:
            if each.sharding != "data_parallel":
                weight = weights[table_name(each.table)]
                options = rates.of(each.table).options(each.optimizer)
                apply_optimizer_in_backward(TABLE_OPTIMIZERS[each.optimizer], [weight], options)
        plans = {path: _plan(tables, placements, ranks) for path, tables in found.items()}
        self.sharded = DistributedModelParallel(
            model,
            device=ranks.device,
            plan=ShardingPlan(plan=plans),
            sharders=[EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()],  # type: ignore[list-item]
        )
        fill_tables(self.sharded, seed=config.seed, init=config.model.init)
        self.optimizer = self._optimizer(config, placements)
        self.pipeline = pipeline(config.parallel.pipeline, self.sharded, self.optimizer, ranks.device)
        self.batches: Iterator[Batch] = itertools.cycle(batches)

    def step(self) -> torch.Tensor:
        """The plain loop's body."""
        losses_H, _ = self.pipeline.progress(self.batches)
        return losses_H[0]

    def _optimizer(self, config: DictConfig, placements: Sequence[Placement]) -> KeyedOptimizer:
        """Fused tables, data-parallel ones by the same rule, and Adam with clipping for the dense part."""
        named = dict(in_backward_optimizer_filter(self.sharded.named_parameters()))
        parts: list[KeyedOptimizer] = [self.sharded.fused_optimizer]
        rates = table_rates(config)
        for each in placements:
            if each.sharding == "data_parallel":
                name = next(name for name in named if table_of(name) == table_name(each.table))
                maker, options = TABLE_OPTIMIZERS[each.optimizer], rates.of(each.table).options(each.optimizer)
                parts.append(_keyed({name: named.pop(name)}, maker, options))
        dense = config.training.dense
        adam = {"lr": dense.learning_rate, "weight_decay": dense.weight_decay, "fused": True}
        part = _keyed({name: each for name, each in named.items() if table_of(name) is None}, torch.optim.Adam, adam)
        if norm := config.training.max_grad_norm:
            part = GradientClippingOptimizer(part, clipping=GradientClipping.NORM, max_gradient=norm)
        return CombinedOptimizer([*parts, part])


def _keyed(parameters: dict[str, nn.Parameter], maker: type, options: dict) -> KeyedOptimizer:
    return KeyedOptimizerWrapper(parameters, lambda each: maker(each, **options))


def _plan(tables: Tables, placements: Sequence[Placement], ranks: Ranks) -> Any:
    """Of one collection."""
    pooled = isinstance(tables, EmbeddingBagCollection)
    return sharding_plan.construct_module_sharding_plan(
        tables,
        {
            name: _generator(each, ranks)
            for each in placements
            if (name := table_name(each.table)) in weights_of(tables)
        },
        sharder=EmbeddingBagCollectionSharder() if pooled else EmbeddingCollectionSharder(),  # type: ignore[arg-type]
        local_size=ranks.local_world_size,
        world_size=ranks.world_size,
        device_type=ranks.device.type,
    )


def _generator(placement: Placement, ranks: Ranks) -> sharding_plan.ParameterShardingGenerator:
    """TorchRec's own words for a placement. It has none for ``table_column_wise``: its shards are column-wise ones."""
    kind, hosts = placement.sharding, [rank // ranks.local_world_size for rank in placement.ranks]
    if kind == "data_parallel":
        return sharding_plan.data_parallel()
    if kind == "table_wise":
        return sharding_plan.table_wise(rank=placement.ranks[0], compute_kernel=placement.kernel)
    if kind == "row_wise":
        return sharding_plan.row_wise(compute_kernel=placement.kernel)
    if kind == "table_row_wise":
        return sharding_plan.table_row_wise(host_index=hosts[0])
    if kind == "grid":
        return sharding_plan.grid_shard(host_indexes=list(dict.fromkeys(hosts)))
    by_columns = sharding_plan.column_wise(ranks=list(placement.ranks), compute_kernel=placement.kernel)

    def named(*args: Any) -> ParameterSharding:
        return replace(by_columns(*args), sharding_type=kind)

    return named
