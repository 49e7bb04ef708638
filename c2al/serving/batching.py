"""Concurrent requests as one batch: one thread runs the model, so that all of its cores work on one batch at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from c2al.serving.inputs import Inputs


class QueueFullError(RuntimeError):
    """As many requests wait as may."""


class ModelError(RuntimeError):
    """The model gave something else than a logit for each row."""


class NotFiniteError(ModelError):
    """The model gave no finite logit for a ``row``: its numbers are too large for it."""

    def __init__(self, row: int, logit: float) -> None:
        super().__init__(f"the model gave {logit} for row {row}")
        self.row = row


@dataclass(frozen=True)
class Limits:
    """A batch is closed at ``rows`` rows, or ``wait_s`` after its first request came; ``queue`` requests may wait."""

    rows: int = 1024
    wait_s: float = 0.002
    queue: int = 256


@dataclass
class _Waiting:
    inputs: Inputs
    logit_B: "Future[np.ndarray]" = field(default_factory=Future)


class Batcher:
    """Runs ``model`` on what is submitted, several requests at once; a request that fails is the only one that does.

    ``under_way`` tells how many requests are being read or wait: where all of them wait already, nothing is gained by
    waiting for more, and a lone client pays no delay. ``observe`` is told the rows and seconds of each run.
    """

    def __init__(
        self,
        model: Callable[[Inputs], np.ndarray],
        limits: Limits,
        *,
        under_way: Callable[[], float] = lambda: float("inf"),
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self._model, self._limits, self._under_way, self._observe = model, limits, under_way, observe
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._rows = 0  # of what is in the queue
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, inputs: Inputs) -> "Future[np.ndarray]":
        """The future ``logit_B`` (float32) of these rows; QueueFullError where there is no place."""
        waiting = _Waiting(inputs)
        with self._changed:
            if len(self._queue) >= self._limits.queue or self._closed:
                raise QueueFullError(f"{len(self._queue)} requests wait")
            self._queue.append(waiting)
            self._rows += len(inputs)
            self._changed.notify()
        return waiting.logit_B

    def close(self) -> None:
        """Take nothing more; what waits is still scored, then the thread ends. Does not wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def ended(self, timeout_s: float) -> bool:
        """After ``close``: whether the thread ended within that time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while batch := self._next():
            self._score([each for each in batch if each.logit_B.set_running_or_notify_cancel()])

    def _next(self) -> list[_Waiting]:
        """The next requests; none where the batcher is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            deadline_s = time.monotonic() + self._limits.wait_s
            while not self._enough() and (left_s := deadline_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            batch: list[_Waiting] = []
            rows = 0
            while self._queue and (not batch or rows + len(self._queue[0].inputs) <= self._limits.rows):
                batch.append(self._queue.popleft())
                rows += len(batch[-1].inputs)
            self._rows -= rows
            return batch

    def _enough(self) -> bool:
        return self._closed or self._rows >= self._limits.rows or len(self._queue) >= self._under_way()

    def _score(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            logit_B = self._run(Inputs.joined([each.inputs for each in batch]) if len(batch) > 1 else batch[0].inputs)
        except Exception as error:
            if len(batch) == 1:
                batch[0].logit_B.set_exception(error)
            else:  # whose fault it is shows when each is alone
                for each in batch:
                    self._score([each])
            return
        start = 0
        for each in batch:
            _give(each.logit_B, logit_B[start : start + len(each.inputs)])
            start += len(each.inputs)

    def _run(self, inputs: Inputs) -> np.ndarray:
        """``logit_B``, in pieces of ``limits.rows`` where one request has more."""
        pieces = [self._piece(inputs.rows(i, i + self._limits.rows)) for i in range(0, len(inputs), self._limits.rows)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _piece(self, inputs: Inputs) -> np.ndarray:
        start_s = time.perf_counter()
        logit_B = self._model(inputs)
        self._observe(len(inputs), time.perf_counter() - start_s)
        if logit_B.shape != (len(inputs),):
            raise ModelError(f"the model gave logits of shape {logit_B.shape} for {len(inputs)} rows")
        return logit_B


def _give(future: "Future[np.ndarray]", logit_B: np.ndarray) -> None:
    if np.isfinite(logit_B).all():
        future.set_result(logit_B)
    else:
        place = int(np.flatnonzero(~np.isfinite(logit_B))[0])
        future.set_exception(NotFiniteError(place, float(logit_B[place])))
