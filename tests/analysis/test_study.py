"""A whole small study, twice: run through, and cut to pieces and gone on with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from c2al import verbs
from c2al.analysis.study import Plan, run_study
from c2al.cli import compose
from c2al.schema import DataError
from tests import runs

pytestmark = pytest.mark.slow


def words(rows: str, folder: Path, *own: str) -> list[str]:
    """Two arms, two seeds, 8 steps of 256 rows each."""
    small = [*runs.SMALL, "training.steps=8", "training.batch_size=256", "training.validation_steps=1"]
    study = [f"study.dir={folder}", "study.seeds=[0,1]", "study.workers=2", "study.bootstraps=20"]
    return [f"data.path={rows}", *small, *study, "study.discover.min_rows=50", "study.discover.axes=[segment]", *own]


def run(rows: str, folder: Path, *own: str) -> dict:
    own_words = words(rows, folder, *own)
    verbs.study(compose("study", own_words), compose, own_words)
    return json.loads((folder / "study.json").read_text())


@pytest.fixture(scope="module")
def study(tiny_rows, tmp_path_factory):
    """(folder, content of study.json)"""
    folder = tmp_path_factory.mktemp("study") / "small"
    return folder, run(tiny_rows, folder)


def test_what_a_study_says(study, tiny_rows):
    folder, found = study
    assert found["reference"] == "baseline"
    assert {arm: sorted(told["runs"]) for arm, told in found["arms"].items()} == {
        "baseline": ["0", "1"],
        "c2al": ["0", "1"],
    }
    for told in found["arms"].values():
        assert all((folder / run / "report.json").exists() for run in told["runs"].values())
    assert found["data"]["rows"] == {"train": 4800, "validation": 600, "test": 600}
    assert found["split"] == "test"
    pairs = json.loads((folder / "pairs.json").read_text())["pairs"]
    assert {key: found["pair"][key] for key in ("axis", "head", "tail")} == {
        key: pairs[0][key] for key in ("axis", "head", "tail")
    }
    assert found["config"]["cohorts"]["pair"] == str(folder / "pairs.json")
    assert found["seconds"] > 0
    assert found["density"]


def test_its_differences_are_those_of_the_reports(study):
    """Mean over seeds of the paired relative difference in NE, in per cent, from the runs' own reports."""
    folder, found = study
    ne = {
        (arm, seed): runs.report_of(folder / "runs" / arm / f"seed_{seed}")["metrics"]["test"]["overall"]["ne"]
        for arm in ("baseline", "c2al")
        for seed in (0, 1)
    }
    row = next(row for row in found["cells"] if row["axis"] == "overall" and row["arm"] == "c2al")
    by_seed = [100 * (ne["c2al", seed] / ne["baseline", seed] - 1) for seed in (0, 1)]
    assert row["difference"] == pytest.approx(np.mean(by_seed))
    assert row["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert row["row_error"] > 0
    assert row["low"] <= row["difference"] <= row["high"]


def test_arms_of_a_seed_are_paired(study):
    """They start from the same weights and see the same rows; seeds differ."""
    folder, _ = study
    start = {
        (arm, seed): runs.weights_of(folder / "runs" / arm / f"seed_{seed}", 0)
        for arm in ("baseline", "c2al")
        for seed in (0, 1)
    }
    name = "heads.towers.0.0.weight"
    assert np.array_equal(start["baseline", 0][name], start["c2al", 0][name])
    assert not np.array_equal(start["baseline", 0][name], start["baseline", 1][name])


def test_the_report_is_written(study):
    folder, _ = study
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "loyal" in page
    assert "loyal" in (folder / "report.md").read_text()


def test_a_finished_study_trains_nothing(study, tiny_rows, monkeypatch):
    folder, found = study
    monkeypatch.setattr("c2al.analysis.arms._start", None)
    again = run(tiny_rows, folder)
    assert again["cells"] == found["cells"]
    assert again["seconds"] >= found["seconds"]


def test_it_goes_on_where_it_stopped(study, tiny_rows, tmp_path, monkeypatch):
    """One run gone, one killed half-way, no study.json: the same study again, and no other run is touched."""
    before, found = study
    folder = tmp_path / "study"
    shutil.copytree(before, folder)
    for path in (folder / "runs").glob("*/*/config.yaml"):  # the pair's file has moved with the folder
        path.write_text(path.read_text().replace(str(before), str(folder)))
    (folder / "study.json").unlink()
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "runs" / "baseline" / "seed_1")
    halfway = folder / "runs" / "c2al" / "seed_0"
    (halfway / "report.json").unlink()
    shutil.rmtree(halfway / "scores")
    newest = max((halfway / "checkpoints").iterdir())
    newest.rename(newest.with_suffix(".partial"))
    kept = {arm: (folder / "runs" / arm / f"seed_{seed}" / "report.json").read_bytes() for arm, seed in KEPT}
    again = run(tiny_rows, folder)
    assert again["cells"] == found["cells"]
    assert again["pair"] == found["pair"]
    assert (folder / "report.html").exists()
    assert kept == {arm: (folder / "runs" / arm / f"seed_{seed}" / "report.json").read_bytes() for arm, seed in KEPT}


KEPT = (("baseline", 0), ("c2al", 1))


def test_another_config_in_the_same_folder_is_refused(study, tiny_rows):
    folder, _ = study
    before = (folder / "study.json").read_bytes()
    with pytest.raises(DataError, match="a run of another config"):
        run(tiny_rows, folder, "model.dim=16")
    assert (folder / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ("study.reference=other", "the reference is none of the arms"),
        ("study.arms=[baseline]", "two arms or more"),
        ("study.seeds=[]", "two arms or more"),
        ("study.split=validation", "the pair is found on validation"),
        ("study.arms=[baseline,c2la]", "did you mean c2al"),
    ],
)
def test_no_study_is_refused_before_anything_is_trained(tiny_rows, tmp_path, own, problem, monkeypatch):
    monkeypatch.setattr("c2al.analysis.arms._start", None)
    with pytest.raises(DataError, match=problem):
        run(tiny_rows, tmp_path / "study", own)
    assert not (tmp_path / "study" / "runs").exists()


def test_a_given_pair_needs_no_discovery(tmp_path, monkeypatch):
    """``cohorts.axis``, head and tail in the config: ``find_pairs`` is not asked."""
    plan = Plan(
        name="given",
        folder=str(tmp_path),
        arms={"baseline": [], "c2al": []},
        reference="baseline",
        seeds=[0],
        split="test",
        bootstraps=0,
        workers=1,
    )
    asked, trained = [], []
    monkeypatch.setattr("c2al.analysis.study.run_all", lambda runs, **_: trained.extend(run.arm for run in runs))
    monkeypatch.setattr("c2al.analysis.study.summarise", lambda *_, pair_file: {"pairs_file": pair_file})
    for cohorts in ({"pair": None, "axis": "age"}, {"pair": "given.json", "axis": None}, {"pair": None, "axis": None}):
        run_study(
            plan, compose=lambda _, cohorts=cohorts: {"cohorts": cohorts}, find_pairs=lambda *each: asked.append(each)
        )
    assert trained == ["baseline", "c2al"] * 3
    assert asked == [(str(tmp_path / "runs" / "baseline" / "seed_0"), str(tmp_path))]
