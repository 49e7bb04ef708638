"""Fixed weights of the heads: the plain sum of C2AL, ``L_primary + λ_head L_head + λ_tail L_tail``."""

import math
from collections.abc import Sequence

import torch
from torch import nn


class Fixed(nn.Module):
    """``weights`` has one entry a head, the primary one first: ``[1, λ_head, λ_tail]``; ``[1]`` is the baseline."""

    weights_H: torch.Tensor
    needs_gramian = False

    def __init__(self, *, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        if not weights or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise ValueError(f"weights of the heads must be finite and not negative, one a head: {list(weights)}")
        # Configuration, not state: a resumed run takes it from its config, not from the checkpoint.
        self.register_buffer("weights_H", torch.tensor(list(weights), dtype=torch.float32), persistent=False)

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor | None = None) -> torch.Tensor:
        """The weights, whatever the losses."""
        return self.weights_H
