"""A thread that is begun once, while there is memory, and then does what it is given.

Where memory has run out, ``Thread.start`` may wait for ever: for a thread that ends before its first line.
"""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Does one thing after another in a thread of its own. The end of the process does not wait for it.

    The thread ends after ``close``, or when this object is gone.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True).start()
        self._end = weakref.finalize(self, self._tasks.put, None)
        self._end.atexit = False

    def submit(self, do: Callable[[], T]) -> "Future[T]":
        """What ``do`` will have returned or raised, when it is its turn."""
        future: Future[T] = Future()
        self._tasks.put((future, do))
        return future

    def close(self) -> None:
        """Take nothing more. What was given before is still done; does not wait for that."""
        self._end()


def _work(tasks: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while _do(tasks.get()):
        pass


def _do(task: tuple[Future[Any], Callable[[], Any]] | None) -> bool:
    """In a function of its own, so that nothing of a task is held while the next is waited for."""
    if task is None:
        return False
    future, do = task
    if future.set_running_or_notify_cancel():
        try:
            result = do()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
    return True
