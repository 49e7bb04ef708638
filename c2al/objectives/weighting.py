"""What every way of weighing the heads has: λ of each head, where training stands, and what it says of itself."""

import math
from collections.abc import Sequence

import torch
from torch import nn


class Weighting(nn.Module):
    """``(losses_H, gramian_HH) -> weights_H``; the weights carry no gradient, and backward is done once, with them.

    ``weights`` has one entry a head, the primary one first: ``[1, λ_head, λ_tail]``. ``needs_gramian`` says whether
    ``gramian_HH`` must be computed; ``makes_weights``, whether the weights change and belong in the log.
    """

    weights_H: torch.Tensor
    needs_gramian = False
    makes_weights = True

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        if not weights or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise ValueError(f"weights of the heads must be finite and not negative, one a head: {list(weights)}")
        # Configuration, not state: a resumed run takes it from its config, not from the checkpoint.
        self.register_buffer("weights_H", torch.tensor(list(weights), dtype=torch.float32), persistent=False)
        self.step, self.num_steps = 0, 1

    def at(self, step: int, num_steps: int) -> None:
        """Told before each step where training stands; steps count from 0."""
        self.step, self.num_steps = step, num_steps

    def penalty(self, losses_H: torch.Tensor) -> torch.Tensor:
        """What is added to the weighted sum, for parameters of the weighting's own."""
        return losses_H.new_zeros(())
