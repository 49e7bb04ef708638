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

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: start again with resume=true
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm sends the second before it takes the nodes away
REPEATED_S = 3.0  # a process group and torchrun both pass on one SIGTERM: only a later one is a second one
BLOCKED_S = 1.0  # for Python to leave what it is in; C++ that waits for other ranks does not
GRACE_S = 30.0  # what torchrun gives its workers before SIGKILL
WITH_PARENT = "C2AL_WITH_PARENT"  # set by programs whose runs must end with them


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
        self._parent: int | None = None

    def listen(self) -> None:
        """Take the signals over, for the rest of the process. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        if "TORCHELASTIC_RUN_ID" in os.environ or WITH_PARENT in os.environ:
            self._parent = os.getppid()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in SIGNALS:
            signal.signal(each, self._leave)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between two instructions of Python."""
        self._take(signal.Signals(number).name)
        if not self.graceful:
            self._left = True
            raise Stopped(f"stopped by {self.received}{self.remark}")

    def _take(self, name: str) -> None:
        if self.received is None:
            self._first_s = time.monotonic()
            self.received = name

    def _watch(self, reader: int) -> None:
        while True:
            ready, _, _ = select.select([reader], [], [], 0.5)
            for number in os.read(reader, 64) if ready else b"":
                if number == signal.SIGTERM and self.received and time.monotonic() > self._first_s + REPEATED_S:
                    end_now(STOPPED, "stopped at once by a second SIGTERM")
                if number in SIGNALS:
                    self._take(signal.Signals(number).name)
            if self._parent is not None and os.getppid() != self._parent:
                self._orphaned()
            if self.received and not self.graceful:
                waits = GRACE_S if self._left else BLOCKED_S
                if time.monotonic() > self._first_s + waits:
                    end_now(STOPPED, f"stopped by {self.received}{self.remark}")

    def _orphaned(self) -> None:
        parent, self._parent = self._parent, None
        self._take(f"the end of its parent (pid {parent})")
        signal.raise_signal(signal.SIGTERM)
        threading.Timer(GRACE_S, end_now, (STOPPED, f"stopped by {self.received}")).start()


def end_now(status: int, message: str = "") -> NoReturn:
    """End the process without leaving the process group, which could wait for others; rank 0 says why."""
    if message and int(os.environ.get("RANK", 0)) == 0:
        print(f"c2al: {message}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


stop_signal = StopSignal()  # a process has one
