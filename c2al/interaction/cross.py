"""Cross layers over the flattened tokens.

Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems",
arXiv 2008.13535. The weight is of low rank, as in its DCN-Mix, with one expert and no gate.
"""

import torch
from torch import nn

from c2al.interaction.linear import TokenLinear


class Cross(nn.Module):
    """``x0 ⊙ (W x + b) + x``, with ``W = U V`` of the given rank."""

    def __init__(self, *, features: int, rank: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, rank, bias=False)
        self.expand = nn.Linear(rank, features)
        nn.init.normal_(self.project.weight, std=features**-0.5)
        nn.init.normal_(self.expand.weight, std=rank**-0.5)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x0_BE: torch.Tensor, x_BE: torch.Tensor) -> torch.Tensor:
        """``x0_BE`` is the network's input, ``x_BE`` the layer's."""
        return x0_BE * self.expand(self.project(x_BE)) + x_BE


class CrossBlock(nn.Module):
    """Cross layers, each of one order more, as one module of a DHEN layer: ``x_BFD -> [B, M, D]``."""

    def __init__(self, *, num_tokens: int, dim: int, out_tokens: int, rank: int = 64, num_layers: int = 1) -> None:
        super().__init__()
        self.num_tokens, self.dim = num_tokens, dim
        self.layers = nn.ModuleList(Cross(features=num_tokens * dim, rank=rank) for _ in range(num_layers))
        self.compress: nn.Module = nn.Identity()
        if out_tokens != num_tokens:
            self.compress = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=out_tokens)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Crosses of every bit of every token with every other."""
        x0_BE = x_BE = x_BFD.flatten(1)
        for layer in self.layers:
            x_BE = layer(x0_BE, x_BE)
        return self.compress(x_BE.view(-1, self.num_tokens, self.dim))
