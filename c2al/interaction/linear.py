"""Linear recombination of tokens: the linear module of DHEN, the linear compression block of Wukong.

Zhang et al. 2024, "Wukong: Towards a Scaling Law for Large-Scale Recommendation", arXiv 2403.02545, section 3.4.
"""

import torch
from torch import nn
from torch.nn import functional


class TokenLinear(nn.Module):
    """``W_MF x_BFD -> [B, M, D]``: every new token is a weighted sum of all tokens; the width is left alone."""

    def __init__(self, *, num_tokens: int, dim: int, out_tokens: int) -> None:
        super().__init__()
        self.weight_MF = nn.Parameter(torch.empty(out_tokens, num_tokens))
        nn.init.normal_(self.weight_MF, std=num_tokens**-0.5)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """One matrix product over all rows and columns of the width."""
        return functional.linear(x_BFD.transpose(1, 2), self.weight_MF).transpose(1, 2)
