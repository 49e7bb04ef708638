"""A lock file that one process at a time holds, and that says who holds it."""

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from pathlib import Path
from typing import IO, Any

from c2al.plain_files import read_regular, without_waiting
from c2al.schema import DataError

log = logging.getLogger(__name__)

NOT_OFFERED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
MOST_BYTES = 2**16


class FolderBusyError(DataError):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock on a file, which also names the process that holds it or held it last.

    The system gives the lock back when the process ends, however it ends. Where a file system has no locks, a warning
    is logged.

    Args:
        path: the lock file; its folder must exist.
        folder: what the lock protects, for the error message.
        problem: what is wrong where another process holds the lock.
        remedy: what the user can do then.
    """

    def __init__(self, path: Path, *, folder: str, problem: str, remedy: str) -> None:
        self.path, self.folder = path, folder
        self._problem, self._remedy = problem, remedy
        self._file: IO[str] | None = None

    def take(self, wait_s: float = 0.0) -> None:
        """Take the lock, waiting for it at most ``wait_s`` seconds.

        Raises:
            FolderBusyError: another process still holds it; the message names that process.
            OSError: the file cannot be made, or is a link or a pipe.
        """
        deadline = time.monotonic() + wait_s
        while True:
            self._file = os.fdopen(_not_through_links(self.path), "a+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in NOT_OFFERED:
                    log.warning("%s cannot be locked (%s): let no second process write there", self.path, error)
                    return
                self.release()
                if time.monotonic() > deadline:
                    holder = self.read()
                    raise FolderBusyError(
                        self._problem,
                        file=self.folder,
                        value=f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}",
                        remedy=self._remedy,
                    ) from None
                time.sleep(0.1)
                continue
            if self._is_current():
                return
            self.release()  # its last holder removed the file between the opening and the locking

    def _is_current(self) -> bool:
        assert self._file is not None
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def read(self) -> dict[str, Any]:
        """Return what the holder, or the last one, has written."""
        try:
            found = json.loads(read_regular(self.path, most=MOST_BYTES))
        except (OSError, ValueError, RecursionError):  # new, cut short by a kill, or no lock
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, **more: Any) -> None:
        """Write who holds the lock, and ``more``."""
        assert self._file is not None
        holder = {**more, "host": socket.gethostname(), "pid": os.getpid()}
        self._file.truncate(0)
        self._file.write(json.dumps(holder | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")
        self._file.flush()

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back; ``remove`` deletes its file first, while the lock is still held."""
        if self._file is not None:
            if remove:
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _not_through_links(path: Path) -> int:
    """Open or make a file; OSError where a link or a pipe stands there."""
    descriptor = without_waiting(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor
