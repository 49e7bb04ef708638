"""One job at a time writes into a run's folder, and a job that is started again knows its own."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c2al.folder_lock import FileLock

NAME = "run.lock"
NAMED = "C2AL_JOB"  # set by launch/components.py to a name that no other job has
WAIT_S = 10.0  # for the processes of a job that has just been stopped or killed


def restarted() -> bool:
    """Whether torchrun or Slurm has started this job again after it was lost."""
    counts = (os.environ.get(f"{name}_RESTART_COUNT", "") for name in ("TORCHELASTIC", "SLURM"))
    return any(count.isdecimal() and int(count) > 0 for count in counts)


def job() -> str:
    """What stays the same when a job is started again: the launcher's name for it in ``C2AL_JOB``, Slurm's number,
    torchrun's rdzv-id, else its process."""
    if name := os.environ.get(NAMED):
        return f"job {name}"
    if slurm := os.environ.get("SLURM_JOB_ID"):
        return f"slurm {slurm}"
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"torchrun {run_id}" if run_id != "none" else f"process {os.getppid()} on {socket.gethostname()}"


def goes_on(before: Mapping[str, Any]) -> bool:
    """Whether this job is the one that a lock speaks of, started again. Kubernetes does not say that it was: where the
    launcher has named the job, to find its name is enough."""
    return before.get("job") == job() and (restarted() or NAMED in os.environ)


class FolderLock(FileLock):
    """``run.lock``: held by rank 0 while a run goes on, with the job, host and process that hold it or held it last."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / NAME,
            folder=str(folder),
            problem="another run writes into this folder",
            remedy="wait for it or stop it, or choose another name=…",
        )

    def take(self, wait_s: float | None = None) -> None:
        """Take the lock, waiting ``WAIT_S`` seconds for it unless told otherwise."""
        super().take(WAIT_S if wait_s is None else wait_s)

    def write(self, **more: Any) -> None:
        """Write who holds the lock, the job's name, and ``more``."""
        super().write(job=job(), **more)
