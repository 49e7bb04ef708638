"""Rows weighted by their cohort: inversely to its frequency, or by a given table; the plainest answer to rare cohorts.

``w_g ∝ n_g^−power``: power 1 makes all cohorts count alike (importance weighting; the baseline of Sagawa et al. 2020,
arXiv 1911.08731, section 2 and 5, there by group size as here), 0.5 half-way, 0 is no weighting at all. The weights are
scaled so that the mean over the training rows is one, whence learning rates keep their meaning.

A table names weights by cohort; those that it does not name have 1 before scaling. A row in no cohort of the axis
belongs to one more group.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn


class Reweighting(nn.Module):
    """``(loss_B, weight_B, cohort_B) -> factor_B``.

    ``cohorts`` are the axis's; ``num_rows`` has one entry more, that of rows in none: weighted counts of training.
    """

    factor_G: torch.Tensor

    def __init__(
        self,
        *,
        cohorts: Sequence[str],
        num_rows: Sequence[float],
        power: float = 1.0,
        table: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        unknown = [name for name in table or {} if name not in cohorts]
        if unknown:
            raise ValueError(f"the axis has no cohort {unknown[0]!r}; known: {', '.join(cohorts)}")
        rows_G = torch.tensor(list(num_rows), dtype=torch.float64)
        factor_G = rows_G.clamp_min(1).pow(-power)
        if table:
            factor_G = torch.tensor([*(float(table.get(name, 1.0)) for name in cohorts), 1.0], dtype=torch.float64)
        mean = (factor_G * rows_G).sum() / rows_G.sum()
        if not (bool((factor_G >= 0).all()) and float(mean) > 0):
            raise ValueError(f"weights of cohorts must be numbers from 0, not all of them 0: {table}")
        self.register_buffer("factor_G", (factor_G / mean).float(), persistent=False)

    def forward(self, loss_B: torch.Tensor, weight_B: torch.Tensor, cohort_B: torch.Tensor) -> torch.Tensor:
        """Each row's factor, whatever its loss."""
        return self.factor_G[cohort_B]  # -1 reads the last

    def told(self) -> dict[str, torch.Tensor]:
        """Nothing that changes."""
        return {}
