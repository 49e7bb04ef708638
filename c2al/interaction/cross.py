"""Cross layers over the flattened tokens: full rank, low rank, and a mixture of low-rank experts.

Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems",
arXiv 2008.13535, sections 3.2 and 3.5. A layer is called with the network's input ``x0_BE`` and its own, ``x_BE``.
"""

import torch
from torch import nn

from c2al.interaction.linear import TokenLinear


class FullCross(nn.Module):
    """``x0 ⊙ (W x + b) + x``, W whole."""

    def __init__(self, *, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, features)
        nn.init.normal_(self.linear.weight, std=features**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x0_BE: torch.Tensor, x_BE: torch.Tensor) -> torch.Tensor:
        """One order more."""
        return x0_BE * self.linear(x_BE) + x_BE


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
        """One order more."""
        return x0_BE * self.expand(self.project(x_BE)) + x_BE


class MixedCross(nn.Module):
    """``x0 ⊙ (sum_i G_i(x) U_i g(C_i g(V_i x)) + b) + x``: experts of low rank, g = tanh, G softmax of a linear gate.

    The paper has b inside each expert, the same in all: as the gates of a softmax sum to one, it stands outside here.
    """

    def __init__(self, *, features: int, rank: int, num_experts: int) -> None:
        super().__init__()
        self.project_NER = nn.Parameter(torch.empty(num_experts, features, rank))
        self.within_NRR = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.expand_NRE = nn.Parameter(torch.empty(num_experts, rank, features))
        for weight in (self.project_NER, self.within_NRR, self.expand_NRE):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        self.bias_E = nn.Parameter(torch.zeros(features))
        self.gate = nn.Linear(features, num_experts, bias=False)

    def forward(self, x0_BE: torch.Tensor, x_BE: torch.Tensor) -> torch.Tensor:
        """One order more, but for the tanh."""
        inside_NBR = torch.tanh(torch.matmul(x_BE, self.project_NER))
        inside_NBR = torch.tanh(torch.bmm(inside_NBR, self.within_NRR))
        gates_NB = self.gate(x_BE).softmax(dim=1).t()
        # a gate is a number a row: before the expansion it scales R numbers, after it E
        mixed_BE = torch.bmm(inside_NBR * gates_NB.unsqueeze(2), self.expand_NRE).sum(0)
        return x0_BE * (mixed_BE + self.bias_E) + x_BE


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
