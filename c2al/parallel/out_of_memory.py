"""Memory that runs out: how an error says so, and what is kept so that the process can still say it and end.

Imports nothing heavy.
"""

import errno
import mmap

from c2al.schema import DataError

SPARE = 32 * 2**20  # bytes of address space; nothing is written there, so that no memory is taken
END_S = 20  # for a process whose memory ran out to say so; then the system ends it
SIGNS = (  # of RuntimeErrors: torch's allocator, C++, a thread that gets no stack
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "can't start new thread",
    "can't allocate lock",
    "out of memory",
)
OF_LIBRARIES = ("failed to map segment", "cannot allocate memory", "cannot create shared object descriptor")
OF_PYTHON = ("error return without exception set", "without setting an exception")  # it could not even make its error
NO_THREAD = "Resource temporarily unavailable"  # the whole text of C++'s error; of a socket it would be a part
REMEDY = "give the process more memory, or take a smaller batch_size or window_rows, fewer workers, or more ranks"

_spare: list[mmap.mmap] = []


def keep_spare() -> None:
    """Set address space aside, for the end of a process that may allocate nothing more."""
    if not _spare:
        _spare.append(mmap.mmap(-1, SPARE))


def give_up_spare() -> None:
    """Give it back to the process, which is about to end."""
    while _spare:
        _spare.pop().close()


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that memory, address space or threads ran out.

    Not where it has its line already, as a DataError, or one that tells of another rank.
    """
    if isinstance(error, DataError) or hasattr(error, "status"):
        return False
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, ImportError | OSError) and any(sign in str(error) for sign in OF_LIBRARIES):
            return True
        if isinstance(error, SystemError) and any(sign in str(error) for sign in OF_PYTHON):
            return True
        if isinstance(error, RuntimeError) and (any(sign in str(error) for sign in SIGNS) or str(error) == NO_THREAD):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def told(error: BaseException, place: str = "") -> DataError:
    """The line for the user. ``place`` is what the rank was at: step 7."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    problem = f"memory ran out{f' during {place}' if place else ''}"
    return DataError(problem, value=f"{type(error).__name__}{f': {said[:200]}' if said else ''}", remedy=REMEDY)
