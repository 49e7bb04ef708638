"""One job at a time writes into a run's folder, and a job that is started again knows its own."""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from c2al.schema import DataError

log = logging.getLogger(__name__)

NAME = "run.lock"
NAMED = "C2AL_JOB"  # set by launch/components.py to a name that no other job has
WAIT_S = 10.0  # for the processes of a job that has just been stopped or killed
NOT_OFFERED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def restarted() -> bool:
    """Whether torchrun or Slurm has started this job again after it was lost."""
    return any(int(os.environ.get(f"{name}_RESTART_COUNT") or 0) > 0 for name in ("TORCHELASTIC", "SLURM"))


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


class FolderLock:
    """``run.lock``: held by rank 0 while a run goes on, with the job, host and process that hold it or held it last.

    Given back by the system when the process ends, however it ends. Where a file system has no locks, it warns.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: IO[str] | None = None

    def take(self, wait_s: float | None = None) -> None:
        """DataError that names the holder, where it is still held after ``wait_s``; OSError where it cannot be made."""
        self._file = self.path.open("a+")
        deadline = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno in NOT_OFFERED:
                    log.warning("%s cannot be locked (%s): start no second run in this folder", self.path, error)
                    return
                if time.monotonic() > deadline:
                    holder = self.read()
                    self.release()
                    raise DataError(
                        "another run writes into this folder",
                        file=str(self.path.parent),
                        value=f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}",
                        remedy="wait for it or stop it, or choose another name=…",
                    ) from None
            time.sleep(0.1)

    def read(self) -> dict[str, Any]:
        """What the holder, or the last one, has written."""
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):  # new, or cut short by a kill
            return {}

    def write(self, **more: Any) -> None:
        """Say who holds it, and ``more``."""
        assert self._file is not None
        holder = {"job": job(), "host": socket.gethostname(), "pid": os.getpid()}
        self._file.truncate(0)
        self._file.write(json.dumps(holder | {"since": time.strftime("%Y-%m-%d %H:%M:%S")} | more) + "\n")
        self._file.flush()

    def release(self) -> None:
        """Let others take it."""
        if self._file is not None:
            self._file.close()
            self._file = None
