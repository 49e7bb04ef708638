"""Wukong: layers of factorization machine blocks and linear compressions, each of which doubles the order.

Zhang et al. 2024, "Wukong: Towards a Scaling Law for Large-Scale Recommendation", arXiv 2403.02545, section 3::

    X_{l+1} = LayerNorm(concat(FMB(X_l), LCB(X_l)) + X_l)
    FMB(X) = reshape(MLP(LayerNorm(flatten(X X^T Y))))          LCB(X) = W X

Y is learned, or made from X ("attentive", section 3.6). Where the number of tokens changes, the shortcut is a linear
recombination of them, as in the paper. Differs: one linear layer with ReLU makes ``z_BE`` from the last layer's tokens
and the towers follow, where the paper has one MLP to the logit; as ``dhen.py``, so that a tower stays small.
"""

import torch
from torch import nn

from c2al.interaction.dhen import InteractionFactory
from c2al.interaction.fm_attention import FMBlock
from c2al.interaction.linear import TokenLinear
from c2al.interaction.mlp import mlp


class WukongLayer(nn.Module):
    """``[B, num_tokens, dim] -> [B, fm_tokens + linear_tokens, dim]``."""

    def __init__(
        self, *, num_tokens: int, dim: int, fm_tokens: int, linear_tokens: int, fm_block: InteractionFactory
    ) -> None:
        super().__init__()
        self.fm_block = fm_block(num_tokens=num_tokens, dim=dim, out_tokens=fm_tokens)
        self.linear = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=linear_tokens)
        self.shortcut: nn.Module = nn.Identity()
        if (out_tokens := fm_tokens + linear_tokens) != num_tokens:
            self.shortcut = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=out_tokens)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """New interactions beside what was there."""
        return self.norm(torch.cat([self.fm_block(x_BFD), self.linear(x_BFD)], dim=1) + self.shortcut(x_BFD))


class Wukong(nn.Module):
    """``x_BFD -> z_BE``. ``fm_tokens`` and ``linear_tokens`` are the paper's n_F and n_L, the same in every layer.

    ``fm_block`` makes the FM block: rank, Y attentive or learned, widths.
    """

    out_features: int

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_layers: int = 2,
        fm_tokens: int = 8,
        linear_tokens: int = 8,
        out_features: int = 64,
        fm_block: InteractionFactory = FMBlock,
    ) -> None:
        super().__init__()
        tokens = fm_tokens + linear_tokens
        self.layers = nn.Sequential(
            *(
                WukongLayer(
                    num_tokens=tokens if i else num_tokens,
                    dim=dim,
                    fm_tokens=fm_tokens,
                    linear_tokens=linear_tokens,
                    fm_block=fm_block,
                )
                for i in range(num_layers)
            )
        )
        self.output = nn.Sequential(nn.Flatten(1), mlp(tokens * dim, [], out_features, out_scale=2**0.5), nn.ReLU())
        self.out_features = out_features

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """All layers, then the representation that the heads share."""
        return self.output(self.layers(x_BFD))
