"""Evaluation is of every row once, changes nothing, and its scores are in the order of rows."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from c2al.data.reader import Reader
from c2al.parallel.ranks import start, stop
from c2al.schema import Schema
from c2al.training.evaluate import Scored, evaluate, write_scores


class ByPrice(nn.Module):
    """Logit: minus two, and the first dense column."""

    def forward(self, batch):
        assert not self.training
        return torch.zeros(()), (torch.zeros(1), batch.dense_BN[:, :1] - 2)


@pytest.fixture
def ranks():
    yield start()
    stop()


def reader(rows, **options):
    return Reader(folder=rows, split="test", batch_size=128, axes=["segment", "segment_x_device"], **options)


@pytest.mark.parametrize("shuffle", [False, True])
def test_metrics_of_every_row(tiny_rows, ranks, shuffle):
    from sklearn.metrics import log_loss

    model = ByPrice().train()
    metrics, scored = evaluate(
        model, reader(tiny_rows, shuffle=shuffle), axes=["segment", "segment_x_device"], ranks=ranks
    )
    assert model.training, "as it was"
    rows = pq.read_table(f"{tiny_rows}/test").to_pandas()
    probability = 1 / (1 + np.exp(2 - rows["price"].astype(float)))
    assert metrics["overall"]["log_loss"] == pytest.approx(log_loss(rows["label"], probability), abs=1e-6)
    for axis in ("segment", "segment_x_device"):
        assert sum(cell["rows"] for cell in metrics["cohorts"][axis].values()) == 600
    assert sorted(scored.row) == list(range(600))
    np.testing.assert_allclose(scored.logit, rows["price"].to_numpy()[scored.row] - 2, rtol=1e-6)


def test_some_steps_alone(tiny_rows, ranks):
    metrics, scored = evaluate(
        ByPrice(), reader(tiny_rows), axes=["segment", "segment_x_device"], ranks=ranks, num_steps=2
    )
    assert metrics["overall"]["rows"] == len(scored.row) == 256


def test_scores_are_sorted_and_without_fillers(tiny_rows, ranks, tmp_path):
    """In the stored form: label, weight, unit and every stored axis beside each logit."""
    shuffled = np.random.default_rng(0).permutation(600)
    scored = Scored(np.append(shuffled, [-1, -1]), np.append(shuffled * 0.5, [9e9, 9e9]))
    path = tmp_path / "scores" / "test.parquet"
    schema = Schema.load(tiny_rows)
    write_scores(path, scored, schema=schema, folder=tiny_rows, split="test", ranks=ranks)
    scores, rows = pq.read_table(path), pq.read_table(f"{tiny_rows}/test")
    assert scores["row"].to_pylist() == list(range(600))
    assert scores["logit"].to_pylist() == [row * 0.5 for row in range(600)]
    for name in ("label", "unit", "cohort_segment", "cohort_region", "cohort_device", "cohort_activity"):
        assert scores[name].to_pylist() == rows[name].to_pylist()
    assert set(scores["weight"].to_pylist()) == {1.0}
    types = {field.name: str(field.type) for field in scores.schema}
    assert types["row"] == "int64"
    assert (types["label"], types["weight"], types["logit"], types["unit"]) == ("int8", "float", "float", "int32")
    assert [path.name for path in path.parent.iterdir()] == ["test.parquet"]
