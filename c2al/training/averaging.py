"""Exponential moving average of all weights, for evaluation: tables shard by shard, dense part whole."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weights``, every ``every`` steps with ``decay ** every``.

    The first ``10 * every`` steps are all taken in, and the decay is min(decay, (1 + t) / (10 + t)), so that the
    initial weights are soon forgotten and an early evaluation does not see them.
    """

    def __init__(self, sharded: nn.Module, *, decay: float, every: int = 10) -> None:
        self.sharded, self.decay, self.every = sharded, decay, every
        self.state = {name: copy.deepcopy(value) for name, value in sharded.state_dict().items()}

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew with the weights as they are."""
        for average, weights in self._pairs():
            average.copy_(weights)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step ``step`` into the average."""
        every = self.every if step > 10 * self.every else 1
        if step % every:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** every
        for average, weights in self._pairs():
            average.lerp_(weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the average inside, its own weights again after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, weights in self._pairs():
            kept = weights.clone()
            weights.copy_(average)
            average.copy_(kept)

    def _pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for name, value in self.sharded.state_dict().items():
            yield from zip(_local(self.state[name]), _local(value), strict=True)


def _local(value: torch.Tensor) -> list[torch.Tensor]:
    """This rank's live floating tensors behind a state-dict entry."""
    tensors = [each.tensor for each in value.local_shards()] if hasattr(value, "local_shards") else [value]
    return [each for each in tensors if each.is_floating_point()]


def with_average(average: WeightAverage | None) -> AbstractContextManager[None]:
    """The averaged weights in place, where there are any."""
    return average.in_place() if average is not None else nullcontext()
