"""UPGrad: each gradient is projected onto the cone of directions that harm no head, then all are added.

Pierre Quinton, Valérian Rey 2024, "Jacobian Descent for Multi-Objective Optimization", arXiv 2406.16232, section 2.2:
``Σ_h argmin_{d: ⟨d, g_k⟩ ≥ 0 for all k} ‖d − g_h‖²``, H quadratic programs in H variables.

Departs from the paper: on the gradients with respect to the representation (``gramian.py``), of the losses ``λ_h L_h``,
and summed where the paper takes the mean, so that without a conflict it is the plain sum.
"""

from collections.abc import Sequence

import torch
from torchjd.aggregation import UPGradWeighting

from c2al.objectives.gramian import from_gramian
from c2al.objectives.weighting import Weighting


class UPGrad(Weighting):
    """Without a conflict the weights are λ."""

    needs_gramian = True

    def __init__(self, *, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__(weights)
        self.method = UPGradWeighting(pref_vector=torch.ones(len(weights)))

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor) -> torch.Tensor:
        """λ, times 1 and what keeps the others from harm."""
        return from_gramian(self._on_cpu, gramian_HH, self.weights_H)

    def _on_cpu(self, gramian_HH: torch.Tensor) -> torch.Tensor:
        return self.method(gramian_HH.cpu())  # where the quadratic programs are solved
