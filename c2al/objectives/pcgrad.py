"""PCGrad: a gradient that conflicts with another is projected onto that one's normal plane.

Tianhe Yu, Saurabh Kumar, Abhishek Gupta, Sergey Levine, Karol Hausman, Chelsea Finn 2020, arXiv 2001.06782,
algorithm 1. For each head i and every other j, in random order: ``g_i ← g_i − (g_i·g_j / ‖g_j‖²) g_j`` if
``g_i·g_j < 0``, g_j untouched; then the sum over i. All of it can be written with the Gramian.

Departs from the paper: on the gradients with respect to the representation (``gramian.py``), of the losses ``λ_h L_h``.
The order is drawn from (seed, step), so that all ranks draw the same and a resumed run goes on alike.
"""

from collections.abc import Sequence

import torch
from torchjd.aggregation import PCGradWeighting

from c2al.objectives.gramian import from_gramian
from c2al.objectives.weighting import Weighting


class PCGrad(Weighting):
    """Without a conflict the weights are λ."""

    needs_gramian = True

    def __init__(self, *, weights: Sequence[float] = (1.0,), seed: int = 0) -> None:
        super().__init__(weights)
        self.seed = seed
        self.method = PCGradWeighting()

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor) -> torch.Tensor:
        """λ, times 1 and what the others' projections have added."""
        with torch.random.fork_rng(devices=()):  # TorchJD draws from torch's generator of the CPU
            torch.default_generator.manual_seed(self.seed * 1_000_003 + self.step)
            return from_gramian(self.method, gramian_HH, self.weights_H)
