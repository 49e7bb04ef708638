"""The loop: batches and steps, nothing of models."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from c2al.batch import Batch
from c2al.data.reader import Reader
from c2al.parallel.pipelines import TrainPipeline
from c2al.schema import DataError


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
    world_size: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For ``progress.json``."""
        return asdict(self)

    def refuse_other_world(self, world_size: int) -> None:
        """DataError where the position counts the steps of another number of ranks."""
        if self.world_size != world_size:
            raise DataError(
                f"the run was trained on {self.world_size} ranks, and its place among the rows counts their steps",
                value=world_size,
                remedy=f"resume on {self.world_size} ranks; `c2al evaluate` takes any number",
            )


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
        self, pipeline: TrainPipeline, reader: Reader, progress: Progress, *, num_steps: int, world_size: int
    ) -> None:
        self.pipeline, self.reader, self.progress = pipeline, reader, progress
        self.num_steps, self.world_size = num_steps, world_size
        self.fed: Fed | None = None

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each step's ``(losses_H, logits_BH)`` after ``progress`` has moved past it."""
        while self.progress.step < self.num_steps:
            yield from self._epoch()

    def _epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        progress, steps = self.progress, self.reader.steps_per_epoch
        batches = self.reader.batches(progress.epoch, progress.step_in_epoch)
        self.fed = Fed(batches, progress.step + 1)
        self.pipeline.reset()  # else a pipeline that saw the end of the last epoch would train none of this one
        try:
            while progress.step_in_epoch < steps and progress.step < self.num_steps:
                started = time.perf_counter()
                output = self.pipeline.progress(self.fed)
                progress.seconds += time.perf_counter() - started
                progress.rows += len(output[1]) * self.world_size
                progress.step += 1
                progress.step_in_epoch += 1
                if progress.step_in_epoch == steps:
                    progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
                yield output
                if progress.step_in_epoch == 0:
                    break
        finally:
            self.fed.close()
