"""Factorization machines and, with ``dim=0``, logistic regression: the terms that others build upon.

Rendle 2010, "Factorization Machines", ICDM 2010 (no arXiv)::

    logit = b + sum_i w_i + sum_{i<j} <v_i, v_j>

The bias b is the head's. Differs: a multi-valued column is one feature, the mean or sum of its ids' w and v; all dense
columns together are one token by a small network, where the paper multiplies each value by a w and a v of its own.
"""

import torch
from torch import nn


def fm_terms(x_BFD: torch.Tensor) -> torch.Tensor:
    """``[B, F, D + 1] -> [B, 1]``: the first-order weights of the last column, and all pairs of the rest.

    ``sum_{i<j} <v_i, v_j> = ½ sum_d ((sum_i v_id)² - sum_i v_id²)``, linear in F.
    """
    v_BFD, w_BF = x_BFD[..., :-1], x_BFD[..., -1]
    pairs_BD = v_BFD.sum(1).square() - v_BFD.square().sum(1)
    return w_BF.sum(1, keepdim=True) + 0.5 * pairs_BD.sum(1, keepdim=True)


class FM(nn.Module):
    """``x_BFD -> z_BE`` with E = 1, which enters the logits as it is; tokens are D + 1 wide. Has no parameters."""

    out_features: int
    first_order = True
    additive_features = 1

    def __init__(self, *, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.out_features = 1

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """First and second order."""
        return fm_terms(x_BFD)
