"""FinalMLP: two networks over differently gated features, and a bilinear form of what they find.

Mao et al. 2023, "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", arXiv 2304.00902, section 3::

    h_s = 2 sigmoid(gate_s(x_s)) ⊙ v,   o_s = MLP_s(h_s)                     s = 1, 2;  v: all embeddings, flat
    logit = b + w_1^T o_1 + w_2^T o_2 + sum_k o_1k^T W_k o_2k                o_s cut into k = 1 … num_heads parts

``b``, ``w_1`` and ``w_2`` are the head's (``heads.hidden=[]``). ``x_s`` is a part of the features, such as the user's
or the item's; with none named, a learned vector, as in the authors' code. ``num_heads`` is of the bilinear form.
Differs: several heads share the bilinear term.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.dnn import dnn
from c2al.interaction.mlp import mlp


class Gate(nn.Module):
    """``x_BFD -> 2 sigmoid(gate(context)) ⊙ flatten(x)``, 1 where the gate says nothing."""

    def __init__(self, *, num_tokens: int, dim: int, context: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.context = list(context)
        if not self.context:
            self.learned_D = nn.Parameter(torch.randn(dim))
        self.mlp = mlp(max(1, len(self.context)) * dim, [hidden], num_tokens * dim)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """The same gates for every row where the context is a learned vector."""
        context = x_BFD[:, self.context].flatten(1) if self.context else self.learned_D.unsqueeze(0)
        return 2 * torch.sigmoid(self.mlp(context)) * x_BFD.flatten(1)


class FinalMLP(nn.Module):
    """``x_BFD -> z_BE``: both streams, then the bilinear term. ``contexts`` are the tokens' places in x, by stream."""

    out_features: int
    additive_features = 1

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        hidden_1: Sequence[int] = (400, 400),
        hidden_2: Sequence[int] = (400, 400),
        num_heads: int = 8,
        contexts: Sequence[Sequence[int]] = ((), ()),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = (hidden_1[-1], hidden_2[-1])
        if any(width % num_heads for width in widths):
            raise ValueError(f"streams of {widths[0]} and {widths[1]} features do not divide into {num_heads} parts")
        self.num_heads = num_heads
        self.gates = nn.ModuleList(Gate(num_tokens=num_tokens, dim=dim, context=context) for context in contexts)
        self.streams = nn.ModuleList(
            dnn(num_tokens * dim, hidden, batch_norm=batch_norm) for hidden in (hidden_1, hidden_2)
        )
        self.weight_KIJ = nn.Parameter(torch.empty(num_heads, *(width // num_heads for width in widths)))
        nn.init.normal_(self.weight_KIJ, std=0.1 * (widths[0] * widths[1] / num_heads) ** -0.5)
        self.out_features = sum(widths) + 1

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """The streams meet in the bilinear form alone."""
        o_1, o_2 = (stream(gate(x_BFD)) for stream, gate in zip(self.streams, self.gates, strict=True))
        first_KBI, second_KBJ = (o.unflatten(1, (self.num_heads, -1)).transpose(0, 1) for o in (o_1, o_2))
        fused_B = (torch.bmm(first_KBI, self.weight_KIJ) * second_KBJ).sum((0, 2))
        return torch.cat([o_1, o_2, fused_B.unsqueeze(1)], dim=1)
