"""What is said of checkpoints that could not be read or written, in one line."""

import logging
import sys
import textwrap

from torch.distributed.checkpoint.api import CheckpointException

from c2al.parallel.out_of_memory import REMEDY, ran_out
from c2al.schema import DataError

log = logging.getLogger(__name__)

NO_DIGESTS = (
    "is of before 2026-11-26 and has no digests: the sizes of its files are checked, their contents are not, nor "
    "whether the ids of the data still mean what they did"
)


def tell(message: str) -> None:
    """Say something in the log and on the console."""
    if log.hasHandlers():  # else logging itself would print it a second time
        log.warning(message)
    print(f"c2al: {message}", file=sys.stderr, flush=True)


def unwrapped(error: BaseException) -> str:
    """Return the cause that ``str(CheckpointException)`` buries, in one short line."""
    causes = [repr(error)]
    if isinstance(error, CheckpointException):
        causes = [f"rank {rank}: {cause[0]!r}" for rank, cause in error.failures.items()]
    return textwrap.shorten("; ".join(causes), 300, placeholder=" …")


def want_of_memory(error: BaseException, file: str) -> DataError | None:
    """What to say where memory ran out, on whatever rank, while a checkpoint was read: it is not at fault then."""
    causes = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    if not any(ran_out(cause) for cause in causes):
        return None
    return DataError(f"memory ran out while a checkpoint was read: {unwrapped(error)}", file=file, remedy=REMEDY)
