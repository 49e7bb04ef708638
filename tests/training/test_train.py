"""Whole runs: what is resumed, piped or averaged otherwise must end in the same numbers, to the bit."""

import copy
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from c2al.schema import DataError
from c2al.training import train as program
from tests import runs

C2AL = ("method=c2al", *runs.PAIR)


class KilledError(Exception):
    """Stands for a kill in the middle of a run."""


def test_a_run_folder_holds_what_it_promises(whole_run):
    report = runs.report_of(whole_run)
    assert set(report["metrics"]) == {"validation", "test"}
    assert report["rows"] == 24 * 128
    assert report["world_size"] == 1
    assert report["metrics"]["test"]["overall"]["rows"] == 600
    steps = [line["step"] for line in runs.metrics_of(whole_run) if line["split"] == "train"]
    assert steps == [4, 8, 12, 16, 20, 24]
    assert [line["step"] for line in runs.metrics_of(whole_run) if line["split"] == "validation"] == [8, 16, 24]
    assert sorted(path.name for path in (whole_run / "checkpoints").iterdir()) == ["step_00000016", "step_00000024"]
    assert [path.name for path in (whole_run / "logs").iterdir()] == ["rank_0.log"]
    assert list((whole_run / "tensorboard").iterdir())
    assert sorted(path.stem for path in (whole_run / "weights").iterdir()) == [
        "step_00000000",
        "step_00000012",
        "step_00000024",
    ]


def test_it_learns(tiny_rows, tmp_path):
    """Rows whose label can be known: NE on what was trained falls far below 1."""
    options = ("training.steps=150", "training.final_splits=[train]", "training.evaluations=1", "training.snapshots=1")
    report = runs.trained(tiny_rows, tmp_path / "run", *options)
    assert report["metrics"]["train"]["overall"]["ne"] < 0.8
    assert report["rows"] == 150 // 38 * 4800 + 150 % 38 * 128  # 37 batches of 128 and one of 64 are an epoch


def test_the_same_config_gives_the_same_run(whole_run, tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", *C2AL)
    runs.assert_same_run(whole_run, tmp_path / "run")


def test_another_seed_gives_another(whole_run, tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, "seed=1")
    assert runs.report_of(whole_run)["metrics"] != runs.report_of(tmp_path / "run")["metrics"]


@pytest.mark.parametrize("killed_at", [3, 8, 13, 24])
def test_a_run_cut_off_at_any_step_and_resumed_is_the_same(whole_run, tiny_rows, tmp_path, monkeypatch, killed_at):
    """Before the first checkpoint, right after one, between two, and before the report."""
    cut_off(tiny_rows, tmp_path / "run", killed_at, monkeypatch, *C2AL)
    assert not (tmp_path / "run" / "report.json").exists()
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, "resume=true")
    runs.assert_same_run(whole_run, tmp_path / "run")


