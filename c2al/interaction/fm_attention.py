"""FM attention, ``G = X Xᵀ Y``: pairwise interactions of tokens, projected from F×F to F×K.

* Zhang et al. 2024, "Wukong", arXiv 2403.02545: the factorization machine block ("FMB") and, in section 3.6, Y as a
  learned constant or made from X: compress over tokens, flatten, MLP, reshape; no softmax.
* "C2AL: Cohort-Contrastive Auxiliary Learning", 2025, arXiv 2510.02215: the same in a DHEN layer, Y made from X.
* Zhang et al. 2022, "DHEN", arXiv 2203.11014: the block stands there as "advanced DLRM".
"""

import torch
from torch import nn

from c2al.interaction.linear import TokenLinear
from c2al.interaction.mlp import mlp


class AttentiveY(nn.Module):
    """``x_BFD -> Y_BFK``; ``std`` is that of Y at the start, for X of unit variance.

    Half of that variance is a constant (the last bias) and half follows X, so that Y does not vanish where the
    embedding tables start close to zero: G would then be cubic in them.
    """

    def __init__(
        self, *, num_tokens: int, dim: int, rank: int, compressed_tokens: int, hidden: int, std: float
    ) -> None:
        super().__init__()
        self.num_tokens, self.rank = num_tokens, rank
        self.compress = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=compressed_tokens)
        half = std / 2**0.5
        self.mlp = mlp(compressed_tokens * dim, [hidden], num_tokens * rank, out_scale=half, bias_scale=half)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """A matrix Y for every row of the batch."""
        return self.mlp(self.compress(x_BFD).flatten(1)).view(-1, self.num_tokens, self.rank)


class FMAttention(nn.Module):
    """``x_BFD -> G_BFK = X Xᵀ Y``, in the association with fewer multiplications.

    ``X (Xᵀ Y)`` takes 2·F·D·K of them, ``(X Xᵀ) Y`` takes F²·(D + K). Y is the output of the submodule ``attention``,
    or, if not attentive, the parameter ``y_FK``.

    Y starts with standard deviation (D (F + D + 1))^-½: for independent standard normal X, G then has unit variance.
    """

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        rank: int,
        attentive: bool = True,
        compressed_tokens: int = 4,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        std = (dim * (num_tokens + dim + 1)) ** -0.5
        self.attention: AttentiveY | None = None
        if attentive:
            self.attention = AttentiveY(
                num_tokens=num_tokens,
                dim=dim,
                rank=rank,
                compressed_tokens=compressed_tokens,
                hidden=hidden,
                std=std,
            )
        else:
            self.y_FK = nn.Parameter(torch.empty(num_tokens, rank))
            nn.init.normal_(self.y_FK, std=std)
        self.gram_first = num_tokens * (dim + rank) < 2 * dim * rank

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """K interaction values for every token."""
        y_BFK = self.y_FK.expand(x_BFD.shape[0], -1, -1) if self.attention is None else self.attention(x_BFD)
        if self.gram_first:
            return torch.bmm(torch.bmm(x_BFD, x_BFD.transpose(1, 2)), y_BFK)
        # Xᵀ Y is written as (Yᵀ X)ᵀ: a fifth less time on a CPU.
        return torch.bmm(x_BFD, torch.bmm(y_BFK.transpose(1, 2), x_BFD).transpose(1, 2))


class FMBlock(nn.Module):
    """``reshape(MLP(LayerNorm(flatten(G)))) -> [B, M, D]``: FM attention as one module of a DHEN or Wukong layer."""

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        out_tokens: int,
        rank: int = 8,
        attentive: bool = True,
        compressed_tokens: int = 4,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.out_tokens, self.dim = out_tokens, dim
        self.fm = FMAttention(
            num_tokens=num_tokens,
            dim=dim,
            rank=rank,
            attentive=attentive,
            compressed_tokens=compressed_tokens,
            hidden=hidden,
        )
        self.norm = nn.LayerNorm(num_tokens * rank)
        self.mlp = mlp(num_tokens * rank, [hidden], out_tokens * dim)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Interactions, back in the form of tokens."""
        g_BFK = self.fm(x_BFD)
        return self.mlp(self.norm(g_BFK.flatten(1))).view(-1, self.out_tokens, self.dim)
