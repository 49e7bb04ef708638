import numpy as np
import pytest
import torch

from c2al.parallel import ranks
from c2al.schema import DataError
from c2al.serving.artefact import open_artefact
from c2al.serving.parity import inputs_of, quality, reference, same_scores, scored
from c2al.training.build import build_reader
from c2al.training.saved_run import SavedRun


@pytest.fixture(scope="module")
def expected(run):
    return reference(SavedRun(run), "model", rows=300)


def test_rows_are_read_as_the_model_reads_them(run, file):
    columns, alone = open_artefact(file).columns, ranks.start()
    batch = next(build_reader(SavedRun(run).config, alone, split="test", axes=[], shuffle=False).batches())
    ranks.stop()
    inputs = inputs_of(batch, columns)
    keys = batch.sparse.keys()
    for i, name in enumerate(columns.single):
        assert inputs.ids_BS[:, i].tolist() == batch.sparse[name].values().tolist()
    for name, bag in inputs.bags.items():
        assert bag.values_V.tolist() == batch.sparse[name].values().tolist()
        assert bag.lengths_B.tolist() == batch.sparse[name].lengths().tolist()
    assert set(columns.single) | set(columns.bags) == set(keys)


def test_a_difference_is_found(file, expected):
    artefact = open_artefact(file)
    ours = scored(artefact, expected)
    assert same_scores(artefact, expected, ours, source="model")["bitwise"]
    other = [(batch, logit_B + np.float32(0.1)) for batch, logit_B in expected]
    with pytest.raises(DataError, match=r"differ by up to 0\.1"):
        same_scores(artefact, other, ours, source="model")


def test_scores_that_are_no_numbers_are_a_difference(file, expected):
    other = [(batch, logit_B * np.float32("nan")) for batch, logit_B in expected]
    with pytest.raises(DataError, match="nan"):
        same_scores(open_artefact(file), other, scored(open_artefact(file), other), source="model")


def test_quality_is_the_difference_of_ne(file, expected):
    artefact = open_artefact(file)
    ours = scored(artefact, expected)
    found = quality("int8", expected, ours)
    assert found["ne_difference_percent"] == 0
    worse = [(batch, np.zeros_like(logit_B)) for batch, logit_B in expected]
    assert quality("int8", worse, ours)["ne"]["fp32"] == pytest.approx(_ne_at_zero(expected))


def _ne_at_zero(expected) -> float:
    label, weight = (torch.cat([getattr(b, n) for b, _ in expected]).double() for n in ("label_B", "weight_B"))
    p = float((label * weight).sum() / weight.sum())
    return float(np.log(2) / -(p * np.log(p) + (1 - p) * np.log(1 - p)))


def test_scores_that_a_run_has_not_written(run, tmp_path):
    saved = SavedRun(run)
    saved.path = str(tmp_path)
    with pytest.raises(DataError, match="c2al evaluate"):
        reference(saved, "scores", rows=10)
