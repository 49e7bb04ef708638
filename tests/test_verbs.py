"""What the verbs do with their configs, from prepared rows to pairs, plans and pages."""

import json
import os
import shutil
from pathlib import Path

import pytest

from c2al import verbs
from c2al.cli import compose
from c2al.folder_lock import FileLock
from c2al.schema import DataError, Schema
from tests import runs


@pytest.fixture(scope="module")
def run(tiny_rows, tmp_path_factory):
    """A finished baseline."""
    folder = tmp_path_factory.mktemp("verbs") / "run"
    runs.trained(tiny_rows, folder)
    return folder


def test_prepare_makes_rows_and_shows_them(tmp_path, capsys):
    config = compose("prepare", ["source=synthetic", f"to={tmp_path}/rows", "rows=2000", "contrast=0"])
    assert verbs.prepare(config) == 0
    schema = Schema.load(f"{tmp_path}/rows")
    assert {name: split.rows for name, split in schema.splits.items()} == {
        "train": 1600,
        "validation": 200,
        "test": 200,
    }
    printed = capsys.readouterr().out
    assert "1,600" in printed
    assert "segment (5)" in printed


def test_evaluate_prints_every_cohort(run, capsys):
    assert verbs.evaluate(compose("evaluate", [f"run={run}", "split=validation", "axes=[segment]"])) == 0
    printed = capsys.readouterr().out
    assert "overall" in printed
    assert "occasional" in printed
    assert "islands" not in printed


def test_discover_writes_pairs_that_training_takes(run, tiny_rows, tmp_path, capsys):
    own = [f"to={tmp_path}/found", "min_rows=50", "num_permutations=99", "num_bootstraps=20", "axes=[segment]"]
    assert verbs.discover(compose("discover", [f"run={run}", *own])) == 0
    pairs = json.loads((tmp_path / "found" / "pairs.json").read_text())["pairs"]
    assert {pair["axis"] for pair in pairs} == {"segment"}
    assert (tmp_path / "found" / "pairs.png").exists()
    assert f"cohorts.pair={tmp_path}/found/pairs.json" in capsys.readouterr().out
    report = runs.trained(
        tiny_rows,
        tmp_path / "run",
        *("method=c2al", f"cohorts.pair={tmp_path}/found/pairs.json", "training.steps=2"),
    )
    assert len(report["config"]["method"]["weighting"]["weights"]) == 3


def test_discover_makes_the_scores_that_are_missing(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "scores" / "validation.parquet").unlink()
    metrics = runs.metrics_of(copy)
    found = verbs.find_pairs(
        str(copy),
        to=str(copy),
        split="validation",
        axes=["segment"],
        divergence="js",
        min_rows=50,
        num_permutations=99,
        num_bootstraps=20,
    )
    assert found.pairs
    assert (copy / "scores" / "validation.parquet").exists()
    assert (copy / "pairs.json").exists()
    assert runs.metrics_of(copy) == metrics, "the run is as it was"


def test_learned_cohorts_are_trained_on_through_their_view(run, tiny_rows, tmp_path, capsys):
    own = [f"to={tmp_path}/found", "min_rows=20", "num_permutations=19", "num_bootstraps=20", "axes=[learned]"]
    assert verbs.discover(compose("discover", [f"run={run}", *own, "learned.cohorts=2"])) == 0
    printed = capsys.readouterr().out
    assert "kmeans 1: " in printed
    assert "tree 2: " in printed
    words = runs.overrides(
        tiny_rows, tmp_path / "run", "method=c2al", f"cohorts.pair={tmp_path}/found/pairs.json", "training.steps=2"
    )
    assert verbs.train(compose("config", words)) == 0
    config = runs.report_of(tmp_path / "run")["config"]
    assert config["data"]["path"] == f"{tmp_path}/found/learned"
    assert config["data"]["axes"] == ["segment", "region", "device", "activity"], "as other runs report them"
    chosen = ("method=c2al", "cohorts.axis=learned_kmeans", "cohorts.head=kmeans 1", "cohorts.tail=kmeans 2")
    report = runs.trained(f"{tmp_path}/found/learned", tmp_path / "other", *chosen, "training.steps=2")
    assert "kmeans 2" in report["metrics"]["test"]["cohorts"]["learned_kmeans"]


def plan(rows, *own):
    return verbs.plan(compose("plan", [f"data.path={rows}", "data.prepare=null", "parallel.world_size=4", *own]))


def test_plan_shows_tables_and_ranks(tiny_rows, tmp_path, capsys):
    files = [tmp_path / "new" / name for name in ("plan.json", "plan.png")]
    assert plan(tiny_rows, "parallel=row_wise", f"to=[{files[0]},{files[1]}]") == 0
    printed = capsys.readouterr().out
    for part in ("user", "row_wise", "20,001 × 16", "1.00 in bytes", "plan.json"):
        assert part in printed
    assert json.loads(files[0].read_text())["world_size"] == 4
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["plan.json", "plan.png"]


