"""Group DRO: the loss of the worst-off cohort, by weights that grow exponentially with each cohort's loss.

Shiori Sagawa, Pang Wei Koh, Tatsunori B. Hashimoto, Percy Liang 2020, arXiv 1911.08731, algorithm 1 and section 3.3:
``q_g ← q_g exp(η (L_g + C / √n_g))``, normalised, then a step on ``Σ_g q_g L_g``; L_g is the mean log loss (nats) of
cohort g's rows, η the step size, C the adjustment for small cohorts.

Departs from the paper: L_g is over the global batch, summed over ranks, rather than of one group drawn a step (as the
authors' own code does on one device); a cohort without rows in a batch keeps its weight but for the normalisation. The
paper finds that it helps only with strong regularisation, which is ``training.dense.weight_decay`` and early stopping.
A row in no cohort belongs to one more group. q is a buffer: it is in the model's state, and hence in checkpoints.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from c2al.objectives.gramian import sum_over_ranks


class GroupDRO(nn.Module):
    """``(loss_B, weight_B, cohort_B) -> factor_B``, such that the mean weighted loss becomes ``Σ_g q_g L_g``.

    ``num_rows`` are weighted counts of training by cohort, and of rows in none as the last.
    """

    q_G: torch.Tensor
    margin_G: torch.Tensor

    def __init__(
        self, *, cohorts: Sequence[str], num_rows: Sequence[float], step_size: float = 0.01, adjustment: float = 0.0
    ) -> None:
        super().__init__()
        rows_G = torch.tensor(list(num_rows), dtype=torch.float32)
        if len(rows_G) != len(cohorts) + 1 or not float(rows_G.sum()) > 0:
            raise ValueError(f"{len(cohorts)} cohorts need their numbers of rows, and that of rows in none")
        if step_size < 0 or adjustment < 0:
            raise ValueError(f"step_size {step_size} and adjustment {adjustment} must not be negative")
        self.step_size = step_size
        there_G = (rows_G > 0).float()
        self.register_buffer("q_G", there_G / there_G.sum())
        self.register_buffer("margin_G", adjustment / rows_G.clamp_min(1).sqrt(), persistent=False)

    @torch.no_grad()
    def forward(self, loss_B: torch.Tensor, weight_B: torch.Tensor, cohort_B: torch.Tensor) -> torch.Tensor:
        """Move q by the global batch's losses, then each row's factor. Collective."""
        group_B = torch.where(cohort_B < 0, len(self.q_G) - 1, cohort_B)
        group_BG = functional.one_hot(group_B, len(self.q_G)).float()  # a product adds in one order, index_add does not
        sums_2G = torch.stack([weight_B * loss_B, weight_B]) @ group_BG
        sum_over_ranks(sums_2G)
        there_G = sums_2G[1] > 0
        weight_G = torch.where(there_G, sums_2G[1], 1.0)
        gain_G = torch.where(there_G, sums_2G[0] / weight_G + self.margin_G, 0.0)
        q_G = self.q_G * (self.step_size * gain_G).exp()
        self.q_G.copy_(q_G / q_G.sum())
        return (self.q_G * sums_2G[1].sum() / weight_G)[group_B]

    def told(self) -> dict[str, torch.Tensor]:
        """q by cohort, the rows in none last."""
        return {"group_weights": self.q_G}
