"""Multi-head self-attention over tokens (Vaswani et al. 2017, arXiv 1706.03762), as DHEN uses it (arXiv 2203.11014)."""

import torch
from torch import nn
from torch.nn import functional

from c2al.interaction.linear import TokenLinear


class SelfAttention(nn.Module):
    """``x_BFD -> [B, M, D]``. Shortcut and norm are the layer's around it; no position, since columns have no order."""

    def __init__(self, *, num_tokens: int, dim: int, out_tokens: int, num_heads: int = 2) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"token width {dim} does not divide into {num_heads} attention heads")
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.project = nn.Linear(dim, dim, bias=False)
        nn.init.normal_(self.query_key_value.weight, std=dim**-0.5)
        nn.init.normal_(self.project.weight, std=dim**-0.5)
        self.compress: nn.Module = nn.Identity()
        if out_tokens != num_tokens:
            self.compress = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=out_tokens)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Every token as a mixture of all tokens' values."""
        # [B, F, 3D] -> three of [B, attention heads, F, width of a head]; indexed, since torch.fx cannot unpack
        parts = self.query_key_value(x_BFD).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.compress(self.project(mixed.transpose(1, 2).flatten(2)))