OPTIONS = {
    "averaged": ("training.average=0.9",),
    "bf16": ("training.precision=bf16",),
    "two epochs": ("training.steps=null", "training.epochs=2", "training.batch_size=512", "training.evaluations=4"),
    "sparse_dist": ("parallel.pipeline=sparse_dist", "training.steps=30", "training.batch_size=256"),
    "row-wise Adagrad, cosine": ("training.sparse.optimizer=rowwise_adagrad", "training.decay=cosine"),
    "early stopping": ("training.early_stopping=1", "training.evaluations=12", "training.dense.learning_rate=0.1"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_resuming_under_every_option(name, tiny_rows, tmp_path, monkeypatch):
    options = (*C2AL, *OPTIONS[name])
    runs.trained(tiny_rows, tmp_path / "whole", *options)
    last = runs.report_of(tmp_path / "whole")["progress"]["step"]
    cut_off(tiny_rows, tmp_path / "cut", min(13, last), monkeypatch, *options)
    runs.trained(tiny_rows, tmp_path / "cut", *options, "resume=true")
    runs.assert_same_run(tmp_path / "whole", tmp_path / "cut")


def cut_off(rows: str, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Train until all that is due after ``step`` is done, and break off there."""
    between_steps = program.Training._between_steps

    def stop(self):
        between_steps(self)
        if self.progress.step == step:
            raise KilledError

    monkeypatch.setattr(program.Training, "_between_steps", stop)
    with pytest.raises(KilledError):
        runs.trained(rows, folder, *options)
    monkeypatch.undo()


@pytest.mark.slow
def test_a_killed_process_resumed_is_the_same(whole_run, tiny_rows, tmp_path):
    """``kill -9`` as soon as the first checkpoint stands, wherever the run then is."""
    run = tmp_path / "run"
    slowly = "import time, c2al.training.train as t; s = t.Training._between_steps\n"
    slowly += "def wait(self): s(self); time.sleep(0.2)\n"
    slowly += "t.Training._between_steps = wait\nfrom c2al.cli import main; main()"
    words = runs.command(tiny_rows, run, *C2AL)
    process = subprocess.Popen(
        [words[0], "-c", slowly, *words[3:]], env=runs.environment(), stdout=subprocess.DEVNULL, cwd=runs.ROOT
    )
    deadline = time.monotonic() + runs.PATIENT_S
    while not (run / "checkpoints" / "step_00000008").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "report.json").exists()
    runs.trained(tiny_rows, run, *C2AL, "resume=true")
    runs.assert_same_run(whole_run, run)


def test_the_pipelines_agree(whole_run, tiny_rows, tmp_path):
    """Evaluations and snapshots in the midst of ids under way change nothing."""
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, "parallel.pipeline=sparse_dist")
    runs.assert_same_run(whole_run, tmp_path / "run")


def test_two_epochs_train_twice_the_rows(tiny_rows, tmp_path):
    options = ("training.steps=null", "training.epochs=2", "training.batch_size=512", "training.log_every=1")
    report = runs.trained(tiny_rows, tmp_path / "run", *options)
    assert report["rows"] == 2 * 4800
    lines = [line for line in runs.metrics_of(tmp_path / "run") if line["split"] == "train"]
    assert len(lines) == 20
    assert [line["epoch"] for line in lines] == [0] * 9 + [1] * 10 + [2]


def test_evaluating_and_taking_snapshots_changes_no_training(whole_run, tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, "training.evaluations=0", "training.snapshots=0")
    assert runs.report_of(whole_run)["metrics"] == runs.report_of(tmp_path / "run")["metrics"]


def test_arms_of_a_seed_start_from_the_same_weights(whole_run, tiny_rows, tmp_path):
    """All that both have: the interaction and the primary tower, but for nothing."""
    runs.trained(tiny_rows, tmp_path / "run", "method=baseline", "training.steps=1")
    baseline, c2al = runs.weights_of(tmp_path / "run", 0), runs.weights_of(whole_run, 0)
    shared = [
        name for name in baseline if name.startswith(("interaction.", "heads.towers.0.", "input.", "activation."))
    ]
    assert len(shared) == len(baseline) > 10
    assert {name.split(".")[2] for name in c2al if name.startswith("heads.")} == {"0", "1", "2"}
    assert all(np.array_equal(baseline[name], c2al[name]) for name in shared)


def test_c2al_without_weight_is_the_baseline(tiny_rows, tmp_path):
    """λ = 0: to the bit, in every weight and every metric of the primary head."""
    runs.trained(tiny_rows, tmp_path / "baseline")
    runs.trained(tiny_rows, tmp_path / "c2al", *C2AL, "method.lambda_head=0", "method.lambda_tail=0")
    assert runs.report_of(tmp_path / "baseline")["metrics"] == runs.report_of(tmp_path / "c2al")["metrics"]
    baseline, c2al = (runs.weights_of(tmp_path / arm, 24) for arm in ("baseline", "c2al"))
    assert all(np.array_equal(baseline[name], c2al[name]) for name in baseline)


def test_scores_are_those_of_the_metrics(whole_run):
    from sklearn.metrics import log_loss, roc_auc_score

    scores = pq.read_table(whole_run / "scores" / "test.parquet").to_pandas()
    assert scores["row"].tolist() == list(range(600))
    probability = 1 / (1 + np.exp(-scores["logit"].astype(float)))
    overall = runs.report_of(whole_run)["metrics"]["test"]["overall"]
    assert overall["log_loss"] == pytest.approx(log_loss(scores["label"], probability), abs=1e-6)
    assert overall["auc"] == pytest.approx(roc_auc_score(scores["label"], scores["logit"]), abs=1e-12)
    loyal = scores[scores["cohort_segment"] == 1]
    cell = runs.report_of(whole_run)["metrics"]["test"]["cohorts"]["segment"]["loyal"]
    assert cell["rows"] == len(loyal)
    assert cell["positives"] == loyal["label"].sum()


def test_early_stopping_reports_the_best(tiny_rows, tmp_path):
    """On a learning rate that soon overfits: it stops early, and the report is that of the best evaluation."""
    options = (*OPTIONS["early stopping"], "training.validation_steps=null", "training.steps=60")
    report = runs.trained(tiny_rows, tmp_path / "run", *options)
    seen = {line["step"]: line["ne"] for line in runs.metrics_of(tmp_path / "run") if line["split"] == "validation"}
    assert report["progress"]["stopped_early"]
    assert report["progress"]["step"] == max(seen) < 60
    assert min(seen, key=seen.__getitem__) == report["progress"]["best_step"]
    assert report["metrics"]["validation"]["overall"]["ne"] == pytest.approx(min(seen.values()), rel=1e-9)


def test_the_average_is_what_is_evaluated(tiny_rows, tmp_path):
    """Same training weights; other, and with so short a run worse, metrics."""
    plain = runs.trained(tiny_rows, tmp_path / "plain")
    averaged = runs.trained(tiny_rows, tmp_path / "averaged", "training.average=0.999")
    last = [runs.weights_of(tmp_path / name, 24) for name in ("plain", "averaged")]
    assert all(np.array_equal(last[0][name], last[1][name]) for name in last[0])
    assert plain["metrics"]["test"]["overall"]["ne"] != averaged["metrics"]["test"]["overall"]["ne"]


def test_bf16_is_close_to_fp32(whole_run, tiny_rows, tmp_path):
    report = runs.trained(tiny_rows, tmp_path / "run", *C2AL, "training.precision=bf16")
    exact = runs.report_of(whole_run)["metrics"]["test"]["overall"]["log_loss"]
    assert report["metrics"]["test"]["overall"]["log_loss"] == pytest.approx(exact, rel=0.03)
    assert report["metrics"]["test"]["overall"]["log_loss"] != exact


def test_a_run_that_is_there_is_not_overwritten(whole_run, tiny_rows, tmp_path):
    before = (whole_run / "report.json").read_text()
    with pytest.raises(DataError, match="a run is there already"):
        runs.trained(tiny_rows, whole_run, *C2AL)
    assert (whole_run / "report.json").read_text() == before


def test_resuming_a_finished_run_gives_its_report_again(whole_run, tiny_rows):
    before = copy.deepcopy(runs.report_of(whole_run)), runs.metrics_of(whole_run)
    runs.trained(tiny_rows, whole_run, *C2AL, "resume=true")
    assert runs.report_of(whole_run)["metrics"] == before[0]["metrics"]
    assert runs.metrics_of(whole_run) == before[1]


def test_a_validation_part_without_positives_is_no_failure(tiny_rows, tmp_path):
    """Its NE is not defined: null in the metrics, and training goes on."""
    from tests.training.rows import relabelled

    folder = relabelled(tiny_rows, tmp_path / "rows", split="validation", label=0)
    options = ("training.early_stopping=1", "progress=true")
    report = runs.trained(folder, tmp_path / "run", *options)
    assert report["metrics"]["validation"]["overall"]["ne"] is None
    assert {line["ne"] for line in runs.metrics_of(tmp_path / "run") if line["split"] == "validation"} == {None}


def test_metrics_are_strict_json(whole_run):
    def refuse(constant):
        raise AssertionError(constant)

    for line in (whole_run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    json.loads((whole_run / "report.json").read_text(), parse_constant=refuse)
