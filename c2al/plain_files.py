"""Files written whole or not at all, and files of strangers read: no link is written through, no pipe waited for."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

MOST_BYTES = 2**28  # of a file that is read whole


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of ``path`` at the end, or is gone; a link there is replaced, not followed.

    It is written as ``<name>.<16 hex digits>.partial`` beside it, which only a kill leaves behind.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:  # a signal too
        with suppress(OSError):
            part.unlink()
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def without_waiting(path: str, flags: int) -> int:
    """For ``open(…, opener=…)``: a pipe that nobody writes to is opened all the same."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


@contextmanager
def regular_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file to read; OSError where it is a pipe or another thing without end."""
    with open(path, "rb", opener=without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def read_regular(path: str | Path, *, most: int = MOST_BYTES) -> bytes:
    """Return what a file holds; OSError where it is no regular file or has more than ``most`` bytes."""
    with regular_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content
