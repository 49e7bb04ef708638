"""Ranks by torchrun: a program, a job for it as JSON, and what rank 0 made of it; one error if a rank fails."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from c2al.schema import DataError

PATIENCE_S = 30.0  # for ranks that were told to end


def on_ranks(program: str, job: dict[str, Any], *, world_size: int, threads: int, folder: Path) -> Any:
    """Run ``python -m program`` once a rank on this host, in a new folder; what rank 0 found. A DataError if any fails.

    torchrun ends the others when one does, so that nothing waits for it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    words += ["-m", program, str(folder)]
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with (folder / "log").open("w") as log:
        torchrun = subprocess.Popen(
            words, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
        )
        try:
            status = torchrun.wait()
        except BaseException:
            torchrun.terminate()
            try:
                torchrun.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                torchrun.kill()
            raise
    if status or not (folder / "found.json").exists():
        raise _failed(folder)
    return json.loads((folder / "found.json").read_text())


class Rank:
    """A rank's side: its job, what it is at, and how its error reaches the program that started it."""

    def __init__(self, folder: str) -> None:
        self.folder, self.rank = Path(folder), int(os.environ.get("RANK", 0))
        self.job = json.loads((self.folder / "job.json").read_text())

    def at(self, place: str) -> None:
        """Note what is under way, for the message if this rank is killed."""
        (self.folder / f"place.{self.rank}").write_text(place)

    def found(self, value: Any) -> None:
        """Hand over (rank 0)."""
        if self.rank == 0:
            partial = self.folder / "found.partial"
            partial.write_text(json.dumps(value))
            partial.rename(self.folder / "found.json")

    def fail(self, error: BaseException) -> None:
        """Say why and end at once: nothing may wait for the other ranks."""
        traceback.print_exception(error)
        sys.stderr.flush()
        trace = "".join(traceback.format_exception(error))
        is_input = isinstance(error, DataError)
        said = str(error) if is_input else f"{type(error).__name__}: {error}"
        said = next(iter(said.splitlines()), type(error).__name__)
        (self.folder / f"error.{self.rank}").write_text(
            json.dumps({"at": time.time(), "error": said, "trace": trace, "is_input": is_input})
        )
        os._exit(1)


def _failed(folder: Path) -> DataError:
    """The first rank that was killed, or whose error was the first; the others' errors are of its being gone."""
    log = (folder / "log").read_text(errors="replace")
    ended = re.findall(r"rank\s*: (\d+) \(local_rank.*?exitcode\s*: (-?\d+)", log, re.S)  # torchrun's report
    for rank, status in ended:
        if int(status) < 0 and -int(status) != signal.SIGTERM:  # which torchrun sends to those that are left
            name = signal.Signals(-int(status)).name
            remedy = "if the machine ran out of memory: fewer rows, a smaller batch, or fewer plans; else run it again"
            return DataError(f"rank {rank} was killed by {name}{_where(folder, rank)}", remedy=remedy)
    errors = [(path.suffix[1:], json.loads(path.read_text())) for path in folder.glob("error.*")]
    if not errors:
        return DataError("the ranks ended without a result", remedy=f"the ranks' log ends:\n{_tail(log)}")
    rank, first = min(errors, key=lambda each: each[1]["at"])
    remedy = "fix it there" if first["is_input"] else f"its traceback ends:\n{_tail(first['trace'])}"
    return DataError(f"rank {rank}{_where(folder, rank)}: {first['error']}", remedy=remedy)


def _where(folder: Path, rank: str) -> str:
    place = folder / f"place.{rank}"
    return f" at {place.read_text()}" if place.exists() else ""


def _tail(log: str, lines: int = 12) -> str:
    kept = [line for line in log.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in kept[-lines:])
