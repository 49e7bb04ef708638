"""Fixed weights of the heads: the plain sum of C2AL, ``L_primary + λ_head L_head + λ_tail L_tail``."""

from collections.abc import Sequence

import torch

from c2al.objectives.weighting import Weighting


class Fixed(Weighting):
    """``weights`` has one entry a head, the primary one first: ``[1, λ_head, λ_tail]``; ``[1]`` is the baseline."""

    makes_weights = False

    def __init__(self, *, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__(weights)

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor | None = None) -> torch.Tensor:
        """The weights, whatever the losses."""
        return self.weights_H
