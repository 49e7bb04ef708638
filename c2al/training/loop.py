"""The loop: batches and steps, nothing of models."""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from c2al.batch import Batch
from c2al.data.order import Leg
from c2al.data.reader import Reader
from c2al.parallel.pipelines import TrainPipeline
from c2al.training.busy import BusyCores


@dataclass
class Progress:
    """Where training stands; all that a resumed run needs besides tensors."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    rows: int = 0
    seconds: float = 0.0
    best_ne: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False
    unfinished: bool = False  # stopped by a signal before what is due after this step was done
    losses_since: list[list[list[float]]] = field(default_factory=list)  # of each rank, since the last line of the log
    num_steps: int = 0  # at which the run ends
    num_rows: int = 0  # of the training part
    world_size: int = 1  # of this leg, the steps of which step_in_epoch counts
    batch_size: int = 0
    window_rows: int = 0
    legs: list[list[int]] = field(default_factory=list)  # before it in this epoch: the fields of ``Leg``
    threads: int = 0  # of each rank, on which the last bits of sums depend; 0: not known
    paces: list[list[float]] = field(default_factory=list)  # (from step, share of the schedule then, rows a step)

    def as_dict(self) -> dict[str, Any]:
        """For ``progress.json``."""
        return asdict(self)

    def past_legs(self) -> list[Leg]:
        """What ranks of other numbers, or with other batches, have trained of this epoch."""
        return [Leg(*each) for each in self.legs]


class Fed:
    """The batches that the pipeline has drawn of late, by step, so that a failing step's batch can be saved."""

    def __init__(self, batches: Iterator[Batch], first_step: int, remembered: int = 4) -> None:
        self.batches, self.next_step = batches, first_step
        self.recent: deque[tuple[int, Batch]] = deque(maxlen=remembered)

    def __iter__(self) -> "Fed":
        return self

    def __next__(self) -> Batch:
        batch = next(self.batches)
        self.recent.append((self.next_step, batch))
        self.next_step += 1
        return batch

    def close(self) -> None:
        """End the reader's thread, where an epoch is left early."""
        if isinstance(self.batches, Generator):
            self.batches.close()

    def of_step(self, step: int) -> Batch | None:
        """The batch of a step, if it is still remembered."""
        return dict(self.recent).get(step)


class Loop:
    """Steps through epochs from where ``progress`` stands; ``fed`` holds the batches under way."""

    def __init__(
        self,
        pipeline: TrainPipeline,
        reader: Reader,
        progress: Progress,
        *,
        num_steps: int,
        world_size: int,
        busy: BusyCores | None = None,
    ) -> None:
        self.pipeline, self.reader, self.progress = pipeline, reader, progress
        self.num_steps, self.world_size = num_steps, world_size
        self.fed: Fed | None = None
        self._busy = busy or BusyCores(1, world_size, lambda line: None)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each step's ``(losses_H, logits_BH)`` after ``progress`` has moved past it."""
        while self.progress.step < self.num_steps:
            yield from self._epoch()

    def _epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        progress, legs = self.progress, self.progress.past_legs()
        steps, left = self.reader.steps(progress.epoch, legs), self.reader.rows_left(progress.epoch, legs)
        left -= progress.step_in_epoch * progress.batch_size * self.world_size
        batches = self.reader.batches(progress.epoch, progress.step_in_epoch, legs)
        self.fed = Fed(batches, progress.step + 1)
        self.pipeline.reset()  # else a pipeline that saw the end of the last epoch would train none of this one
        try:
            while progress.step_in_epoch < steps and progress.step < self.num_steps:
                self._busy.begin_step()
                output = self.pipeline.progress(self.fed)
                progress.seconds += self._busy.end_step()
                rows = min(left, len(output[1]) * self.world_size)  # without the last batch's fillers
                progress.rows, left = progress.rows + rows, left - rows
                progress.step += 1
                progress.step_in_epoch += 1
                if progress.step_in_epoch == steps:
                    progress.epoch, progress.step_in_epoch, progress.legs = progress.epoch + 1, 0, []
                yield output
                if progress.step_in_epoch == 0:
                    break
        finally:
            self.fed.close()
