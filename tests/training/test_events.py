"""What happens between steps: means of losses, snapshots, and when to stop."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from c2al.training.events import TrainLog, Validation
from c2al.training.loop import Progress
from tests import runs

ALONE = SimpleNamespace(world_size=1, rank=0)
OPTIMIZERS = SimpleNamespace(schedule=SimpleNamespace(num_steps=99), learning_rates=[0.1, 0.01], grad_norm=2.0)


class Folder:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines = []

    def log_metrics(self, line):
        self.lines.append(line)


def steps(log: TrainLog, progress: Progress, numbers: range) -> None:
    for number in numbers:
        progress.step, progress.rows, progress.seconds = number, number * 10, number * 0.5
        log.after_step(progress, torch.tensor([float(number), 2.0 * number]), OPTIMIZERS)


def test_a_line_is_the_mean_since_the_last():
    folder, progress = Folder(), Progress()
    steps(TrainLog(folder, ALONE, progress, every=4), progress, range(1, 9))
    first, second = folder.lines
    assert first["losses"] == [2.5, 5.0]
    assert second["losses"] == [6.5, 13.0]
    assert (second["step"], second["rows"], second["rows_per_s"], second["loss"]) == (8, 80, 20.0, 6.5)
    assert (second["lr"], second["grad_norm"], second["num_steps"]) == (0.01, 2.0, 99)


def test_a_checkpoint_between_two_lines_keeps_the_losses():
    whole, cut, progress = Folder(), Folder(), Progress()
    steps(TrainLog(whole, ALONE, progress, every=4), progress, range(1, 9))
    progress = Progress()
    log = TrainLog(cut, ALONE, progress, every=4)
    steps(log, progress, range(1, 7))
    log.keep(progress)
    resumed = Progress(**progress.as_dict())
    steps(TrainLog(cut, ALONE, resumed, every=4), resumed, range(7, 9))
    assert [line["losses"] for line in cut.lines] == [line["losses"] for line in whole.lines]


def judged(values: list[float | None], patience: int | None, monkeypatch) -> tuple[Progress, list[bool], list[dict]]:
    """Validation over given NEs."""
    left = iter(values)
    found = {"auc": 0.5, "calibration": 1.0, "log_loss": 0.3, "rows": 10}
    monkeypatch.setattr(
        "c2al.training.events.evaluate", lambda *_, **__: ({"overall": {"ne": next(left), **found}}, None)
    )
    folder, progress, best = Folder(), Progress(), []
    validation = Validation(folder, None, None, ALONE, average=None, num_steps=2, patience=patience)
    for step in range(1, len(values) + 1):
        progress.step = step
        best.append(validation.run(progress))
        if progress.stopped_early:
            break
    return progress, best, folder.lines


def test_stopping_after_so_many_without_a_better_one(monkeypatch):
    progress, best, lines = judged([0.9, 0.8, 0.85, 0.8, 0.7], 2, monkeypatch)
    assert best == [True, True, False, False]
    assert (progress.best_step, progress.best_ne, progress.stopped_early) == (2, 0.8, True)
    assert [line["ne"] for line in lines] == [0.9, 0.8, 0.85, 0.8]
    assert set(lines[0]) == {"step", "epoch", "rows", "split", "ne", "auc", "calibration", "log_loss"}


def test_a_better_one_starts_the_count_anew(monkeypatch):
    progress, best, _ = judged([0.9, 0.95, 0.8, 0.85, 0.7, 0.75], 2, monkeypatch)
    assert best == [True, False, True, False, True, False]
    assert not progress.stopped_early


def test_without_patience_it_never_stops(monkeypatch):
    assert not judged([0.5] + [0.9] * 20, None, monkeypatch)[0].stopped_early


def test_an_undefined_ne_neither_wins_nor_counts(monkeypatch):
    progress, best, lines = judged([None, 0.9, None, None, None, 0.8], 2, monkeypatch)
    assert best == [False, True, False, False, False, True]
    assert lines[0]["ne"] is None
    assert not progress.stopped_early


def test_snapshots_hold_weights_and_what_attention_reads_and_makes(whole_run):
    start, end = runs.weights_of(whole_run, 0), runs.weights_of(whole_run, 24)
    assert set(start) == set(end)
    attention = [name.removeprefix("activation.") for name in start if name.startswith("activation.")]
    assert len(attention) == 2, "one in each layer"
    for name in attention:
        y_BFK, x_BFD = start[f"activation.{name}"], start[f"input.{name.removesuffix('.attention')}"]
        assert y_BFK.shape[:2] == x_BFD.shape[:2]
        assert y_BFK.shape[0] == 256
        assert not np.array_equal(y_BFK, end[f"activation.{name}"])
    first = f"input.{attention[0].removesuffix('.attention')}"
    assert start[first].shape == (256, 13, 8), "12 sparse columns and one dense token"
    assert {array.dtype for array in start.values()} == {np.dtype(np.float32)}


def test_the_sample_is_the_same_in_every_arm(whole_run, tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", "training.steps=1")
    name = next(name for name in runs.weights_of(whole_run, 0) if name.startswith("input."))
    assert np.array_equal(runs.weights_of(whole_run, 0)[name], runs.weights_of(tmp_path / "run", 0)[name])
    assert runs.weights_of(whole_run, 0)[name].std() == pytest.approx(runs.weights_of(whole_run, 24)[name].std(), rel=1)
