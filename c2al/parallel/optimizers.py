"""One optimizer for the loop: fused tables and dense part, learning rates by schedule, clipping, finite check."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter


@dataclass(frozen=True)
class Schedule:
    """Share of the base learning rate at a step: linear warm-up, then decay to zero at ``num_steps``."""

    num_steps: int
    warmup_steps: int = 0
    decay: str = "linear"  # or cosine, constant

    def __call__(self, step: int) -> float:
        """In [0, 1]; steps count from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        if self.decay == "linear":
            return max(0.0, 1.0 - done)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))) if self.decay == "cosine" else 1.0


class NonFiniteError(FloatingPointError):
    """The gradient of the dense part is not finite; it is summed over ranks, so all of them see it in the same step."""


class Optimizers(CombinedOptimizer):
    """Adam for the dense part beside the tables' fused optimizer, stepped together by TorchRec's pipeline.

    The tables take their step inside backward, with the learning rate that ``zero_grad`` has set before it. Clipping is
    by the norm of the dense gradients, which DDP has already averaged.
    """

    def __init__(
        self, fused: KeyedOptimizer, dense: KeyedOptimizer, *, schedule: Schedule, max_grad_norm: float | None
    ) -> None:
        super().__init__([fused, dense])
        self.dense_parameters = [p for p in dense.params.values() if isinstance(p, torch.Tensor)]
        self.schedule, self.max_grad_norm = schedule, max_grad_norm or math.inf
        self.num_steps = 0
        self.grad_norm = 0.0
        self._base = [(group, group["lr"]) for _, each in self.optimizers for group in each.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set this step's learning rates and clear the dense gradients."""
        share = self.schedule(self.num_steps)
        for group, base in self._base:
            group["lr"] = base * share
        super().zero_grad(set_to_none=set_to_none)

    def step(self, closure: None = None) -> None:
        """Clip, check, step. Raises NonFiniteError before any dense weight has changed."""
        norm = nn.utils.clip_grad_norm_(self.dense_parameters, self.max_grad_norm, foreach=True)
        self.grad_norm = float(norm)
        if not math.isfinite(self.grad_norm):
            raise NonFiniteError(f"the gradient's norm is {self.grad_norm}")
        super().step()
        self.num_steps += 1

    @property
    def learning_rates(self) -> list[float]:
        """Of the tables, then of the dense part."""
        return [group["lr"] for group, _ in self._base]


def dense_adam(sharded: nn.Module, *, learning_rate: float, weight_decay: float = 0.0) -> KeyedOptimizer:
    """Adam over every parameter that no fused optimizer steps."""
    parameters = dict(in_backward_optimizer_filter(sharded.named_parameters()))
    return KeyedOptimizerWrapper(
        parameters, lambda ps: torch.optim.Adam(ps, lr=learning_rate, weight_decay=weight_decay, fused=True)
    )
