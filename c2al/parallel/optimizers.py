"""One optimizer for the loop: tables and dense part, learning rates by schedule, clipping, finite check."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from c2al.embedding.tables import table_name, table_of
from c2al.parallel.plan import Placement
from c2al.parallel.shard import TABLE_OPTIMIZERS, TableRates


@dataclass(frozen=True)
class Schedule:
    """Share of the base learning rate at a step: linear warm-up, then decay to zero at ``num_steps``.

    Where steps have become longer or shorter at step ``since``, it goes on at the ``share`` of its way that it had
    come, and still ends at ``num_steps``.
    """

    num_steps: int
    warmup_steps: int = 0
    decay: str = "linear"  # or cosine, constant
    since: int = 0
    share: float = 0.0

    def __call__(self, step: int) -> float:
        """In [0, 1]; steps count from 0."""
        at = self.share_at(step) * self.num_steps if self.since else step
        if at < self.warmup_steps:
            return (at + 1) / self.warmup_steps
        done = (at - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        if self.decay == "linear":
            return max(0.0, 1.0 - done)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))) if self.decay == "cosine" else 1.0

    def share_at(self, step: int) -> float:
        """How much of its way it has come at a step."""
        return self.share + (1.0 - self.share) * (step - self.since) / max(1, self.num_steps - self.since)


class NonFiniteError(FloatingPointError):
    """A gradient is not finite; it is summed over ranks, so all of them see it in the same step."""


class Optimizers(CombinedOptimizer):
    """Tables' fused optimizer, that of data-parallel tables, Adam for the dense part; stepped by TorchRec's pipeline.

    Fused tables take their step inside backward, with the learning rate that ``zero_grad`` has set before it. Clipping
    is by the norm of the dense gradients, which DDP has already averaged; a data-parallel table is not in it, as a
    fused one is not, so that no plan changes what another would train.

    With ``accumulate`` = n the dense part takes one step for n batches, with the mean of their gradients; fused tables
    step at every batch, as their gradients exist only inside backward, and so do data-parallel ones.
    """

    def __init__(
        self,
        fused: KeyedOptimizer,
        dense: KeyedOptimizer,
        *,
        replicated: KeyedOptimizer | None = None,
        schedule: Schedule,
        max_grad_norm: float | None,
        accumulate: int = 1,
    ) -> None:
        super().__init__([each for each in (fused, replicated, dense) if each is not None])
        self.fused, self.replicated, self.dense = fused, replicated, dense
        self.dense_parameters = [p for p in dense.params.values() if isinstance(p, torch.Tensor)]
        self.replicated_parameters = list(replicated.params.values()) if replicated is not None else []
        self.schedule, self.max_grad_norm, self.accumulate = schedule, max_grad_norm or math.inf, accumulate
        self.num_steps = 0
        self.grad_norm = 0.0
        self._base = [(group, group["lr"]) for _, each in self.optimizers for group in each.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set this step's learning rates and clear the gradients of what takes a step with this batch."""
        share = self.schedule(self.num_steps)
        for group, base in self._base:
            group["lr"] = base * share
        for _, each in self.optimizers:
            if each is not self.dense or self.num_steps % self.accumulate == 0:
                each.zero_grad(set_to_none=set_to_none)

    def step(self, closure: None = None) -> None:
        """Check, clip, step. Raises NonFiniteError before any weight has changed that is not fused."""
        accumulated = self.num_steps % self.accumulate + 1
        self._check(accumulated)
        for _, each in self.optimizers:
            if each is not self.dense or accumulated == self.accumulate:
                each.step()
        self.num_steps += 1

    def _check(self, accumulated: int) -> None:
        last = accumulated == self.accumulate
        if last and self.accumulate > 1:
            torch._foreach_div_([p.grad for p in self.dense_parameters if p.grad is not None], float(self.accumulate))
        norm = nn.utils.clip_grad_norm_(self.dense_parameters, self.max_grad_norm if last else math.inf, foreach=True)
        self.grad_norm = float(norm)
        tables = [p.grad for p in self.replicated_parameters if p.grad is not None]
        if not math.isfinite(self.grad_norm):
            raise NonFiniteError(f"the gradient's norm is {self.grad_norm}")
        if not all_finite(tables):
            raise NonFiniteError("the gradient of a data-parallel table is not finite")

    @property
    def learning_rates(self) -> list[float]:
        """Of the tables, then of the dense part."""
        return [group["lr"] for group, _ in self._base]


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """By their sums, which no other entry leaves finite: 27 ms on a core for 160 M entries; ``isfinite`` takes 610.

    Sums may overflow where all entries are finite; then each is looked at.
    """
    if not tensors or math.isfinite(float(torch.stack([each.sum() for each in tensors]).sum())):
        return True
    return all(bool(each.isfinite().all()) for each in tensors)


def dense_adam(sharded: nn.Module, *, learning_rate: float, weight_decay: float = 0.0) -> KeyedOptimizer:
    """Adam over every parameter that is not a table's."""
    named = in_backward_optimizer_filter(sharded.named_parameters())
    parameters = {name: parameter for name, parameter in named if table_of(name) is None}
    return KeyedOptimizerWrapper(
        parameters, lambda ps: torch.optim.Adam(ps, lr=learning_rate, weight_decay=weight_decay, fused=True)
    )


def replicated_tables(sharded: nn.Module, placements: Sequence[Placement], rates: TableRates) -> KeyedOptimizer | None:
    """Plain torch optimizers of the data-parallel tables, by FBGEMM's rules for the fused ones; None without any.

    A row that no rank looked up has a gradient of zero, which changes neither its weights nor its moment.
    """
    named = dict(sharded.named_parameters())
    found = []
    for each in placements:
        if each.sharding == "data_parallel":
            name = next(name for name in named if table_of(name) == table_name(each.table))
            options = rates.of(each.table).options(each.optimizer)
            found.append(KeyedOptimizerWrapper({name: named[name]}, _maker(each.optimizer, options)))
    return CombinedOptimizer(found) if found else None


def _maker(optimizer: str, options: dict[str, float]) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    return lambda parameters: TABLE_OPTIMIZERS[optimizer](parameters, **options)
