"""Runs of a study, several at once: each is ``python -m c2al train --config=FILE`` in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from c2al.analysis.study_file import load_report
from c2al.parallel.parent import WITH_PARENT
from c2al.parallel.threads import usable_cores
from c2al.plain_files import write_whole
from c2al.printable import printable
from c2al.schema import DataError
from c2al.training.loaded_config import read_plain
from c2al.training.run_dir import refuse_links

HOW = ("name", "run_dir", "resume", "overwrite", "progress", "trusted_modules")


@dataclass(frozen=True)
class Run:
    """One arm at one seed: its folder and its whole config."""

    arm: str
    seed: int
    folder: Path
    config: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the folder holds the report of this very config."""
        return (self.folder / "report.json").exists() and self._same_config(_without_paths(self.config))

    def _same_config(self, wanted: dict[str, Any]) -> bool:
        path = self.folder / "config.yaml"
        try:
            kept = read_plain(path)
        except DataError as error:
            remedy = "delete the run's folder, and start the study again"
            said = f"the run's config does not read: {printable(error.problem)}"
            raise DataError(said, file=str(path), remedy=remedy) from None
        if _without_paths(kept) == wanted:
            return True
        raise DataError(
            "the study's folder holds a run of another config",
            file=str(self.folder),
            remedy="overwrite=true to start the study anew, or another study.name",
        )

    def report(self, split: str) -> dict[str, Any]:
        """The finished run's report; a DataError where it is damaged, or lacks the split."""
        return load_report(self.folder / "report.json", split)


def run_all(runs: Sequence[Run], *, workers: int, devices: int = 0, title: str = "runs") -> None:
    """Train the runs that are not finished, ``workers`` at a time; the cores, or the GPUs, are dealt out to them.

    A run that was killed goes on from its last checkpoint. DataError with the end of its log where one fails; those
    under way are then stopped, and go on when the study is started again.
    """
    waiting = [run for run in runs if not run.finished]
    slots = list(range(workers))
    underway: dict[int, tuple[Run, subprocess.Popen[bytes]]] = {}
    with Watch(runs, title) as watch:
        try:
            while waiting or underway:
                while waiting and len(underway) < workers:
                    slot = next(slot for slot in slots if slot not in underway)
                    run = waiting.pop(0)
                    underway[slot] = (run, _start(run, workers=workers, device=slot if slot < devices else None))
                time.sleep(0.25)
                watch.update()
                for slot, (run, process) in list(underway.items()):
                    if process.poll() is not None:
                        del underway[slot]
                        _check(run, process.returncode)
        finally:
            for _, process in underway.values():
                process.terminate()
            for _, process in underway.values():
                process.wait()  # else a study started again would find them still writing
        watch.update()


def _start(run: Run, *, workers: int, device: int | None) -> subprocess.Popen[bytes]:
    run.folder.mkdir(parents=True, exist_ok=True)
    refuse_links(run.folder, checkpoints=True)
    resume = (run.folder / "config.yaml").exists() and run._same_config(_without_paths(run.config))
    file = run.folder / "asked.yaml"
    write_whole(file, yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    threads = max(1, usable_cores() // workers)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        WITH_PARENT: str(os.getpid()),
    }
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(device)
    with (run.folder / "output.log").open("ab") as log:
        trusted = f"trusted_modules=[{','.join(run.config.get('trusted_modules', []))}]"  # no file may say it of itself
        command = [sys.executable, "-m", "c2al", "train", f"--config={file}", trusted, f"resume={resume}".lower()]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _check(run: Run, code: int) -> None:
    if code == 0 and run.finished:
        return
    lines = (run.folder / "output.log").read_text(errors="replace").strip().splitlines()
    raise DataError(
        f"run {run.arm}, seed {run.seed} ended with exit status {code}: {lines[-1] if lines else 'it printed nothing'}",
        file=str(run.folder / "output.log"),
        remedy="fix the cause and start the study again: it goes on where it stopped",
    )


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """What makes a run's numbers, without where it stands and how it was started."""
    return {key: value for key, value in config.items() if key not in HOW}


class Watch:
    """Bars of all runs, read from their ``metrics.jsonl``: steps, rows/s, loss, validation NE, time left."""

    def __init__(self, runs: Sequence[Run], title: str) -> None:
        self.console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tails = [(_Tail(run.folder / "metrics.jsonl"), run) for run in runs]
        self._tasks = [self._bars.add_task(f"{run.arm} · seed {run.seed}", total=None, numbers="") for run in runs]
        self._said: set[int] = set()
        self._title = title

    def __enter__(self) -> "Watch":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self) -> None:
        """Read what the runs have written since."""
        for task, (tail, run) in zip(self._tasks, self._tails, strict=True):
            tail.read()
            done = (run.folder / "report.json").exists()
            if tail.numbers or done:
                self._bars.update(task, completed=tail.step, total=tail.num_steps or None, numbers=tail.numbers)
            if done and task not in self._said:
                self._said.add(task)
                if not self.console.is_terminal:
                    print(
                        f"{self._title}: {run.arm}, seed {run.seed} done · {tail.numbers}", file=sys.stderr, flush=True
                    )


class _Tail:
    """The growing ``metrics.jsonl`` of one run; a resumed run puts a shorter one in its place."""

    def __init__(self, path: Path) -> None:
        self.path, self.position, self.inode = path, 0, 0
        self.step, self.num_steps = 0, 0
        self.train: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}

    def read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            if (inode := os.fstat(file.fileno()).st_ino) != self.inode:
                self.inode, self.position, self.step = inode, 0, 0
            file.seek(self.position)
            for line in iter(file.readline, b""):
                if not line.endswith(b"\n"):
                    break
                self.position += len(line)
                with suppress(ValueError, KeyError, TypeError, AttributeError):  # a damaged line moves no bar
                    self._take(json.loads(line))

    def _take(self, line: Any) -> None:
        if line["split"] == "train":
            self.train, self.num_steps = line, line.get("num_steps", self.num_steps)
        else:
            self.validation = line
        self.step = max(self.step, line["step"])

    @property
    def numbers(self) -> str:
        """Rows/s, loss and NE in a few words."""
        parts = [f"{self.train['rows_per_s']:,.0f} rows/s · loss {self.train['loss']:.4f}"] if self.train else []
        parts += [f"NE {self.validation['ne']:.4f}"] if self.validation.get("ne") is not None else []
        return " · ".join(parts)
