"""Work spread over processes, with results in the order of the tasks, and an end to all where one of them ends.

Tasks go round and results are fetched in the same round, at most two a process ahead: memory stays bounded. A process
that loses its parent finds its pipe closed, and ends.
"""

import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

from c2al.parallel.parent import end_with
from c2al.schema import DataError

Task = TypeVar("Task")
AHEAD = 2  # tasks a worker: one that it is at, one that waits


def in_order(
    tasks: Iterable[Task], make: Callable[[], Callable[[Any], Any]], *, sent: Callable[[Task], Any], workers: int
) -> Iterator[tuple[Task, Any]]:
    """``(task, work(sent(task)))`` of every task, where ``work = make()`` is made once in each process.

    With one worker it is made here. Else ``make`` and what is sent are pickled, and every process keeps to one thread.
    What a worker raises is raised here; a worker that dies is a DataError.
    """
    if workers < 1:
        raise DataError("no workers", value=workers, remedy="choose workers=1 or more")
    if workers == 1:
        work = make()
        for task in tasks:
            yield task, work(sent(task))
        return
    pool = [_Worker(make) for _ in range(workers)]
    waiting: deque[tuple[_Worker, Task]] = deque()
    try:
        for number, task in enumerate(tasks):
            if len(waiting) == AHEAD * workers:
                worker, earlier = waiting.popleft()
                yield earlier, worker.result()
            pool[number % workers].send(sent(task))
            waiting.append((pool[number % workers], task))
        while waiting:
            worker, earlier = waiting.popleft()
            yield earlier, worker.result()
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen here

    def send(self, argument: Any) -> None:
        try:
            self.pipe.send(argument)
        except OSError:
            raise self._dead() from None

    def result(self) -> Any:
        try:
            raised, found = self.pipe.recv()
        except (EOFError, OSError):
            raise self._dead() from None
        if raised:
            raise found
        return found

    def _dead(self) -> DataError:
        self.process.join(5)
        status = self.process.exitcode
        how = f"by {signal.Signals(-status).name}" if status and status < 0 else f"with status {status}"
        remedy = "where memory ran out, take fewer workers or a smaller batch_rows; else look above for its own words"
        return DataError(f"a worker (pid {self.process.pid}) ended {how}; nothing was written", remedy=remedy)

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


def _work(pipe: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """The process's own program."""
    if (parent := parent_process()) is None or not (parent.pid is None or end_with(parent.pid, signal.SIGKILL)):
        os._exit(1)  # nobody waits for an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches all processes: the parent ends them
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, arguments), daemon=True).start()
    try:
        work = make()
        _one_thread()
    except Exception as error:
        work = partial(_raise, error)  # as the answer to every task: a closed pipe would say less
    while (message := arguments.get()) is not None:
        try:
            answer = False, work(message[0])
        except Exception as error:
            answer = True, error
        _answer(pipe, *answer)


def _raise(error: Exception, _: Any) -> None:
    raise error


def _receive(pipe: Connection, arguments: "SimpleQueue[Any]") -> None:
    """Take what comes at once, so that the parent never waits to send while this process waits to answer."""
    try:
        while True:
            arguments.put((pipe.recv(),))
    except (EOFError, OSError):
        arguments.put(None)


def _answer(pipe: Connection, raised: bool, found: Any) -> None:
    if raised and not isinstance(found, DataError):
        text = "".join(traceback.format_exception(found))
        found = RuntimeError(f"a worker failed: {type(found).__name__}: {found}")
        found.add_note(text)
    try:
        pipe.send((raised, found))
    except OSError:  # the parent has gone
        sys.exit(1)


def _one_thread() -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
