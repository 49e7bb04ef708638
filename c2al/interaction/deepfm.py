"""DeepFM: a factorization machine and a deep network over the same embeddings.

Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", arXiv 1703.04247::

    logit = b + FM(x) + w^T DNN(flatten(v))

``w`` and ``b`` are the head's (``heads.hidden=[]``). With three layers of 400 and batch norm it has the parameters of
the BARS benchmark's DeepFM: 423,280 on Frappe_x1 and 1,328,630 on MovielensLatest_x1, width 10. Differs: see ``fm.py``
for multi-valued and dense columns; several heads share the FM terms; batch norm, which is BARS's.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.dnn import dnn
from c2al.interaction.fm import fm_terms


class DeepFM(nn.Module):
    """``x_BFD -> z_BE``: the deep network's last layer, then the FM's terms; tokens are D + 1 wide."""

    out_features: int
    first_order = True
    additive_features = 1

    def __init__(
        self, *, num_tokens: int, dim: int, hidden: Sequence[int] = (400, 400, 400), batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.deep = dnn(num_tokens * dim, hidden, batch_norm=batch_norm)
        self.out_features = hidden[-1] + 1

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """The deep network does not see the first-order weights."""
        return torch.cat([self.deep(x_BFD[..., :-1].flatten(1)), fm_terms(x_BFD)], dim=1)
