"""Attention whose weights can be looked at, over places some of which are empty or still to come.

Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.2. Differs: where a query may look at
nothing, its weights are zeros, and so is what it gets.
"""

import torch
from torch import nn

NEVER = -1e9  # finite: a row without anything to look at must not become NaN, nor its gradient


class AttentionWeights(nn.Module):
    """``query_BQD, key_BLD, allowed_BQL -> weights [B, num_heads, Q, L]``: rows sum to 1, or are zero."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"token width {dim} does not divide into {num_heads} attention heads")
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        for linear in (self.query, self.key):
            nn.init.normal_(linear.weight, std=dim**-0.5)

    def forward(self, query_BQD: torch.Tensor, key_BLD: torch.Tensor, allowed_BQL: torch.Tensor) -> torch.Tensor:
        """Softmax over the keys that a query is allowed to look at."""
        query = self.query(query_BQD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key = self.key(key_BLD).unflatten(-1, (self.num_heads, -1)).permute(0, 2, 3, 1)
        allowed = allowed_BQL.unsqueeze(1)
        logits = (torch.matmul(query, key) * self.scale).masked_fill(~allowed, NEVER)
        return logits.softmax(-1) * allowed


class MaskedAttention(nn.Module):
    """``query_BQD, key_BLD, allowed_BQL -> [B, Q, D]``: values mixed by the weights of the submodule ``attention``."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = AttentionWeights(dim=dim, num_heads=num_heads)
        self.num_heads = num_heads
        self.value = nn.Linear(dim, dim, bias=False)
        self.project = nn.Linear(dim, dim, bias=False)
        for linear in (self.value, self.project):
            nn.init.normal_(linear.weight, std=dim**-0.5)

    def forward(self, query_BQD: torch.Tensor, key_BLD: torch.Tensor, allowed_BQL: torch.Tensor) -> torch.Tensor:
        """What each query finds among the keys."""
        weights = self.attention(query_BQD, key_BLD, allowed_BQL)
        value = self.value(key_BLD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return self.project(torch.matmul(weights, value).transpose(1, 2).flatten(2))
