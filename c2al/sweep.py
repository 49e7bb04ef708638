"""The jobs of a sweep: what each printed and how it ended, in files, as Hydra's launchers run them wherever they like.

outputs/multirun/<time>/  0.json  0.txt  1.json  1.txt …  stopped      .submitit/ where that launcher ran them
"""

import hashlib
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

from c2al.parallel.endings import failure
from c2al.parallel.parent import end_with, lives
from c2al.parallel.signals import CTRL_C, INTERRUPTED, STOPPED, Stopped, stop_signal
from c2al.plain_files import write_whole
from c2al.schema import DataError

NAMING = ("name", "run_dir", "study.name", "study.dir")  # in a folder's name anyway
STOP_FILE = "stopped"
MOST_BYTES = 160  # of the values in a folder's name, which may have 255 with the run's name


@dataclass
class Job:
    """One job of a sweep. ``status`` is None until it has ended."""

    number: int
    values: str  # what it has for its own: training.steps=1,model.dim=4
    made: str  # its run's or study's folder
    status: int | None = None
    said: str = ""  # why it failed
    pid: int = 0

    def write(self, sweep: str) -> None:
        """Keep it as ``<number>.json``."""
        path = Path(sweep, f"{self.number}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(self)))

    def run(
        self,
        program: Callable[[], int],
        *,
        sweep: str,
        blame: Callable[[BaseException], Exception | None],
        apart: bool,
    ) -> None:
        """Run its program and keep how it ended; no Exception leaves here.

        ``blame`` finds the input's fault behind an error. ``apart`` puts what it prints into ``<number>.txt``: several
        jobs at once would be mixed on the terminal.
        """
        if apart:
            end_with(os.getppid(), signal.SIGTERM)  # no job outlives the process that the launcher keeps it in
        self.pid = os.getpid()
        self.write(sweep)
        with _printing_to(Path(sweep, f"{self.number}.txt")) if apart else nullcontext():
            try:
                if by := stop_signal.received or stopped_by(sweep):
                    raise Stopped(f"stopped by {by} before it began", by)
                stop_signal.graceful = False  # as after a job before
                self.status = program()
            except Stopped as stopped:
                self.status, self.said = stopped.status, str(stopped)
                if not apart:
                    self.write(sweep)
                    raise
            except Exception as raised:
                fault = blame(raised)
                self.status, self.said = failure(fault or raised, rank=0)
                if fault is None:
                    traceback.print_exc()
        self.write(sweep)

    def explain(self, *, stopped: bool = False) -> str:
        """One line on how it ended; ``stopped`` where its sweep was."""
        if self.status is None and stopped:
            return f"job {self.values} had not ended when the sweep was stopped: {self.made}"
        if self.status is None:
            return f"job {self.values} was lost: its process ended without a word; if memory ran out, run fewer at once"
        how = "" if self.said.startswith("stopped by") else "failed: "
        return f"job {self.values} {how}{self.said}"


def values_of(words: Sequence[str], same: Sequence[str]) -> str:
    """What a job has for its own: its overrides without those of ``same`` keys, in the order of keys."""
    own = [word for word in words if _key(word) not in same and word.lstrip("+") not in same]
    return ",".join(sorted(_unquoted(word.lstrip("+")) for word in own))


def suffix_of(words: Sequence[str], same: Sequence[str]) -> str:
    """The end of a job's folder's name: its own values but for those that name the folder already."""
    text = values_of([word for word in words if _key(word) not in NAMING], same).replace("/", "_")
    if len(text.encode()) <= MOST_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text.encode()[: MOST_BYTES - 13].decode(errors='ignore')}-{digest}"


def refuse_shared(target: str, values: str, made: dict[str, str], *, key: str) -> None:
    """Add a job's folder or file to those ``made`` by jobs before; DataError where one of these is the same, or lies
    within the other."""
    path = os.path.abspath(target)
    for other, earlier in made.items():
        if path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/"):
            raise DataError(
                f"two jobs of the sweep would write into one place, {earlier or 'one'} and {values or 'another'}",
                file=target,
                remedy=f"give each a {key}=… of its own, such as one with ${{…}} of a key that differs; "
                "and each value once",
            )
    made[path] = values


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _unquoted(word: str) -> str:
    key, _, value = word.partition("=")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = re.sub(r"\\(['\"])", r"\1", value[1:-1])
    return f"{key}={value}"


def new_folder() -> str:
    """Where a sweep that begins now keeps its jobs."""
    return f"outputs/multirun/{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    with path.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def jobs_of(sweep: str) -> list[Job]:
    """The jobs that have begun, in order."""
    found = [Job(**json.loads(path.read_text())) for path in Path(sweep).glob("[0-9]*.json")]
    return sorted(found, key=lambda job: job.number)


def stop(sweep: str, by: str) -> None:
    """Have no further job of a sweep begin, and stop those that a signal to this process alone did not reach."""
    Path(sweep).mkdir(parents=True, exist_ok=True)
    write_whole(Path(sweep, STOP_FILE), by)
    for job in jobs_of(sweep) if by != CTRL_C else ():  # a terminal gives Ctrl-C to all of them
        if job.status is None and job.pid and lives(job.pid):
            os.kill(job.pid, signal.SIGTERM)


def stopped_by(sweep: str) -> str | None:
    """What stopped a sweep, if it was."""
    try:
        return Path(sweep, STOP_FILE).read_text()
    except FileNotFoundError:
        return None


def conclude(sweep: str, *, stopped: bool = False) -> int:
    """Print where each job's results are, and on stderr which jobs did not succeed and why; the sweep's exit status.

    ``stopped`` where the sweep was stopped before all jobs had ended.
    """
    jobs = jobs_of(sweep)
    others = [job for job in jobs if job.status != 0]
    for job in jobs:
        if job.status == 0:
            print(f"job {job.values}: {job.made}")
    for job in others:
        print(f"c2al: {job.explain(stopped=stopped)}", file=sys.stderr)
    ended = [job for job in others if job.status in (STOPPED, INTERRUPTED) or (stopped and job.status is None)]
    counts = [(len(others) - len(ended), "failed"), (len(ended), "stopped")]
    if said := ", ".join(f"{count} {word}" for count, word in counts if count):
        print(f"c2al: of {len(jobs)} jobs {said}; their files are in {sweep}", file=sys.stderr)
    return next((job.status or 1 for job in others), 0)
