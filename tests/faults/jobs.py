"""Real jobs of torchrun on tiny runs, for faults to be done to: their processes, what they say, how far they are."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import runs

TINY = (
    *("training.log_every=1", "training.checkpoint_every=4", "training.batch_size=64", "training.timeout_s=900"),
    *("training.evaluations=2", "training.snapshots=1"),
)
LEFT_S = 300  # what the last process may take beyond a time-out, on a loaded machine
PROMPT_S = 600  # where a connection is closed: less than the time-out of TINY's collectives, for which nobody waits
FAULTY = ("-m", "tests.faults.faulty", "train")
CUT_SHORT = "was not finished when the run ended"  # who goes on says so where the fault fell into the writing
MARK = "FAULTS_JOB"  # in the environment of a job's processes


class Job:
    """``torchrun … -m c2al train``; ``said`` is all that it prints."""

    def __init__(
        self,
        rows: str,
        run: Path,
        *own: str,
        nproc: int = 2,
        flags: Sequence[str] = ("--standalone",),
        prefix: Sequence[str] = (),
        program: Sequence[str] = ("-m", "c2al", "train"),
        tiny: bool = True,
        **environment: str,
    ) -> None:
        self.run = run
        run.parent.mkdir(parents=True, exist_ok=True)
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        self.output = run.with_name(f"{run.name}.{self.mark}.txt")
        options = runs.overrides(rows, run, *TINY, *own) if tiny else [f"data.path={rows}", f"run_dir={run}", *own]
        words = [*flags, f"--nproc-per-node={nproc}", *program, *options]
        with self.output.open("w") as file:
            self.agent = subprocess.Popen(
                [*prefix, sys.executable, "-m", "torch.distributed.run", *words],
                cwd=runs.ROOT,
                env=runs.environment(**{MARK: self.mark}, **environment),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def lines(self) -> list[str]:
        """What c2al itself says, without the logs of torchrun, and without what a busy machine brings about."""
        said = [line for line in self.said.splitlines() if line.startswith("c2al: ")]
        return [line for line in said if not runs.NOTICE.match(line)]

    def processes(self) -> list[int]:
        """The living processes of the job, the agent among them."""
        return living(self.mark)

    def workers(self) -> dict[int, int]:
        """Pid by rank."""
        found = {}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                rank = environment_of(pid).get("RANK")
                if rank is not None and "RANK" not in environment_of(_parent(pid)):
                    found[int(rank)] = pid
        return found

    def wait(self, timeout_s: float = runs.PATIENT_S) -> int:
        return self.agent.wait(timeout_s)

    def ended(self, within_s: float) -> tuple[int, float]:
        """torchrun's exit status, and the seconds until the last process was gone; an error where it takes longer."""
        started = time.monotonic()
        assert gone(self.mark, within_s), f"{self.processes()} live on after {within_s} s\n{self.said}"
        return self.agent.wait(60), time.monotonic() - started

    def until(self, holds: Callable[[], object], timeout_s: float = 900) -> None:
        """Wait, without a busy loop, until something holds; an error if the job ends before."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert self.agent.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def until_step(self, step: int) -> None:
        self.until(lambda: step_of(self.run) >= step)

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.agent.wait(60)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def logs_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "logs").iterdir())


def half_written(run: Path) -> list[str]:
    """What a later run could trip over."""
    return sorted(str(path.relative_to(run)) for path in run.rglob("*.partial*"))


def step_of(run: Path) -> int:
    """The last step in a run's metrics; 0 where there is none."""
    try:
        last = (run / "metrics.jsonl").read_text().splitlines()[-1]
        return int(json.loads(last)["step"])
    except (OSError, IndexError, ValueError):
        return 0


def living(mark: str) -> list[int]:
    """The processes of a job, whatever session they made for themselves; no zombies."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if environment_of(int(each.name)).get(MARK) == mark:  # a zombie has none
                found.append(int(each.name))
    return found


def environment_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def gone(mark: str, within_s: float) -> bool:
    """Whether no process of a job lives after so long."""
    deadline = time.monotonic() + within_s
    while living(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