def test_plan_that_does_not_fit_is_shown_and_ends_with_2(tiny_rows, capsys):
    assert plan(tiny_rows, "parallel=row_wise", "parallel.memory_gib=0.001") == 2
    printed = capsys.readouterr().out
    assert "20,001 × 16" in printed
    assert "does not fit: rank 0 would hold" in printed


def test_plans_are_compared(tiny_rows, tmp_path, capsys):
    files = [tmp_path / name for name in ("plans.json", "plans.png")]
    own = ["compare=[row_wise,auto,column_wise]", f"to=[{files[0]},{files[1]}]", "model.dim=8"]
    assert plan(tiny_rows, *own) == 0
    assert "cannot be cut" in capsys.readouterr().out
    plans = json.loads(files[0].read_text())["plans"]
    assert {each["sharding"] for each in plans} == {"row_wise", "auto", "column_wise"}
    assert plans[-1]["sharding"] == "column_wise"
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert plan(tiny_rows, "compare=true", "parallel.memory_gib=0.001") == 2


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (["parallel=column_wise", "parallel.world_size=8"], r"model\.dim=32"),
        (["to=plan.pdf"], r"\.json or \.png .*plan\.pdf"),
        (["compare=[row_wise,diagonal]"], r"diagonal"),
    ],
)
def test_plan_refuses_what_cannot_work(own, said, tiny_rows):
    with pytest.raises(DataError, match=said):
        plan(tiny_rows, *own)


def test_train_prints_metrics_and_where_the_report_is(tiny_rows, tmp_path, capsys):
    own = runs.overrides(tiny_rows, tmp_path / "run", "training.steps=2")
    assert verbs.train(compose("config", own)) == 0
    printed = capsys.readouterr().out
    assert "calibration" in printed
    assert f"{tmp_path}/run/report.json" in printed


def test_data_that_can_be_made_is_made_once(tmp_path, capsys):
    config = compose("config", [f"data.path={tmp_path}/rows", "data.prepare.rows=100"])
    verbs.ensure_data(config)
    made = (tmp_path / "rows" / "schema.yaml").stat().st_mtime_ns
    verbs.ensure_data(config)
    assert (tmp_path / "rows" / "schema.yaml").stat().st_mtime_ns == made
    assert capsys.readouterr().err.count("making") == 1


def test_data_that_cannot_be_made_must_be_there(tmp_path):
    config = compose("config", ["data=parquet", f"data.path={tmp_path}/rows"])
    verbs.ensure_data(config)
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("verb", "words"), [("report", ["study=nowhere"]), ("discover", ["run=nowhere"]), ("evaluate", ["run=nowhere"])]
)
def test_what_is_not_there(verb, words):
    with pytest.raises(DataError, match=r"no (run|study) there"):
        getattr(verbs, verb)(compose(verb, words))


def test_it_is_said_that_rows_were_made_otherwise(tiny_rows, capsys):
    own = [f"data.path={tiny_rows}", "data.prepare.rows=6000"]
    verbs.ensure_data(compose("config", own))
    assert capsys.readouterr().err == ""
    verbs.ensure_data(compose("config", [*own, "data.prepare.contrast=0"]))
    assert "is there already, made with contrast=1.0: data.prepare makes nothing" in capsys.readouterr().err


def test_a_study_made_anew_refuses_what_is_not_its_own(tiny_rows, tmp_path, monkeypatch):
    monkeypatch.setattr("c2al.analysis.study.run_study", lambda *_, **__: pytest.fail("far enough"))
    for name in ("study.json", "mine.txt"):
        (tmp_path / name).write_text("{}")
    words = [f"data.path={tiny_rows}", "data.prepare=null", f"study.dir={tmp_path}", "overwrite=true"]
    with pytest.raises(DataError, match=r"something that a study did not write.*mine\.txt"):
        verbs.study(compose("study", words), compose, words)
    assert (tmp_path / "study.json").exists()
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(pytest.fail.Exception, match="far enough"):
        verbs.study(compose("study", words), compose, words)
    assert not list(tmp_path.iterdir())


def test_a_run_that_exists_is_refused_before_data_are_made(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("a: 1")
    with pytest.raises(DataError, match="a run is there already"):
        verbs.train(compose("config", [f"run_dir={run}", f"data.path={tmp_path}/rows"]))
    assert not (tmp_path / "rows").exists()


def test_data_that_another_process_prepares_is_waited_for(tmp_path, capsys):
    path = str(tmp_path / "rows")
    held = FileLock(Path(f"{path}.lock"), folder=path, problem="busy", remedy="wait")
    held.take()
    held.write()
    config = compose("config", [f"data.path={path}", "data.prepare.rows=1000"])
    verbs._make_data(config, path)
    assert f"another process prepares this folder (process {os.getpid()} on" in capsys.readouterr().err
    held.release(remove=True)
    verbs._make_data(config, path)
    assert Path(path, "schema.yaml").exists()
