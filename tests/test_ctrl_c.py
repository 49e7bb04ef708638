"""Ctrl-C in a terminal, which every process of the program gets: each verb ends with one line, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from c2al.parallel.signals import INTERRUPTED
from tests import runs

LONG = ("training.steps=1000000", "training.checkpoint_every=1000000", "training.log_every=1")


class Terminal:
    """``c2al …`` as the foreground of a terminal."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self.output = cwd / "terminal.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "c2al", *words],
                cwd=cwd,
                env=runs.environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, event: Callable[[], object]) -> None:
        end_s = time.monotonic() + runs.PATIENT_S
        while not event():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end_s, self.said
            time.sleep(0.05)

    def press(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> list[str]:
        """What the program said at its end, once it and all that it started are gone."""
        assert self.process.wait(runs.PATIENT_S) == INTERRUPTED, self.said
        self.wait_for_all_gone()
        assert "Traceback" not in self.said
        return [line for line in self.said.splitlines() if line.startswith("c2al: ") and not runs.NOTICE.match(line)]

    def wait_for_all_gone(self) -> None:
        end_s = time.monotonic() + runs.PATIENT_S
        while True:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            assert time.monotonic() < end_s, self.said
            time.sleep(0.05)


def words_of(rows: str, run: Path, *own: str) -> list[str]:
    return runs.overrides(rows, run, *LONG, *own)


def test_train_keeps_a_checkpoint_and_goes_on(tiny_rows, tmp_path):
    run = tmp_path / "run"
    terminal = Terminal("train", *words_of(tiny_rows, run), cwd=tmp_path)
    terminal.wait_for((run / "metrics.jsonl").exists)
    terminal.press()
    (line,) = terminal.ended()
    assert line.startswith("c2al: stopped by Ctrl-C after step ")
    assert line.endswith(", checkpoint saved; resume=true goes on")
    step = int(line.split("step ")[1].split(",")[0])
    again = runs.c2al("train", *words_of(tiny_rows, run, "resume=true", f"training.steps={step + 2}"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == step + 2


def test_a_second_one_ends_a_run_at_once(tiny_rows, tmp_path):
    """Or after the step in hand, where that ends before the second one comes."""
    run = tmp_path / "run"
    terminal = Terminal("train", *words_of(tiny_rows, run), cwd=tmp_path)
    terminal.wait_for((run / "metrics.jsonl").exists)
    os.kill(terminal.process.pid, signal.SIGSTOP)
    terminal.press()
    os.kill(terminal.process.pid, signal.SIGCONT)
    terminal.press()
    assert "c2al: stopped " in " ".join(terminal.ended())


def test_presses_until_it_is_gone(tmp_path):
    """Also after its last line, while it leaves."""
    terminal = Terminal("prepare", "source=synthetic", "to=made", "rows=30000000", cwd=tmp_path)
    terminal.wait_for((tmp_path / "made.partial").exists)
    while terminal.process.poll() is None:
        terminal.press()
        time.sleep(0.01)
    assert "c2al: stopped " in " ".join(terminal.ended())


def test_prepare_leaves_nothing_half_written(tmp_path):
    terminal = Terminal("prepare", "source=synthetic", "to=made", "rows=30000000", cwd=tmp_path)
    terminal.wait_for((tmp_path / "made.partial").exists)
    terminal.press()
    assert terminal.ended() == ["c2al: stopped by Ctrl-C"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["terminal.txt"]


@pytest.mark.slow
def test_a_study_stops_with_its_runs(tiny_rows, tmp_path):
    own = [word for word in words_of(tiny_rows, tmp_path) if not word.startswith(("run_dir", "progress"))]
    terminal = Terminal("study", *own, "study.dir=st", "study.seeds=[0,1]", "study.workers=2", cwd=tmp_path)
    terminal.wait_for(lambda: len(list(tmp_path.glob("st/runs/*/*/metrics.jsonl"))) == 2)
    terminal.press()
    assert terminal.ended() == ["c2al: stopped by Ctrl-C; start the study again, and it goes on where it stopped"]
    assert len(list(tmp_path.glob("st/runs/*/*/checkpoints/step_*"))) == 2


@pytest.mark.slow
def test_jobs_of_a_sweep_keep_their_checkpoints_and_no_other_begins(tiny_rows, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="extra [launch]")
    words = [word for word in words_of(tiny_rows, tmp_path) if not word.startswith("run_dir")]
    sweep = ["-m", *words, "name=own", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    terminal = Terminal("train", *sweep, cwd=tmp_path)
    terminal.wait_for(lambda: len(list(tmp_path.glob("outputs/own,seed=*/metrics.jsonl"))) == 2)
    terminal.press()
    *jobs, counted, line = terminal.ended()
    assert [job.partition(" after step ")[0] for job in jobs] == [
        "c2al: job seed=0 stopped by Ctrl-C",
        "c2al: job seed=1 stopped by Ctrl-C",
        "c2al: job seed=2 stopped by Ctrl-C before it began",
    ]
    assert counted.startswith("c2al: of 3 jobs 3 stopped; their files are in ")
    assert line == "c2al: stopped by Ctrl-C; start the sweep again with resume=true"
    assert len(list(tmp_path.glob("outputs/own,seed=*/checkpoints/step_*"))) == 2
    shorter = ["training.steps=3" if word.startswith("training.steps") else word for word in sweep]
    begun = [word for word in shorter if not word.startswith(("hydra", "seed"))]
    again = runs.c2al("train", *begun, "seed=2,3", "resume=true", cwd=tmp_path)  # one after the other
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("resume=true finds no checkpoint in") == 2
