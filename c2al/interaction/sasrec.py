"""SASRec, made aware of its target: causal self-attention over a history, read by the candidate's token.

* Kang and McAuley 2018, "Self-Attentive Sequential Recommendation", arXiv 1808.09781, section III: learned positions,
  blocks of causal self-attention and of a point-wise network, each as ``h + f(LayerNorm(h))``; the score of a candidate
  is its dot product with the last place's state.
* Zhou et al. 2018, "Deep Interest Network", arXiv 1706.06978, and Chen et al. 2019, "Behavior Sequence Transformer",
  arXiv 1905.06874: the candidate attends to the history, and a network reads the result beside the other features::

    h = Blocks(history + positions)     interest = Attention(target; h)     z = DNN([others, interest, last ∘ target])

Differs: no dropout; candidate and history each have a table of their own; ``last ∘ target`` is not summed, so that the
network weighs its D parts. Places are counted from the latest one back.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.dnn import dnn
from c2al.interaction.masked_attention import MaskedAttention


class Block(nn.Module):
    """``h_BLD, allowed_BLL -> h_BLD``."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.self_attention = MaskedAttention(dim=dim, num_heads=num_heads)
        self.norm_2 = nn.LayerNorm(dim)
        self.point_wise = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, h_BLD: torch.Tensor, allowed_BLL: torch.Tensor) -> torch.Tensor:
        """Each place with what it finds at itself and earlier."""
        normed = self.norm(h_BLD)
        h_BLD = h_BLD + self.self_attention(normed, normed, allowed_BLL)
        return h_BLD + self.point_wise(self.norm_2(h_BLD))


class SASRec(nn.Module):
    """``x_BFD -> z_BE``: the last ``num_places`` tokens are the history, oldest first, token ``target`` the candidate.

    A place whose token is all zeros is empty: nothing looks at it, and it gives nothing.
    """

    out_features: int
    causal_LL: torch.Tensor

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_places: int = 4,
        target: int = 0,
        num_blocks: int = 2,
        num_heads: int = 2,
        hidden: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        self.num_others, self.target = num_tokens - num_places, target
        if not 0 <= target < self.num_others:
            raise ValueError(f"token {target} is no candidate: {num_tokens} tokens, the last {num_places} the history")
        self.register_buffer("causal_LL", torch.ones(num_places, num_places).tril().bool(), persistent=False)
        self.position_LD = nn.Parameter(torch.empty(num_places, dim))
        nn.init.normal_(self.position_LD, std=0.02)
        self.blocks = nn.ModuleList(Block(dim=dim, num_heads=num_heads) for _ in range(num_blocks))
        self.norm, self.target_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.target_attention = MaskedAttention(dim=dim, num_heads=num_heads)
        self.deep = dnn((self.num_others + 2) * dim, hidden)
        self.out_features = hidden[-1]

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """The history's states, what the candidate finds in them, and a network over all that."""
        others_BFD, h_BLD = x_BFD[:, : self.num_others], x_BFD[:, self.num_others :]
        there_B1L = h_BLD.ne(0).any(-1).unsqueeze(1)
        h_BLD = h_BLD + self.position_LD
        for block in self.blocks:
            h_BLD = block(h_BLD, there_B1L & self.causal_LL)
        h_BLD = self.norm(h_BLD)
        target_B1D = self.target_norm(others_BFD[:, self.target : self.target + 1])
        interest_B1D = self.target_attention(target_B1D, h_BLD, there_B1L)
        last_B1D = h_BLD[:, -1:] * there_B1L[:, :, -1:] * target_B1D
        return self.deep(torch.cat([others_BFD, interest_B1D, last_B1D], dim=1).flatten(1))
