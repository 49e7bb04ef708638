"""SIGTERM, SIGUSR1, SIGHUP, Ctrl-C, the end of torchrun: stop where nothing is lost, or at once with nothing to save.

Imports nothing heavy: a signal may come while torch is being imported.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from c2al.parallel.environment import own_rank
from c2al.parallel.parent import end_with, expected

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: start again with resume=true
INTERRUPTED = 130  # 128 + SIGINT, as shells have it: the user's Ctrl-C
CTRL_C = "Ctrl-C"
# Slurm sends the second before it takes the nodes away, a terminal the last when it is closed
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
ORPHANED = signal.SIGUSR2  # from the kernel at the parent's end; nobody else sends it, so that it says who ended
REPEATED_S = 3.0  # a process group and torchrun both pass on one signal: only a later one is a second one
BLOCKED_S = 1.0  # for Python to leave what it is in; C++ that waits for other ranks does not
BEYOND_S = 15.0  # past that, when the system ends a process that does not end itself
GRACE_S = 30.0  # what torchrun gives its workers before SIGKILL


class Stopped(SystemExit):
    """The program ends by a signal, with exit status 75, or 130 after a Ctrl-C."""

    def __init__(self, message: str, by: str | None = None) -> None:
        self.by, self.status = by, status_of(by)
        super().__init__(self.status)
        self.message = message

    def __str__(self) -> str:
        return self.message


def status_of(received: str | None) -> int:
    """The exit status of a program that was stopped by a signal of that name."""
    return INTERRUPTED if received == CTRL_C else STOPPED


def name_of(number: int) -> str:
    """How messages call a signal."""
    return CTRL_C if number == signal.SIGINT else signal.Signals(number).name


class StopSignal:
    """What asked this process to stop. Before ``graceful`` is set the main thread is made to leave at once.

    After that the program looks at ``received`` between steps. A thread ends the process where it does not come to
    that: waiting in C++ before the first step, on a second SIGTERM, or 30 s after torchrun has died.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.received: str | None = None
        self.graceful = False
        self.remark = ""  # what stopping at once means for the user
        self.blocked_s = BLOCKED_S
        self._first_s = 0.0
        self._left = False
        self._listens = False
        self._ends_s = 0.0
        self._alarmed = False
        self._parent: int | None = None
        self.tell: Callable[[str], None] | None = None  # once, in the watching thread, what was received

    @contextmanager
    def listening(self, *, ends: bool = False) -> Iterator[None]:
        """Take the signals over within the block, and put back what answered them before.

        Does nothing outside the main thread, or within another such block. Where the process ends after it (``ends``)
        another Ctrl-C is let pass: among what is done at the exit it would end in a traceback.
        """
        if self._listens or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*SIGNALS, ORPHANED)}
        fd, writer = self.listen()
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                ignored = ends and number == signal.SIGINT
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL if handler is None else handler)
            os.close(writer)  # by which the watching thread ends
            if self._alarmed:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self._reset()

    def listen(self) -> tuple[int, int]:
        """Take the signals over, for the rest of the process; returns the wake-up fd of before, and the one of now."""
        if threading.current_thread() is not threading.main_thread():
            return -1, -1
        self._listens = True
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in SIGNALS:
            if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(each, self._leave)
        self._parent = expected()
        if self._parent is not None:
            signal.signal(ORPHANED, self._leave)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        if self._parent is not None:
            end_with(self._parent, ORPHANED)  # if it is dead already, the thread finds that
        return fd, writer

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between two instructions of Python."""
        self._take(self._name_of(number))
        if not self.graceful and not self._left:
            self._left = True
            raise Stopped(f"stopped by {self.received}{self.remark}", self.received)

    def _take(self, name: str) -> None:
        if self.received is None:
            self._first_s = time.monotonic()
            self.received = name

    def _watch(self, reader: int) -> None:
        interrupts, heard = 0, False  # the first may be read late here, on a busy machine: it is no second one
        while True:
            ready, _, _ = select.select([reader], [], [], 0.5)
            if ready and not (numbers := os.read(reader, 64)):
                os.close(reader)
                return
            for number in numbers if ready else b"":
                interrupts += number == signal.SIGINT
                if self._is_second(number, interrupts, heard):
                    end_now(status_of(name_of(number)), f"stopped at once by a second {name_of(number)}")
                heard = heard or number in (*SIGNALS, ORPHANED)
                if number in (*SIGNALS, ORPHANED):
                    self._take(self._name_of(number))
            if self._parent is not None and os.getppid() != self._parent:
                self._orphaned()
            if self.received and (tell := self.tell):
                self.tell = None
                tell(self.received)
            if self.received and not self.graceful:
                waits = GRACE_S if self._left else self.blocked_s
                if time.monotonic() > self._first_s + waits:
                    end_now(status_of(self.received), f"stopped by {self.received}{self.remark}")
            if self._ends_s and time.monotonic() > self._ends_s:
                end_now(STOPPED, f"stopped by {self.received}")

    def _is_second(self, number: int, interrupts: int, heard: bool) -> bool:
        """Whether the user means it. A terminal and torchrun both pass on one Ctrl-C."""
        if number == signal.SIGINT and interrupts > 1 and self._parent is None:
            return True
        late = heard and self.received is not None and time.monotonic() > self._first_s + REPEATED_S
        return late and number in (signal.SIGTERM, signal.SIGINT)

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
        return name_of(number)

    def end_anyway(self, within_s: float) -> None:
        """Have the system end this process by SIGALRM after so long, which takes no thread and no memory.

        Only where the process is c2al's own program.
        """
        if self._listens:
            self._alarmed = True
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
