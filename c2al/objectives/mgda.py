"""MGDA: the shortest vector in the convex hull of the gradients, which lowers every loss or is zero.

Jean-Antoine Désidéri 2012, C. R. Acad. Sci. Paris 350; for neural networks Ozan Sener, Vladlen Koltun 2018,
arXiv 1810.04650, of which this is MGDA-UB, section 3.3, solved by Frank and Wolfe (algorithm 2):
``argmin_{α in simplex} ‖Σ_h α_h g_h‖²`` with g_h the gradient with respect to the representation.

Departs from the paper: of the losses ``λ_h L_h``. The shortest vector leans on the shortest gradients: a small λ makes
its head's weight *large*, and the primary head's close to zero.
"""

from collections.abc import Sequence

import torch
from torchjd.aggregation import MGDAWeighting

from c2al.objectives.gramian import from_gramian
from c2al.objectives.weighting import Weighting


class MGDA(Weighting):
    """The weights over λ sum to one."""

    needs_gramian = True

    def __init__(self, *, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__(weights)
        self.method = MGDAWeighting()

    def forward(self, losses_H: torch.Tensor, gramian_HH: torch.Tensor) -> torch.Tensor:
        """λ times α."""
        return from_gramian(self._on_cpu, gramian_HH, self.weights_H)

    def _on_cpu(self, gramian_HH: torch.Tensor) -> torch.Tensor:
        return self.method(gramian_HH.cpu())  # a loop of tiny steps, each of which a GPU would be waited for
