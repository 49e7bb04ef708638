"""AutoInt: layers of multi-head self-attention over the tokens.

Song et al. 2019, "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", arXiv
1810.11921, section 4::

    X_{l+1} = ReLU(concat_h softmax(Q_h K_h^T) V_h + X_l W_res)

without scaling of the logits, as the paper. The head is linear over all tokens (``heads.hidden=[]``). With ``hidden`` a
deep network over the input stands beside it: AutoInt+. Differs: dense columns together are tokens by a small network,
where the paper multiplies each value by a vector.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from c2al.interaction.dnn import dnn


class InteractingLayer(nn.Module):
    """``[B, F, D] -> [B, F, num_heads * head_dim]``."""

    def __init__(self, *, in_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, width = num_heads, num_heads * head_dim
        self.query_key_value = nn.Linear(in_dim, 3 * width, bias=False)
        self.shortcut = nn.Linear(in_dim, width, bias=False)
        nn.init.normal_(self.query_key_value.weight, std=in_dim**-0.5)
        nn.init.normal_(self.shortcut.weight, std=in_dim**-0.5)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Every token with what it attends to."""
        parts = self.query_key_value(x_BFD).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], scale=1.0)
        return torch.relu(mixed.transpose(1, 2).flatten(2) + self.shortcut(x_BFD))


class AutoInt(nn.Module):
    """``x_BFD -> z_BE``: the last layer's tokens, flat, and the deep network's last layer where there is one."""

    out_features: int

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_layers: int = 3,
        num_heads: int = 2,
        head_dim: int = 8,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.layers = nn.Sequential(
            *(
                InteractingLayer(in_dim=width if i else dim, num_heads=num_heads, head_dim=head_dim)
                for i in range(num_layers)
            )
        )
        self.deep = dnn(num_tokens * dim, hidden) if hidden else None
        self.out_features = num_tokens * width + (hidden[-1] if hidden else 0)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Interactions of an order that doubles with every layer."""
        z_BE = self.layers(x_BFD).flatten(1)
        return z_BE if self.deep is None else torch.cat([z_BE, self.deep(x_BFD.flatten(1))], dim=1)
