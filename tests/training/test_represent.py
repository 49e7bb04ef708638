"""The mean of z_BE over each unit's rows, beside the scores."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from c2al.data.reader import Reader
from c2al.data.scan import read_columns
from c2al.model import Ranker
from c2al.parallel.ranks import start, stop
from c2al.schema import DataError, Schema
from c2al.training.evaluate import evaluate
from c2al.training.represent import UnitMeans, _units, represent_run


class Dense(nn.Module):
    def forward(self, batch):
        return batch.dense_BN


class Model(nn.Module):
    """Ranker whose representation is the dense columns themselves, behind what distribution wraps around it."""

    def __init__(self):
        super().__init__()
        self.module = nn.Module()
        self.module.ranker = Ranker(Dense(), nn.Identity(), nn.Linear(3, 2))

    def forward(self, batch):
        return torch.zeros(()), (torch.zeros(2), self.module.ranker.heads(self.module.ranker.represent(batch)))


@pytest.fixture
def ranks():
    yield start()
    stop()


@pytest.mark.parametrize("world_size", [1, 7])
def test_means_over_all_rows_of_a_unit(tiny_rows, ranks, tmp_path, world_size):
    """Seven readers in turn stand for ranks; 600 rows leave fillers on some."""
    columns = read_columns(tiny_rows, "test", ["unit", "price", "recency", "activity"])
    model = Model()
    with UnitMeans(model, columns["unit"]) as means:
        for rank in range(world_size):
            reader = Reader(
                folder=tiny_rows, split="test", batch_size=64, axes=[], rank=rank, world_size=world_size, shuffle=True
            )
            evaluate(model, reader, axes=[], ranks=ranks)
    means.write(tmp_path / "units.npz", ranks)
    with np.load(tmp_path / "units.npz") as file:
        unit, rows, z_UE = file["unit"], file["rows"], file["z_UE"]
    np.testing.assert_array_equal(unit, np.unique(columns["unit"]))
    for index in (0, 5, len(unit) - 1):
        own = columns["unit"] == unit[index]
        assert rows[index] == own.sum()
        expected = [columns[name][own].mean() for name in ("price", "recency", "activity")]
        np.testing.assert_allclose(z_UE[index], expected, rtol=1e-5, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["units.npz"]
    model(next(iter(reader.batches())))
    watched = [model._forward_hooks, model.module.ranker.interaction._forward_hooks]
    assert not any(watched), "no longer"


def test_of_a_finished_run(whole_run):
    path = represent_run(str(whole_run))
    assert path == whole_run / "scores" / "train_units.npz"
    with np.load(path) as file:
        assert file["z_UE"].shape == (len(file["unit"]), 16)
        assert file["rows"].sum() == 4800
        assert np.isfinite(file["z_UE"]).all()
        assert file["z_UE"].std(0).max() > 0
    scores = pq.read_table(whole_run / "scores" / "train.parquet")
    assert scores["row"].to_pylist() == list(range(4800))


def test_without_units_there_are_no_users():
    with pytest.raises(DataError, match="learned_tree"):
        _units(Schema(name="x", label="y", sparse=()), "nowhere", "train")
