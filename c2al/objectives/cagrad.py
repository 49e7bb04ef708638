"""CAGrad: the direction near the mean gradient that serves the worst-off head best.

Bo Liu, Xingchao Liu, Xiaojie Jin, Peter Stone, Qiang Liu 2021, arXiv 2110.14048, algorithm 1:
``max_d min_h ⟨g_h, d⟩`` subject to ``‖d − g_0‖ ≤ c ‖g_0‖``, with g_0 the mean gradient. By its dual,
``w = argmin_{w in simplex} g_w·g_0 + c ‖g_0‖ ‖g_w‖`` and ``d = g_0 + c ‖g_0‖ g_w / ‖g_w‖``, with ``g_w = Σ_h w_h g_h``.

Departs from the paper: on the gradients with respect to the representation (``gramian.py``), of the losses ``λ_h L_h``;
d is multiplied by the number of heads, so that c = 0 is the plain sum ``Σ λ_h L_h``; the rescaling by 1/(1 + c²) of
the official code is left out. A head of small gradient gets a large weight: what g_w brings is of length c ‖g_0‖
whatever λ is.
"""

from collections.abc import Sequence

import torch
from torchjd.aggregation import CAGradWeighting

from c2al.objectives.gramian import from_gramian
from c2al.objectives.weighting import Weighting


class CAGrad(Weighting):
    """``c`` from 0, the plain sum, to below 1; the paper takes 0.2 to 0.5."""

    needs_gramian = True

    def __init__(self, *, weights: Sequence[float] = (1.0,), c: float = 0.4) -> None:
        super().__init__(weights)
        if not 0 <= c < 1:
            raise ValueError(f"CAGrad's c is {c}: it must be from 0 to below 1, else no head is sure to gain")
        self.method = CAGradWeighting(c)

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor) -> torch.Tensor:
        """λ, times 1 and more for heads that the mean serves badly."""
        return len(self.weights_H) * from_gramian(self.method, gramian_HH, self.weights_H)
