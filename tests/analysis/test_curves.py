import json
import os
import re

import pytest

from c2al.analysis.curves import learning_curves, run_paths, width_along_training
from c2al.schema import DataError


def write(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + '\n{"step": 3')
    return folder


def validation(values):
    return [{"step": 10 * i, "split": "validation", "ne": ne} for i, ne in enumerate(values, start=1)]


def points(svg):
    lines = re.findall('points="(.*?)"', svg)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


def test_difference_is_of_the_same_seed_and_step(tmp_path):
    runs = {
        "baseline": {"0": write(tmp_path / "a", validation([1.0, 0.8, 0.8]))},
        "c2al": {"0": write(tmp_path / "b", validation([1.0, 0.8, 0.72]))},
    }
    figures = dict(learning_curves(runs, "baseline"))
    caption = next(caption for caption in figures if caption.startswith("NE against baseline"))
    level, mean = points(figures[caption])
    assert [y for _, y in mean[:2]] == [level[0][1]] * 2  # no difference at the first two steps
    assert mean[2][1] > level[0][1]  # below zero: further down


def test_training_loss_is_the_primary_heads(tmp_path):
    lines = [{"step": i, "split": "train", "loss": 99.0, "losses": [1.0 / i, 98.0]} for i in range(1, 30)]
    figures = learning_curves({"baseline": {"0": write(tmp_path / "a", lines)}}, "baseline")
    assert len(figures) == 1
    assert not re.search(r">\s*(9\d|100)\s*<", figures[0][1])


def test_nothing_to_draw(tmp_path):
    assert learning_curves({"baseline": {"0": tmp_path}}, "baseline") == []
    assert width_along_training([], ["baseline"]) == {}


def test_widths_have_a_line_an_arm(make_study):
    study, _ = make_study("widths", num_rows=1_500, seeds=(0, 1), arms=("baseline", "c2al", "head_only"))
    figures = width_along_training(study["density"], ["baseline", "c2al", "head_only"])
    assert len(figures) == 2
    for caption, svg in figures.values():
        assert caption.startswith("Width of Y")
        lines = points(svg)
        assert [len(line) for line in lines] == [2, 8, 4, 8, 4]  # level; band (there and back) and line of each arm


def test_reference_comes_first():
    study = {"reference": "b", "arms": {"a": {"runs": {"0": "x"}}, "b": {"runs": {0: "y"}}}}
    runs = run_paths(study, "study")
    assert list(runs) == ["b", "a"]
    assert str(runs["b"]["0"]) == "study/y"


@pytest.mark.parametrize("num", [1, 2])
def test_seeds_are_thin_where_there_are_several(tmp_path, num):
    runs = {"baseline": {str(i): write(tmp_path / str(i), validation([1.0, 0.9, 0.8])) for i in range(num)}}
    (_, svg), *_ = learning_curves(runs, "baseline")
    assert svg.count("opacity:.35") == (0 if num == 1 else num)


def test_steps_beyond_all_floats_and_pipes(tmp_path):
    run = write(tmp_path / "run", [{"step": 10**400, "split": "validation", "ne": 1}])
    with pytest.raises(DataError, match="no line of metrics"):
        learning_curves({"a": {"0": run}}, "a")
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        learning_curves({"a": {"0": run}}, "a")
