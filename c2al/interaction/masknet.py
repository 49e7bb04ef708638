"""MaskNet: every row's own mask over features and hidden units.

Wang et al. 2021, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided Mask",
arXiv 2102.07619, section 3::

    mask = W_2 ReLU(W_1 v + b_1) + b_2                    v: all embeddings, flat
    block(h) = ReLU(LayerNorm(W (mask ⊙ h)))              W without bias, as the norm has one
    parallel: z = DNN(concat_i block_i(LN_emb(v)))        serial: h_1 = block_1(LN_emb(v)), h_{i+1} = block_{i+1}(h_i)

The head is linear (``heads.hidden=[]``). Differs: the columns share gain and bias of ``LN_emb``, which normalizes each
token by itself; ``reduction``, the width of W_1 by that of the mask, is 1 by default, where the paper's is 2.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.dnn import dnn
from c2al.interaction.mlp import mlp


class MaskBlock(nn.Module):
    """``(v_BE, h_BI) -> [B, out_features]``."""

    def __init__(self, *, embedded: int, in_features: int, out_features: int, reduction: float) -> None:
        super().__init__()
        self.mask = mlp(embedded, [max(1, round(reduction * in_features))], in_features)
        self.linear = nn.Linear(in_features, out_features, bias=False)
        nn.init.normal_(self.linear.weight, std=in_features**-0.5)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, v_BE: torch.Tensor, h_BI: torch.Tensor) -> torch.Tensor:
        """What the row's embeddings let through."""
        return torch.relu(self.norm(self.linear(self.mask(v_BE) * h_BI)))


class MaskNet(nn.Module):
    """``x_BFD -> z_BE``; ``hidden`` is the network over parallel blocks, which serial ones do without."""

    out_features: int

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_blocks: int = 3,
        block_features: int = 64,
        reduction: float = 1.0,
        hidden: Sequence[int] = (64,),
        serial: bool = False,
    ) -> None:
        super().__init__()
        embedded = num_tokens * dim
        self.serial = serial
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            MaskBlock(
                embedded=embedded,
                in_features=block_features if serial and i else embedded,
                out_features=block_features,
                reduction=reduction,
            )
            for i in range(num_blocks)
        )
        self.deep = None if serial else dnn(num_blocks * block_features, hidden)
        self.out_features = block_features if serial else hidden[-1]

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """All masks are made from the embeddings themselves, whatever they are laid upon."""
        v_BE, h_BI = x_BFD.flatten(1), self.norm(x_BFD).flatten(1)
        if self.deep is not None:
            return self.deep(torch.cat([block(v_BE, h_BI) for block in self.blocks], dim=1))
        for block in self.blocks:
            h_BI = block(v_BE, h_BI)
        return h_BI
