import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from c2al.analysis.curves import run_paths
from c2al.analysis.distributions import found_histogram, score_histograms, weight_distributions, y_distributions
from c2al.schema import Schema


def captions(figures):
    return [re.sub("<.*?>", "", caption) for caption, _ in figures]


def test_found_histogram_is_the_pairs_own(fake_study):
    study, folder = fake_study
    pairs = json.loads(Path(folder, "pairs.json").read_text())
    assert len(found_histogram(pairs, study["pair"])) == 1
    assert found_histogram(pairs, {**study["pair"], "tail": "25-75%"}) == []


def test_score_histograms_one_for_each_arm(fake_study):
    study, folder = fake_study
    schema = Schema.load(study["data"]["path"])
    figures = score_histograms(run_paths(study, folder), split="test", pair=study["pair"], schema=schema)
    assert captions(figures) == ["baseline test split, one seed", "c2al test split, one seed"]
    crossed = {"axis": "age_x_surface", "head": "45-54 × mailer", "tail": "25-44 × display"}
    assert len(score_histograms(run_paths(study, folder), split="test", pair=crossed, schema=schema)) == 2
    assert score_histograms(run_paths(study, folder), split="validation", pair=study["pair"], schema=schema) == []


def test_cohorts_that_only_one_arm_knows(fake_study, tmp_path):
    """A baseline that was trained before the axis was learned."""
    study, folder = fake_study
    schema = Schema.load(study["data"]["path"])
    column = schema.axis(study["pair"]["axis"]).column
    expected = score_histograms(run_paths(study, folder), split="test", pair=study["pair"], schema=schema)
    copy = shutil.copytree(folder, tmp_path / "study")
    paths = run_paths(study, str(copy))
    for arm, left in (("baseline", expected), ("c2al", [])):
        path = next(iter(paths[arm].values())) / "scores" / "test.parquet"
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
        assert score_histograms(paths, split="test", pair=study["pair"], schema=schema) == left


def test_head_lies_right_of_tail(fake_study):
    study, folder = fake_study
    schema = Schema.load(study["data"]["path"])
    (_, svg), *_ = score_histograms(run_paths(study, folder), split="test", pair=study["pair"], schema=schema)
    tail, head = re.findall('<polyline points="(.*?)"', svg)
    assert centre(head) > centre(tail) + 20


def centre(line):
    x, y = np.array([point.split(",") for point in line.split()], dtype=float).T
    return np.average(x, weights=y.max() - y)


def test_y_at_start_and_end_of_every_attention(fake_study):
    study, folder = fake_study
    figures = y_distributions(run_paths(study, folder))
    assert list(figures) == [f"interaction.layers.{i}.interactions.fm_attention.fm.attention" for i in (0, 1)]
    for shown in figures.values():
        assert [caption[:8] for caption in captions(shown)] == ["Y at the", "Y at the"]
        (_, start), (_, end) = shown
        lines = re.findall('<polyline points="(.*?)"', start)
        assert lines[0] == lines[1]  # arms start alike
        lines = re.findall('<polyline points="(.*?)"', end)
        assert lines[0] != lines[1]


def test_constant_y_is_shown_too(tmp_path):
    (tmp_path / "weights").mkdir()
    for step in (0, 5):
        name = "interaction.layers.0.interactions.fm_attention.fm.y_FK"
        np.savez(
            tmp_path / "weights" / f"step_{step:08d}.npz", **{name: np.random.default_rng(step).normal(size=(4, 3))}
        )
    assert len(y_distributions({"baseline": {"0": tmp_path}})) == 1


def test_weights_by_role(fake_study):
    study, folder = fake_study
    found = captions(weight_distributions(run_paths(study, folder)))
    assert sum(caption.endswith(" attention") for caption in found) == 6
    assert sum(caption.endswith(" after") for caption in found) == 2
    assert not any("heads" in caption for caption in found)


@pytest.mark.parametrize("draw", [y_distributions, weight_distributions])
def test_runs_without_weights_draw_nothing(tmp_path, draw):
    assert not draw({"baseline": {"0": tmp_path}})
