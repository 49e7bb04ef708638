"""A finished run evaluated again: the same numbers, and the run as it was."""

import json
import shutil

import pytest

from c2al.schema import DataError
from c2al.training.evaluate_run import evaluate_run
from tests import runs


def files_of(run):
    kept = [path for path in run.rglob("*") if path.is_file() and path.parent.name not in ("logs", "scores")]
    return {path: path.read_bytes() for path in kept if not path.name.startswith("evaluation_")}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_it_gives_the_metrics_of_the_report(whole_run, split):
    scores = (whole_run / "scores" / f"{split}.parquet").read_bytes()
    metrics = evaluate_run(str(whole_run), split=split, step=None, axes=None)
    assert metrics == runs.report_of(whole_run)["metrics"][split]
    assert json.loads((whole_run / f"evaluation_{split}.json").read_text()) == metrics
    assert (whole_run / "scores" / f"{split}.parquet").read_bytes() == scores


@pytest.mark.parametrize("sharding", ["data_parallel", "row_wise"])
def test_under_another_plan_it_gives_the_same(whole_run, sharding):
    metrics = evaluate_run(str(whole_run), split="test", step=None, axes=None, sharding=sharding)
    wanted = runs.report_of(whole_run)["metrics"]["test"]["overall"]
    assert metrics["overall"] == pytest.approx(wanted, abs=1e-6)


def test_it_leaves_the_run_as_it_was(whole_run):
    """Its curves, weights, checkpoints, config and report."""
    before = files_of(whole_run)
    assert len(runs.metrics_of(whole_run)) == 9
    assert len(list((whole_run / "weights").iterdir())) == 3
    evaluate_run(str(whole_run), split="test", step=None, axes=["segment"])
    assert files_of(whole_run) == before


def test_a_split_that_was_not_reported(whole_run):
    metrics = evaluate_run(str(whole_run), split="train", step=None, axes=["segment"])
    assert metrics["overall"]["rows"] == 4800
    assert list(metrics["cohorts"]) == ["segment"]


def test_another_step_and_crossed_axes(whole_run):
    scores = (whole_run / "scores" / "test.parquet").read_bytes()
    metrics = evaluate_run(str(whole_run), split="test", step=16, axes=["segment_x_device"])
    assert json.loads((whole_run / "evaluation_test_step_16.json").read_text()) == metrics
    assert (whole_run / "scores" / "test.parquet").read_bytes() == scores, "discovery and studies read these"
    assert (whole_run / "scores" / "test_step_16.parquet").exists()
    assert metrics["overall"] != runs.report_of(whole_run)["metrics"]["test"]["overall"]
    assert sum(cell["rows"] for cell in metrics["cohorts"]["segment_x_device"].values()) == 600


def test_a_step_that_was_not_kept(whole_run):
    with pytest.raises(DataError, match=r"no checkpoint of that step.*16, 24"):
        evaluate_run(str(whole_run), split="test", step=7, axes=None)


def test_a_split_that_there_is_not(whole_run):
    with pytest.raises(DataError, match=r"tets"):
        evaluate_run(str(whole_run), split="tets", step=None, axes=None)


def test_no_run_and_no_checkpoint(whole_run, tmp_path):
    with pytest.raises(DataError, match="no run there"):
        evaluate_run(str(tmp_path), split="test", step=None, axes=None)
    shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(DataError, match="no complete checkpoint"):
        evaluate_run(str(tmp_path / "run"), split="test", step=None, axes=None)


@pytest.mark.parametrize(
    "options", [("training.average=0.9",), ("training.early_stopping=5", "training.evaluations=12")]
)
def test_what_the_report_was_made_from_is_what_is_evaluated(tiny_rows, tmp_path, options):
    """Averaged weights; and, where a run stopped early, its best checkpoint."""
    run = tmp_path / "run"
    runs.trained(tiny_rows, run, *options, "training.dense.learning_rate=0.3", "training.warmup=0")
    metrics = evaluate_run(str(run), split="test", step=None, axes=None)
    assert metrics == runs.report_of(run)["metrics"]["test"]
