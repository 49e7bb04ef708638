"""Config to parts: readers, model, objective, and the model distributed over ranks. Knows Hydra and knows no steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from torch import nn

from c2al.data.reader import Reader
from c2al.data.scan import read_columns
from c2al.embedding.dense import DenseTokens
from c2al.embedding.sequences import sequence_tables
from c2al.embedding.tables import embedding_tables, padded
from c2al.embedding.tokens import FeatureTokens
from c2al.heads.assembled import assembled
from c2al.model import Ranker, RowWeights, TrainingModel
from c2al.objectives.weighting import Weighting
from c2al.parallel.batch_norm import normalize_over_ranks
from c2al.parallel.plan import Placement, place_tables
from c2al.parallel.ranks import Ranks, agree, seed_everything
from c2al.parallel.shard import shard
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn
from c2al.training.auxiliaries import Auxiliaries
from c2al.training.sequences import history_and_target, pooled_columns, sequence_places
from c2al.training.settings import first_order
from c2al.training.table_options import own_dims, table_options, table_rates
from c2al.training.trust import instantiated_by


def chosen_columns(config: DictConfig, schema: Schema) -> tuple[list[SparseColumn], list[DenseColumn]]:
    """The columns that ``data.sparse`` and ``data.dense`` name (all, if they name none), in the schema's order."""
    sparse, dense = config.data.sparse, config.data.dense
    return (
        [column for column in schema.sparse if sparse is None or column.name in sparse],
        [column for column in schema.dense if dense is None or column.name in dense],
    )


def build_reader(
    config: DictConfig,
    ranks: Ranks,
    *,
    split: str,
    axes: Sequence[str | CohortAxis],
    shuffle: bool,
    rows: int | None = None,
) -> Reader:
    """A reader of one split for this rank; ``rows`` a rank and step."""
    return Reader(
        folder=config.data.path,
        split=split,
        batch_size=rows or config.training.batch_size,
        axes=axes,
        sparse=config.data.sparse,
        dense=config.data.dense,
        rank=ranks.rank,
        world_size=ranks.world_size,
        shuffle=shuffle,
        seed=config.seed,
        window_rows=config.training.window_rows,
        agree=agree,
    )


def sample_reader(config: DictConfig, ranks: Ranks, rows: int = 256) -> Reader:
    """Batches of a few validation rows, the first of which is the sample that snapshots look at."""
    return build_reader(config, ranks, split="validation", axes=[], shuffle=True, rows=rows)


@dataclass(frozen=True)
class BaseRates:
    """Of the training part: mean row weight, each head's log-odds of its weighted mean label, weight by cohort."""

    mean_weight: float
    logit_H: list[float]
    cohort_weights: list[float]  # of the axis by which rows are weighted; last, of the rows in none of its cohorts

    @property
    def loss_unit(self) -> float:
        """A row's mean weight times the entropy of the primary head's mean label."""
        p = 1 / (1 + math.exp(-self.logit_H[0]))
        return self.mean_weight * -(p * math.log(p) + (1 - p) * math.log1p(-p))


def base_rates(config: DictConfig, schema: Schema, heads: Auxiliaries) -> BaseRates:
    """One scan of the training part's label, weight and axes."""
    names = [name for name in (schema.label, schema.weight) if name]
    columns = read_columns(config.data.path, "train", names, axes=heads.axes)
    label = columns[schema.label].astype(np.float64)
    weight = columns[schema.weight].astype(np.float64) if schema.weight else np.ones_like(label)
    members = [columns[head.axis.column] == head.axis.id_of(head.cohort) for head in heads.heads]
    positive = weight if heads.members else weight * label
    sums = [float((weight * label).sum()), *(float(positive[inside].sum()) for inside in members)]
    rates = [each / float(weight.sum()) for each in sums]
    if schema.weight and not 0 < rates[0] < 1 and 0 < label.mean() < 1:
        raise DataError(
            "the weights of one label vanish beside a row's of the other",
            file=f"{config.data.path}/train",
            column=schema.weight,
            value=float(weight.max()),
            remedy="check the weights, and prepare the data again",
        )
    if not 0 < rates[0] < 1:
        raise DataError(
            "the training part has only one kind of label",
            file=f"{config.data.path}/train",
            column=schema.label,
            value=int(rates[0]),
            remedy="check how the label was made, and prepare the data again",
        )
    logits = [math.log(max(p, 1e-9) / max(1 - p, 1e-9)) for p in rates]
    return BaseRates(float(weight.mean()), logits, _cohort_weights(columns, weight, heads.rows))


def _cohort_weights(columns: dict[str, np.ndarray], weight: np.ndarray, axis: CohortAxis | None) -> list[float]:
    if axis is None:
        return []
    ids = columns[axis.column].astype(np.int64)
    ids = np.where(ids < 0, len(axis.cohorts), ids)
    return np.bincount(ids, weights=weight, minlength=len(axis.cohorts) + 1).tolist()


