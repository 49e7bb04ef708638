"""DLRM: the dot products of all pairs of tokens, then a network.

Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation Systems", arXiv
1906.00091, section 2::

    z = DNN([x_dense, <x_i, x_j> for all i < j])

The bottom network is ``embedding/dense.py``, and ``x_dense`` the tokens that it makes, which stand last; the top
network's last layer is the head (``heads.hidden=[]``). Differs: where the data has no dense columns, the last sparse
token takes the place of ``x_dense``.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.dnn import dnn


class DLRM(nn.Module):
    """``x_BFD -> z_BE``; the last ``passed_tokens`` reach the top network as they are, beside the dot products."""

    out_features: int
    pairs: torch.Tensor

    def __init__(
        self, *, num_tokens: int, dim: int, hidden: Sequence[int] = (256, 128), passed_tokens: int = 1
    ) -> None:
        super().__init__()
        row, column = torch.triu_indices(num_tokens, num_tokens, offset=1)
        self.register_buffer("pairs", row * num_tokens + column, persistent=False)
        self.first_passed = num_tokens - passed_tokens
        self.top = dnn(len(row) + passed_tokens * dim, hidden)
        self.out_features = hidden[-1]

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """F (F - 1) / 2 dot products, from all F² in one product a row."""
        dots_BP = torch.bmm(x_BFD, x_BFD.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        return self.top(torch.cat([x_BFD[:, self.first_passed :].flatten(1), dots_BP], dim=1))
