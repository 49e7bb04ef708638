"""What a rank says while it waits for the others to come, and the end of a wait that nothing else ends.

A rank that waits because RANK and WORLD_SIZE were left over in the environment must say so within seconds, that is
before torch is imported: a thread does it, which the command line starts first. Imports nothing heavy.
"""

import socket
import sys
import threading
import time

from c2al.parallel.environment import UNSET, Described
from c2al.parallel.signals import end_now

SAY_S = 6.0  # after which a wait is worth a line
BEYOND_S = 15.0  # past the time-out, when a call that has none of its own is ended
INPUT = 2  # exit status, as in endings.py


class Waiting:
    """Watches one rank's wait for its group: begun once, over when the group has met.

    Args:
        group: what the environment describes.
        ends: whether to end the process when the time-out has passed and nothing else has ended the wait.
    """

    def __init__(self, group: Described, *, ends: bool) -> None:
        self._group, self._ends = group, ends
        self.here = 1  # ranks that have come, as far as this one knows
        self._timeout_s, self._since_s = 0.0, time.monotonic()
        self._over = threading.Event()
        if group.world_size > 1:
            threading.Thread(target=self._watch, name="waiting", daemon=True).start()

    def joining(self, timeout_s: float) -> None:
        """Count the time-out from now."""
        self._since_s, self._timeout_s = time.monotonic(), timeout_s

    def over(self) -> None:
        """End the watch: the group has met, or the wait has failed and says so itself."""
        self._over.set()

    def _watch(self) -> None:
        if self._over.wait(SAY_S):
            return
        if self._group.serves or not answers(self._group.host, self._group.port):
            print(f"c2al: {self.line()}", file=sys.stderr, flush=True)
        while self._ends and not self._over.wait(1.0):
            if self._timeout_s and time.monotonic() > self._since_s + self._timeout_s + BEYOND_S:
                print(f"c2al: {too_late(self._group, self._timeout_s)}", file=sys.stderr, flush=True)
                end_now(INPUT)

    def line(self) -> str:
        """What is waited for, and how not to wait."""
        group, at = self._group, f"{self._group.host}:{self._group.port}"
        if group.serves:
            what = f"waiting at {at} for the other ranks: {self.here} of {group.world_size} here"
        else:
            what = f"rank {group.rank} of {group.world_size} waits for {at}, where nothing answers yet"
        return f"{what}, as {group} say. Remedy: {UNSET}"


def too_late(group: Described, timeout_s: float) -> str:
    """The line of a wait that ends without the others."""
    what = "the other ranks did not come to" if group.serves else "the ranks did not meet at"
    return f"{what} {group.host}:{group.port} within {timeout_s:.0f} s, as {group} say. Remedy: {UNSET}"


def answers(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether anything listens there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


_begun: Waiting | None = None


def begin(group: Described) -> None:
    """Watch from now on, for the command line, which does so before it imports what takes long."""
    global _begun
    _begun = Waiting(group, ends=True)


def taken_up(group: Described) -> Waiting:
    """The watch that was begun, or a new one that only speaks. Of one wait: the next has a watch of its own."""
    global _begun
    found, _begun = _begun, None
    return found or Waiting(group, ends=False)
