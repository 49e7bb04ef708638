"""Weights by homoscedastic uncertainty: each head learns how noisy its task is.

Alex Kendall, Yarin Gal, Roberto Cipolla 2018, arXiv 1705.07115, section 3.2:
``L = Σ_h exp(−s_h) L_h + s_h / 2`` with ``s_h = log σ_h²``, a parameter of each head.

Departs from the paper: s starts at −log λ, so that training starts as the plain sum with weights λ, where the paper
starts all alike. The losses are in units of normalized entropy; at rest a head's weight is ``1 / (2 L_h)``, so heads
with rare positives, whose losses are small, end with the *largest* weights. The parameters are dense: Adam steps them
with the learning rate, clipping and weight decay of the rest.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.objectives.weighting import Weighting


class Uncertainty(Weighting):
    """``weights`` are those at the start; each must be over zero."""

    def __init__(self, *, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__(weights)
        if not all(weight > 0 for weight in weights):
            raise ValueError(f"a weight of zero has no logarithm to learn from: {list(weights)}")
        self.log_variance_H = nn.Parameter(-self.weights_H.log())

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor | None = None) -> torch.Tensor:
        """``exp(−s_H)``; what s learns from is in ``penalty``."""
        return self.log_variance_H.detach().neg().exp()

    def penalty(self, losses_H: torch.Tensor) -> torch.Tensor:
        """``Σ s_h / 2``, and the gradient of ``Σ exp(−s_h) L_h`` with respect to s: of value zero, as it is counted."""
        weighted = (self.log_variance_H.neg().exp() * losses_H.detach()).sum()
        return weighted - weighted.detach() + self.log_variance_H.sum() / 2
