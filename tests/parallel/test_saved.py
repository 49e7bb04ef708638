"""Counted on fake tensors, checked against a forward that happens."""

import pytest
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedTensor

from c2al.cli import compose
from c2al.model import TrainingModel
from c2al.objectives.fixed import Fixed
from c2al.parallel.saved import SavedBytes, empty_batch, saved_bytes
from c2al.parallel.shard import find_tables
from c2al.schema import Schema
from c2al.training.build import build_ranker, prepare_dense

ATTENTION = "{_target_: c2al.interaction.self_attention.SelfAttention, _partial_: true}"
VARIANTS = {
    "baseline": [],
    "two heads more": ["method=c2al"],
    "self-attention": [f"model.interaction.modules.self_attention={ATTENTION}"],
    "bf16": ["training.precision=bf16"],
    "a sequence": ["model=sasrec"],
}
ROWS = 64


class Pooled(nn.Module):
    """Real pooled rows of zeros."""

    def __init__(self, names, dim):
        super().__init__()
        self.names, self.dim = names, dim

    def forward(self, sparse):
        values = torch.zeros(ROWS, len(self.names) * self.dim, requires_grad=True)
        return KeyedTensor(keys=self.names, length_per_key=[self.dim] * len(self.names), values=values)


class Unpooled(nn.Module):
    """Real rows of zeros, three for each row of the batch."""

    def __init__(self, names, dim):
        super().__init__()
        self.names, self.dim = names, dim

    def forward(self, sparse):
        lengths = torch.full((ROWS,), 3)
        rows = torch.zeros(3 * ROWS, self.dim, requires_grad=True)
        return {name: JaggedTensor(rows, lengths=lengths) for name in self.names}


def built(words, schema):
    config = compose("config", words)
    heads = len(config.method.heads)
    ranker = build_ranker(config, schema, num_heads=1 + heads)
    prepare_dense(ranker, config.training.precision, compiled=False, device=torch.device("cpu"))
    return TrainingModel(ranker, Fixed(weights=[1.0] * (1 + heads)), auxiliaries=[(0, 0)] * heads)


@pytest.mark.parametrize("variant", VARIANTS)
def test_as_many_bytes_as_a_forward_keeps(variant, tiny_rows):
    """To the byte in float32; under autocast the cast weights may be kept once more, less than 1 %."""
    schema = Schema.load(tiny_rows)
    model = built(VARIANTS[variant], schema)
    ids = {"recent_categories": 3.0}
    counted = saved_bytes(model, batch_size=ROWS, num_dense=len(schema.dense), num_axes=1, ids_per_row=ids)
    embedding = model.ranker.embedding
    names = [name for config in embedding.tables.embedding_bag_configs() for name in config.feature_names]
    embedding.tables = Pooled(names, embedding.dim)
    if embedding.sequences is not None:
        embedding.sequences = Unpooled(["recent_categories"], embedding.dim)
    saved = SavedBytes(*model.parameters(), *model.buffers())
    with saved.counting():
        model(empty_batch(ROWS, names, num_dense=len(schema.dense), num_axes=1))
    assert saved.total > 1000 * ROWS
    assert counted == pytest.approx(saved.total, rel=0.01 if variant == "bf16" else 0)


def test_the_model_stays_as_it_was(tiny_rows):
    """Its tables, its weights, and a batch of any size costs nothing."""
    schema = Schema.load(tiny_rows)
    model = built([], schema)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    counted = [
        saved_bytes(model, batch_size=rows, num_dense=len(schema.dense), num_axes=0) for rows in (1000, 10_000_000)
    ]
    assert counted[1] == 10_000 * counted[0]
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before
    assert find_tables(model)["ranker.embedding.tables"].embedding_bag_configs()


def test_views_count_once():
    x = torch.zeros(1000, requires_grad=True)
    weight = torch.zeros(1000, requires_grad=True)
    saved = SavedBytes(weight)
    with saved.counting():
        y = x * 1.0
        (y[:10] * weight[:10]).sum() + (y.view(10, 100) * y.view(10, 100)).sum()
    assert saved.total == 4000
