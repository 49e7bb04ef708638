"""Parameters to the last one, as the BARS benchmark (openbenchmark.github.io/BARS) has them; embedding width 10."""

import pytest
import torch

from c2al.cli import compose
from c2al.model import num_parameters
from c2al.schema import Schema, SparseColumn
from c2al.training.build import build_ranker

FIELDS_AND_IDS = {"frappe_x1": (10, 5_389), "movielenslatest_x1": (3, 90_239)}  # padding and unknown ids included


@pytest.mark.parametrize(
    ("data", "model", "own", "count"),
    [
        ("frappe_x1", "lr", [], 5_390),
        ("frappe_x1", "fm", ["model.dim=10"], 59_280),
        ("frappe_x1", "deepfm", ["model.dim=10"], 423_280),
        ("frappe_x1", "dcnv2", ["model.dim=10"], 458_391),
        ("movielenslatest_x1", "fm", ["model.dim=10"], 992_630),
        ("movielenslatest_x1", "deepfm", ["model.dim=10"], 1_328_630),
        ("movielenslatest_x1", "dcnv2", ["model.dim=10", "model.interaction.num_layers=5"], 1_243_071),
    ],
)
def test_published_count(data, model, own, count):
    fields, ids = FIELDS_AND_IDS[data]
    columns = tuple(SparseColumn(f"field_{i}", ids // fields + (i < ids % fields)) for i in range(fields))
    with torch.device("meta"):
        ranker = build_ranker(
            compose("config", [f"model={model}", "data.path=nowhere", *own]),
            Schema(data, "label", columns, (), ()),
            num_heads=1,
        )
    assert sum(num_parameters(ranker).values()) == count
