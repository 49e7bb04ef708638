"""λ of the auxiliary heads by a schedule: constant, a linear warm-up, or a cosine decay to zero; the primary's is kept.

``warmup``: ``λ · min(1, t / (share · T))``; ``cosine``: ``λ · (1 + cos(π t / T)) / 2`` (the curve of Loshchilov and
Hutter 2017, arXiv 1608.03983, without restarts), over T steps. Not in the C2AL paper (arXiv 2510.02215), where λ is
constant: with a decay the last steps are those of the baseline's loss, with a warm-up the first ones.
"""

import math
from collections.abc import Sequence

import torch

from c2al.objectives.weighting import Weighting

SCHEDULES = ("constant", "warmup", "cosine")


class Scheduled(Weighting):
    """``share`` of the steps is the warm-up's."""

    def __init__(self, *, weights: Sequence[float] = (1.0,), schedule: str = "cosine", share: float = 0.1) -> None:
        super().__init__(weights)
        if schedule not in SCHEDULES:
            raise ValueError(f"no such schedule of λ: {schedule}; known: {', '.join(SCHEDULES)}")
        if not 0 < share <= 1:
            raise ValueError(f"the warm-up's share of the steps is {share}: it must be over 0 and at most 1")
        self.schedule, self.share = schedule, share

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor | None = None) -> torch.Tensor:
        """λ of the step that ``at`` told."""
        factor_H = torch.full_like(self.weights_H, self.factor())
        factor_H[0] = 1.0
        return self.weights_H * factor_H

    def factor(self) -> float:
        """In [0, 1]."""
        done = self.step / self.num_steps
        if self.schedule == "warmup":
            return min(1.0, done / self.share)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done))) if self.schedule == "cosine" else 1.0
