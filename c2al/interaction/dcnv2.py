"""DCN V2: cross layers and a deep network, beside each other or one after the other.

Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems",
arXiv 2008.13535, section 3::

    x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l
    parallel: z = [x_L, DNN(x_0)]        stacked: z = DNN(x_L)

W is whole, of low rank, or a mixture of low-rank experts (``cross.py``). The head is linear (``heads.hidden=[]``). With
three layers of 400 and batch norm, parallel, it has the parameters of the BARS benchmark's DCNv2: 458,391 on Frappe_x1
(4 cross layers) and 1,243,071 on MovielensLatest_x1 (5), width 10. Differs: batch norm, which is BARS's; all dense
columns together are tokens by a small network, where the paper appends them as they are.
"""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.interaction.cross import Cross, FullCross, MixedCross
from c2al.interaction.dnn import dnn


class DCNv2(nn.Module):
    """``x_BFD -> z_BE``. ``rank`` None is W whole; ``num_experts`` more than one needs a rank."""

    out_features: int

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_layers: int = 4,
        rank: int | None = None,
        num_experts: int = 1,
        hidden: Sequence[int] = (400, 400, 400),
        batch_norm: bool = True,
        stacked: bool = False,
    ) -> None:
        super().__init__()
        features = num_tokens * dim
        self.crosses = nn.ModuleList(_cross(features, rank, num_experts) for _ in range(num_layers))
        self.deep = dnn(features, hidden, batch_norm=batch_norm)
        self.stacked = stacked
        self.out_features = hidden[-1] + (0 if stacked else features)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Explicit crosses of bounded degree, and the network's implicit ones."""
        x0_BE = x_BE = x_BFD.flatten(1)
        for cross in self.crosses:
            x_BE = cross(x0_BE, x_BE)
        return self.deep(x_BE) if self.stacked else torch.cat([x_BE, self.deep(x0_BE)], dim=1)


def _cross(features: int, rank: int | None, num_experts: int) -> nn.Module:
    if rank is None:
        if num_experts > 1:
            raise ValueError(f"{num_experts} experts need a rank, such as {max(1, features // 4)}")
        return FullCross(features=features)
    if num_experts > 1:
        return MixedCross(features=features, rank=rank, num_experts=num_experts)
    return Cross(features=features, rank=rank)
