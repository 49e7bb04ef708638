"""A process that must not outlive the one that started it: the kernel tells it, whatever state it is in.

A rank ends with its torchrun, a study's run with its study, a worker with the program that feeds it. Linux only: who
calls must look at its parent from time to time elsewhere. Imports nothing heavy.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from c2al.parallel.environment import by_torchrun

WITH_PARENT = "C2AL_WITH_PARENT"  # the pid of a program whose runs must end with it
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def expected() -> int | None:
    """The pid of the parent with which this process must end; None where it may outlive its parent.

    The parent may be dead already: the pid is then no longer that of ``os.getppid()``, and 0 where nobody knows it.
    """
    now = os.getppid()
    if by_torchrun():
        return 0 if now == 1 and not _may_be_torchrun(now) else now
    named = os.environ.get(WITH_PARENT, "")
    if not named.isdecimal():
        return None
    return now if lives(int(named)) else int(named)  # a shell may stand between


def end_with(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send this process a signal when the thread that started it ends; whether the parent is there."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return os.getppid() == parent  # asked afterwards: it may have died before


def _may_be_torchrun(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"python" in words or b"torchrun" in words


def lives(pid: int) -> bool:
    """Whether a process of this host is there, of whatever user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
