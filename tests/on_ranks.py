"""Several ranks as threads of one process, for what is collective only by the ``gather`` that it is given."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Gather = Callable[[Any], list[Any]]


def on_ranks(programs: Sequence[Callable[[Gather], T]]) -> list[T]:
    """What each program returns; they run at once, and meet in ``gather``. One that raises breaks the others' wait."""
    said: list[Any] = [None] * len(programs)
    barrier = threading.Barrier(len(programs), timeout=900)

    def run(rank: int) -> T:
        def gather(value: Any) -> list[Any]:
            said[rank] = value
            barrier.wait()
            values = list(said)
            barrier.wait()
            return values

        try:
            return programs[rank](gather)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(len(programs)) as pool:
        return list(pool.map(run, range(len(programs))))
