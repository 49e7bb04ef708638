"""PLE: experts of each head beside shared ones, mixed by gates, level upon level.

Hongyan Tang, Junning Liu, Ming Zhao, Xudong Gong 2020, "Progressive Layered Extraction (PLE): A Novel Multi-Task
Learning (MTL) Model for Personalized Recommendations", RecSys 2020 (no arXiv number), section 4: at each level, head h
mixes its own experts and the shared ones by ``softmax(W_h x_h)``; the shared path mixes *all* experts by a gate of its
own, which the last level does not need. One level is the paper's CGC.

Departs from the paper: the experts stand on the representation that the interaction makes; gates start at zero.

Embeddings and interaction start equal to the baseline's; shared experts, those of the primary head and its tower are
the same whatever the number of auxiliary heads. With more than one level the shared path starts with the mean of all
experts, and so does depend on that number.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from c2al.heads.mmoe import Gate, make_expert
from c2al.heads.towers import make_towers, own_generator, set_biases


class PLE(nn.Module):
    """``z_BE -> logits_BH``. ``num_experts`` of each head and shared; ``expert`` are the widths of their layers."""

    def __init__(
        self,
        *,
        in_features: int,
        num_heads: int = 1,
        num_experts: int = 2,
        num_levels: int = 2,
        expert: Sequence[int] = (64,),
        hidden: Sequence[int] = (64,),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_experts < 1 or num_levels < 1 or not expert:
            raise ValueError(f"{num_levels} levels of {num_experts} experts of layers {list(expert)}: one of each")
        widths = [in_features, *[expert[-1]] * num_levels]
        self.levels = nn.ModuleList(
            Level(width, num_heads, num_experts, expert, seed=seed * 1009 + level, last=level == num_levels - 1)
            for level, width in enumerate(widths[:-1])
        )
        self.towers = make_towers(widths[-1], num_heads, hidden, seed)

    @property
    def num_heads(self) -> int:
        """The primary head and the auxiliary ones."""
        return len(self.towers)

    def forward(self, z_BE: torch.Tensor) -> torch.Tensor:
        """Each head's path and the shared one, level by level."""
        first: Any = self.levels[0]
        paths, shared = [z_BE] * len(first.own), z_BE
        for level in self.levels:
            paths, shared = level(paths, shared)
        return torch.cat([tower(x) for tower, x in zip(self.towers, paths, strict=True)], dim=1)

    def set_biases(self, logit_H: Sequence[float]) -> None:
        """Start each head at its base rate, given as log-odds."""
        set_biases(self.towers, logit_H)

    def without_auxiliary(self) -> "PLE":
        """A copy of what the primary head uses.

        At the last level its own experts and the shared ones. One level below, the shared path still mixes the experts
        of all heads, but their gates go: nothing reads what they make. Below that all is used.
        """
        alone = copy.deepcopy(self)
        alone.towers = alone.towers[:1]
        levels: list[Any] = list(alone.levels)
        for level in levels[-2:]:
            level.gates = level.gates[:1]
        levels[-1].own = levels[-1].own[:1]
        return alone


class Level(nn.Module):
    """``(paths, shared) -> (paths, shared)``, a path for each gate. Auxiliary experts draw from generators apart."""

    def __init__(
        self, in_features: int, num_heads: int, num_experts: int, expert: Sequence[int], *, seed: int, last: bool
    ) -> None:
        super().__init__()

        def experts() -> nn.ModuleList:
            return nn.ModuleList(make_expert(in_features, expert) for _ in range(num_experts))

        self.shared, self.own = experts(), nn.ModuleList([experts()])
        for head in range(1, num_heads):
            with own_generator(seed, head):
                self.own.append(experts())
        self.gates = nn.ModuleList(Gate(in_features, 2 * num_experts) for _ in range(num_heads))
        self.shared_gate = None if last else Gate(in_features, (num_heads + 1) * num_experts)

    def forward(
        self, paths: Sequence[torch.Tensor], shared_BE: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The last level's shared path stays what it was."""
        of_shared = [expert(shared_BE) for expert in self.shared]
        own: list[Any] = list(self.own)
        of_head = [[expert(x) for expert in experts] for experts, x in zip(own, paths, strict=False)]
        mixed = [
            gate(x, torch.stack([*made, *of_shared], dim=1))
            for gate, x, made in zip(self.gates, paths, of_head, strict=False)
        ]
        if self.shared_gate is None:
            return mixed, shared_BE
        every = [x for made in of_head for x in made]
        return mixed, self.shared_gate(shared_BE, torch.stack([*every, *of_shared], dim=1))
