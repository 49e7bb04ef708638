"""One tower for each head: the primary one, and those of the cohorts, which serving leaves out."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from c2al.interaction.mlp import mlp


class Towers(nn.Module):
    """``z_BE -> logits_BH``, head 0 the primary one.

    Auxiliary towers draw their weights from generators of their own, seeded by (seed, head): whatever their number, the
    primary tower, everything built before and everything drawn after is the same to the bit.
    """

    def __init__(self, *, in_features: int, num_heads: int = 1, hidden: Sequence[int] = (64,), seed: int = 0) -> None:
        super().__init__()
        self.towers = make_towers(in_features, num_heads, hidden, seed)

    @property
    def num_heads(self) -> int:
        """The primary head and the auxiliary ones."""
        return len(self.towers)

    def forward(self, z_BE: torch.Tensor) -> torch.Tensor:
        """Every tower sees the same representation."""
        return torch.cat([tower(z_BE) for tower in self.towers], dim=1)

    def set_biases(self, logit_H: Sequence[float]) -> None:
        """Start each head at its base rate, given as log-odds."""
        set_biases(self.towers, logit_H)

    def without_auxiliary(self) -> "Towers":
        """A copy that holds the primary tower alone, for serving."""
        alone = copy.deepcopy(self)
        alone.towers = alone.towers[:1]
        return alone


def make_towers(in_features: int, num_heads: int, hidden: Sequence[int], seed: int) -> nn.ModuleList:
    """The primary tower from torch's generator, each auxiliary one from its own."""
    if num_heads < 1:
        raise ValueError(f"num_heads is {num_heads}: there is always the primary head")
    towers = nn.ModuleList([_tower(in_features, hidden)])
    for head in range(1, num_heads):
        with own_generator(seed, head):
            towers.append(_tower(in_features, hidden))
    return towers


@torch.no_grad()
def set_biases(towers: nn.ModuleList, logit_H: Sequence[float]) -> None:
    """Give the last layer of each tower its bias."""
    for tower, logit in zip(towers, logit_H, strict=True):
        *_, last = tower.children()
        last.get_parameter("bias").fill_(logit)


def _tower(in_features: int, hidden: Sequence[int]) -> nn.Sequential:
    # A tenth of the usual scale: training starts close to the base rate instead of unlearning random logits first.
    return mlp(in_features, hidden, 1, out_scale=0.1)


@contextmanager
def own_generator(seed: int, head: int) -> Iterator[None]:
    """Draws within come from (seed, head), and those after as if there had been none."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed * 1_000_003 + head)
        yield
