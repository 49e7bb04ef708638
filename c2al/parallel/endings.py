"""How a process ends when it does not succeed: one line for the user, an exit status, and torchrun's error file.

| exit status | |
|---|---|
| 1 | a fault of the program: its traceback is in the rank's log |
| 2 | the input, or the disk, is at fault |
| 75 | stopped by a signal; ``resume=true`` goes on |
| 76 | another rank was lost; ``resume=true`` goes on |
| 130 | stopped by Ctrl-C, as by any signal; ``resume=true`` goes on |

Imports nothing heavy.
"""

import atexit
import errno
import json
import logging
import os
import sys
import threading
import time
from typing import NoReturn

from c2al.parallel.environment import many
from c2al.parallel.signals import end_now
from c2al.schema import DataError

INPUT = 2
LOST = 76
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class RankLostError(RuntimeError):
    """Another rank is gone. ``speaks`` on the one survivor that says so."""

    status = LOST

    def __init__(self, message: str, *, speaks: bool) -> None:
        super().__init__(message)
        self.speaks = speaks


def full_disk(error: BaseException, *, resumes: bool = False) -> DataError | None:
    """The DataError for a disk that is full or read-only, if that is what an error is; ``resumes`` of a run."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    remedy = "free disk space, then go on with resume=true" if resumes else "free disk space, and start again"
    return DataError(f"the disk cannot be written: {error.strerror}", file=error.filename, remedy=remedy)


def failure(error: Exception, *, rank: int) -> tuple[int, str]:
    """Exit status and line of an error; the line is empty where another rank says it."""
    own = f"[rank {rank}] " if many() else ""
    if isinstance(error, DataError):
        if error.agreed:
            own = "" if error.found_by is None else f"[rank {error.found_by}] "
        return INPUT, "" if error.agreed and rank else f"{own}{error}"
    if (status := getattr(error, "status", None)) is not None:
        return status, str(error) if getattr(error, "speaks", True) else ""
    first = next(iter(str(error).splitlines()), "")
    where = "; ".join(getattr(error, "__notes__", []))
    return 1, f"{own}{type(error).__name__}: {first}{f' ({where})' if where else ''}"


def leave(status: int, said: str, *, alone: bool) -> NoReturn:
    """End with a status after one line on stderr. One rank of many ends at once: nothing may wait for the others.

    Nor for its own threads: gloo's may still want Python's lock to let go of the last collective's tensors, and an
    interpreter that is being taken down gives it to none (torch 2.13: "terminate called without an active exception").
    """
    try:
        if said:
            print(f"c2al: {said}", file=sys.stderr, flush=True)
        if status:
            tell_torchrun(status, said or "another rank says why")
        if not alone:
            logging.shutdown()
    finally:  # also where memory has run out
        if not alone:
            end_now(status)
    raise SystemExit(status)


def end_program(status: int) -> NoReturn:
    """End as Python does, but do not take the interpreter down around threads of C++, which end it by SIGABRT then."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    end_now(status)


def tell_torchrun(status: int, message: str) -> None:
    """Write the error file in which torchrun looks for the first failure of a job (what its ``@record`` writes)."""
    if not (path := os.environ.get("TORCHELASTIC_ERROR_FILE")):
        return
    extra = {"timestamp": str(int(time.time()))}
    try:
        with open(path, "w") as file:
            json.dump({"message": {"message": message, "errorCode": status, "extraInfo": extra}}, file)
    except OSError as error:
        print(f"c2al: torchrun is not told: {error}", file=sys.stderr)