def build_ranker(config: DictConfig, schema: Schema, *, num_heads: int) -> Ranker:
    """The model on the meta device's tables. Shared parts first, then the heads: every arm of a seed starts equal."""
    sparse, dense = chosen_columns(config, schema)
    seed_everything(config.seed)
    model = config.model
    width, own = model.dim + first_order(config), own_dims(config, sparse)
    tokens = DenseTokens(num_dense=len(dense), dim=width, num_tokens=model.dense_tokens) if dense else None
    places = sequence_places(config, sparse)
    pooled = pooled_columns(sparse, places)
    embedding = FeatureTokens(
        embedding_tables(pooled, dim=width, dims=own),
        tokens,
        dim=width,
        dims=own,
        mean=[column.name for column in pooled if column.multi and model.pooling == "mean"],
        sequences=sequence_tables([column for column in sparse if column.name in places], dim=width)
        if places
        else None,
        places=places,
    )
    interaction, heads = assembled(
        model,
        config.method.get("sharing"),
        num_tokens=embedding.num_tokens,
        num_heads=num_heads,
        seed=config.seed,
        make=instantiated_by(config),
        asked=history_and_target(config, sparse),
    )
    return Ranker(embedding, interaction, heads)


def build_training_model(config: DictConfig, schema: Schema, heads: Auxiliaries) -> TrainingModel:
    """The ranker with one tower a head, started at the base rates, and the method's objective."""
    ranker = build_ranker(config, schema, num_heads=1 + len(heads.heads))
    rates = base_rates(config, schema, heads)
    heads_module: Any = ranker.heads
    heads_module.set_biases(rates.logit_H)
    return TrainingModel(
        ranker,
        build_weighting(config, heads),
        auxiliaries=heads.places,
        loss_unit=rates.loss_unit,
        members=heads.members,
        rows=make_row_weights(config, heads, rates),
        rows_axis=heads.axes.index(heads.rows) if heads.rows else 0,
    )


def build_weighting(config: DictConfig, heads: Auxiliaries) -> Weighting:
    """The method's weighting; each auxiliary head takes the λ of its role."""
    method = config.method
    weights = method.weighting.weights
    if isinstance(weights, str) or not isinstance(weights, Sequence) or not weights:
        remedy = "a list: one for the primary head, and one for each auxiliary head"
        raise DataError("method.weighting.weights cannot be that", value=weights, remedy=remedy)
    primary, *lambdas = weights
    if len(lambdas) != len(method.heads):
        remedy = f"one for the primary head and one for each of {', '.join(method.heads)}"
        raise DataError(
            "method.weighting.weights has another length", value=list(method.weighting.weights), remedy=remedy
        )
    of_role = dict(zip(method.heads, lambdas, strict=True))
    return _instantiated(config, method.weighting, weights=[primary, *(of_role[head.role] for head in heads.heads)])


def make_row_weights(config: DictConfig, heads: Auxiliaries, rates: BaseRates) -> RowWeights | None:
    """What weighs the rows by their cohorts, where the method has it."""
    if heads.rows is None:
        return None
    return _instantiated(config, config.method.rows, cohorts=heads.rows.cohorts, num_rows=rates.cohort_weights)


def _instantiated(config: DictConfig, part: DictConfig, **sizes: Any) -> Any:
    """What a part of the config names; what its constructor refuses is the user's to fix."""
    try:
        return instantiated_by(config)(part, **sizes)
    except InstantiationException as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise DataError(str(error.__cause__), value=part._target_, remedy="fix method.…") from error


def place(
    config: DictConfig, schema: Schema, *, world_size: int, ranks_per_host: int, device: str = "cpu"
) -> list[Placement]:
    """The config's sharding plan for a world of any size."""
    sparse, _ = chosen_columns(config, schema)
    return place_tables(
        sparse,
        dim=padded(config.model.dim + first_order(config)),
        sharding=config.parallel.sharding,
        world_size=world_size,
        ranks_per_host=ranks_per_host,
        optimizer=config.training.sparse.optimizer,
        own=table_options(config, sparse),
        device=device,
        sequences=sequence_places(config, sparse),
    )


def distribute(config: DictConfig, model: TrainingModel, placements: list[Placement], ranks: Ranks) -> nn.Module:
    """Precision and compilation of the dense part, then the tables' fused optimizer, plan and shards."""
    normalize_over_ranks(model)
    prepare_dense(
        model.ranker,
        config.training.precision,
        compiled=config.training.compile,
        device=ranks.device,
        heads_apart=model.objective.weighting.needs_gramian,
    )
    return shard(
        model,
        placements=placements,
        rates=table_rates(config),
        ranks=ranks,
        seed=config.seed,
        init=config.model.get("init"),  # runs of before 2026-11-25 have none
        communication=config.parallel.communication,
        ddp_bucket_mib=config.parallel.ddp_bucket_mib,
    )


def prepare_dense(
    ranker: Ranker, precision: str, *, compiled: bool, device: torch.device, heads_apart: bool = False
) -> None:
    """Compile the dense part, train it under bf16 autocast, or neither.

    Evaluation is in float32 whatever the precision: logits of bf16 have 8 bits, so that those near -3 are 1/64 apart,
    and the file that serves the model computes in float32.
    Heads whose gradients a method takes one by one are not compiled: their graph is gone through several times, and
    compiled code gives its buffers away at the first.
    """
    for part in (ranker.interaction, ranker.heads):
        if compiled and not (heads_apart and part is ranker.heads):
            part.compile()
        if precision == "bf16":
            part.forward = _in_bf16(part, device.type)  # type: ignore[method-assign]


def _in_bf16(part: nn.Module, device: str) -> Any:
    """Return a module's forward, under bf16 autocast while the module is in training mode."""
    forward = part.forward

    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=part.training):
            return forward(*args, **kwargs)

    return run
