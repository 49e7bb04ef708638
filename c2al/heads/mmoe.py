"""MMoE: experts shared by all heads, mixed for each head by a gate of its own.

Jiaqi Ma, Zhe Zhao, Xinyang Yi, Jilin Chen, Lichan Hong, Ed H. Chi 2018, "Modeling Task Relationships in Multi-task
Learning with Multi-gate Mixture-of-Experts", KDD 2018 (no arXiv number), equations 6 and 7:
``y_h = tower_h(Σ_n g_h(z)_n f_n(z))`` with ``g_h(z) = softmax(W_h z)``.

Departs from the paper: the experts stand on the representation that the interaction makes, not on the concatenated
input; gates start at zero, so that every head starts with the mean of the experts.

Embeddings and interaction start equal to the baseline's. Experts and primary tower cannot: the tower reads an expert's
width, and there are experts before it; but they are the same whatever the number of auxiliary heads.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from c2al.heads.towers import make_towers, set_biases
from c2al.interaction.mlp import mlp


class MMoE(nn.Module):
    """``z_BE -> logits_BH``. ``expert`` are the widths of an expert's layers, as many as it is deep.

    The primary head uses all experts, its gate and its tower; towers of auxiliary heads draw from their own generators.
    """

    def __init__(
        self,
        *,
        in_features: int,
        num_heads: int = 1,
        num_experts: int = 4,
        expert: Sequence[int] = (64,),
        hidden: Sequence[int] = (64,),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_experts < 1 or not expert:
            raise ValueError(f"{num_experts} experts of layers {list(expert)}: there must be one of each")
        self.experts = nn.ModuleList(make_expert(in_features, expert) for _ in range(num_experts))
        self.gates = nn.ModuleList(Gate(in_features, num_experts) for _ in range(num_heads))
        self.towers = make_towers(expert[-1], num_heads, hidden, seed)

    @property
    def num_heads(self) -> int:
        """The primary head and the auxiliary ones."""
        return len(self.towers)

    def forward(self, z_BE: torch.Tensor) -> torch.Tensor:
        """Every expert once, then a mixture for each head."""
        made_BNX = torch.stack([expert(z_BE) for expert in self.experts], dim=1)
        mixed = [gate(z_BE, made_BNX) for gate in self.gates]
        return torch.cat([tower(x) for tower, x in zip(self.towers, mixed, strict=True)], dim=1)

    def set_biases(self, logit_H: Sequence[float]) -> None:
        """Start each head at its base rate, given as log-odds."""
        set_biases(self.towers, logit_H)

    def without_auxiliary(self) -> "MMoE":
        """A copy with all experts, the primary gate and the primary tower."""
        alone = copy.deepcopy(self)
        alone.gates, alone.towers = alone.gates[:1], alone.towers[:1]
        return alone


class Gate(nn.Module):
    """``softmax(W x)`` over experts, and their mixture; W starts at zero and draws nothing."""

    def __init__(self, in_features: int, num_experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_experts, in_features))

    def forward(self, x_BE: torch.Tensor, made_BNX: torch.Tensor) -> torch.Tensor:
        """``x_BX``."""
        share_BN = nn.functional.linear(x_BE, self.weight).softmax(dim=1)
        return (share_BN.unsqueeze(1) @ made_BNX).squeeze(1)


def make_expert(in_features: int, widths: Sequence[int]) -> nn.Sequential:
    """Layers with ReLU after each, the last one too."""
    return mlp(in_features, widths[:-1], widths[-1], out_scale=2**0.5).append(nn.ReLU())
