"""SIGTERM, SIGUSR1 and the death of torchrun: stop where nothing is lost, or at once where there is nothing to save.

Imports nothing heavy: a signal may come while torch is being imported.
"""

import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from c2al.parallel.environment import own_rank
from c2al.parallel.parent import end_with, expected

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: start again with resume=true
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm sends the second before it takes the nodes away
ORPHANED = signal.SIGUSR2  # from the kernel at the parent's end; nobody else sends it, so that it says who ended
REPEATED_S = 3.0  # a process group and torchrun both pass on one SIGTERM: only a later one is a second one
BLOCKED_S = 1.0  # for Python to leave what it is in; C++ that waits for other ranks does not
BEYOND_S = 15.0  # past that, when the system ends a process that does not end itself
GRACE_S = 30.0  # what torchrun gives its workers before SIGKILL


class Stopped(SystemExit):
    """The run ends by a signal, with exit status 75."""

    def __init__(self, message: str) -> None:
        super().__init__(STOPPED)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopSignal:
    """What asked this process to stop. Before ``graceful`` is set the main thread is made to leave at once.

    After that the program looks at ``received`` between steps. A thread ends the process where it does not come to
    that: waiting in C++ before the first step, on a second SIGTERM, or 30 s after torchrun has died.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.graceful = False
        self.remark = ""  # what stopping at once means for the user
        self._first_s = 0.0
        self._left = False
        self._listens = False
        self._ends_s = 0.0
        self._parent: int | None = None

    def listen(self) -> None:
        """Take the signals over, for the rest of the process. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._listens = True
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in SIGNALS:
            signal.signal(each, self._leave)
        self._parent = expected()
        if self._parent is not None:
            signal.signal(ORPHANED, self._leave)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        if self._parent is not None:
            end_with(self._parent, ORPHANED)  # if it is dead already, the thread finds that

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between two instructions of Python."""
        self._take(self._name_of(number))
        if not self.graceful:
            self._left = True
            raise Stopped(f"stopped by {self.received}{self.remark}")

    def _take(self, name: str) -> None:
        if self.received is None:
            self._first_s = time.monotonic()
            self.received = name

    def _watch(self, reader: int) -> None:
        heard = False  # the first may be read late here, on a busy machine: it is no second one
        while True:
            ready, _, _ = select.select([reader], [], [], 0.5)
            for number in os.read(reader, 64) if ready else b"":
                late = heard and self.received is not None and time.monotonic() > self._first_s + REPEATED_S
                if number == signal.SIGTERM and late:
                    end_now(STOPPED, "stopped at once by a second SIGTERM")
                heard = heard or number in (*SIGNALS, ORPHANED)
                if number in (*SIGNALS, ORPHANED):
                    self._take(self._name_of(number))
            if self._parent is not None and os.getppid() != self._parent:
                self._orphaned()
            if self.received and not self.graceful:
                waits = GRACE_S if self._left else BLOCKED_S
                if time.monotonic() > self._first_s + waits:
                    end_now(STOPPED, f"stopped by {self.received}{self.remark}")
            if self._ends_s and time.monotonic() > self._ends_s:
                end_now(STOPPED, f"stopped by {self.received}")

    def _orphaned(self) -> None:
        first, name = self.received is None, self._name_of(ORPHANED)
        self._parent = None
        self.end_anyway(GRACE_S + BEYOND_S)
        self._ends_s = time.monotonic() + GRACE_S
        self._take(name)
        if first:  # else the kernel has sent it, or another
            signal.raise_signal(ORPHANED)

    def _name_of(self, number: int) -> str:
        if number == ORPHANED:
            return f"the end of its parent (pid {self._parent or 'unknown'})"
        return signal.Signals(number).name

    def end_anyway(self, within_s: float) -> None:
        """Have the system end this process by SIGALRM after so long, which takes no thread and no memory.

        Only where the process is c2al's own program.
        """
        if self._listens:
            signal.setitimer(signal.ITIMER_REAL, within_s)


def end_now(status: int, message: str = "") -> NoReturn:
    """End the process without leaving the process group, which could wait for others; rank 0 says why."""
    if message and own_rank() == 0:
        print(f"c2al: {message}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


stop_signal = StopSignal()  # a process has one
