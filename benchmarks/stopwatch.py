"""The parts of a training step by the clock: hooks at their borders, every second of a step counted in one part."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from c2al.batch import Batch
from c2al.data.order import Leg
from c2al.data.reader import Reader
from c2al.model import Objective, Ranker
from c2al.training.train import Training

PARTS = (
    "reading",
    "tables: lookup",
    "dense tokens",
    "interaction",
    "heads",
    "objective",
    "backward of the dense part",
    "tables: backward and update",
    "optimizer",
    "rest",
)


class Stopwatch:
    """``seconds[part]`` since the last ``start``; what is between two borders goes to the part that ends there.

    Backward ends with the tables: their lookup was the first operation forward, and the hook on its output runs when
    all gradients before it are done.
    """

    def __init__(self, training: Training) -> None:
        self.device = training.ranks.device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last = 0.0
        ranker = next(each for each in training.sharded.modules() if isinstance(each, Ranker))
        objective = next(each for each in training.sharded.modules() if isinstance(each, Objective))
        ranker.embedding.tables.register_forward_pre_hook(lambda *_: self.mark("rest"))
        ranker.embedding.order.register_forward_hook(self._looked_up)
        self._around(ranker.interaction, before="dense tokens", after="interaction")
        self._around(ranker.heads, before="rest", after="heads")
        self._around(objective, before="rest", after="objective")
        training.optimizers.step = self._between(  # type: ignore
            training.optimizers.step, before="tables: backward and update", after="optimizer"
        )
        training.loop.reader = _Timed(training.loop.reader, self)  # type: ignore[assignment]

    def start(self) -> None:
        """Forget what was measured; a step begins."""
        self.seconds.clear()
        self._last = self.now()

    def now(self) -> float:
        """The clock, after all that the device has been given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def mark(self, part: str) -> None:
        """The part that ends here."""
        now = self.now()
        self.seconds[part] += now - self._last
        self._last = now

    def _looked_up(self, module: torch.nn.Module, inputs: Any, x_BFD: torch.Tensor) -> None:
        self.mark("tables: lookup")
        if x_BFD.requires_grad:
            x_BFD.register_hook(lambda _: self.mark("backward of the dense part"))

    def _around(self, module: torch.nn.Module, *, before: str, after: str) -> None:
        module.register_forward_pre_hook(lambda *_: self.mark(before))
        module.register_forward_hook(lambda *_: self.mark(after))

    def _between(self, function: Callable[[], None], *, before: str, after: str) -> Callable[[], None]:
        def timed() -> None:
            self.mark(before)
            function()
            self.mark(after)

        return timed


class _Timed:
    """A reader whose every batch is waited for under ``reading``."""

    def __init__(self, reader: Reader, stopwatch: Stopwatch) -> None:
        self.reader, self.stopwatch = reader, stopwatch
        self.steps, self.rows_left = reader.steps, reader.rows_left

    def batches(self, epoch: int, start_step: int, legs: Sequence[Leg]) -> Iterator[Batch]:
        batches = self.reader.batches(epoch, start_step, legs)
        while True:
            self.stopwatch.mark("rest")
            batch = next(batches, None)
            self.stopwatch.mark("reading")
            if batch is None:
                return
            yield batch
