"""Terms of a model that enter its logits as they are: those of logistic regression and of factorization machines."""

from collections.abc import Sequence

import torch
from torch import nn


class AddedLogits(nn.Module):
    """``heads(the other features) + the sum of the last n features`` of ``z_BE``, for every head; any heads.

    So heads of any kind stand behind an architecture that declares ``additive_features = n``, and know nothing of it.
    """

    def __init__(self, heads: nn.Module, *, additive_features: int) -> None:
        super().__init__()
        self.heads = heads
        self.additive_features = additive_features

    @property
    def num_heads(self) -> int:
        """Those of the heads within."""
        return int(self.heads.num_heads)  # type: ignore[arg-type]

    def forward(self, z_BE: torch.Tensor) -> torch.Tensor:
        """The same terms in every logit."""
        n = self.additive_features
        return self.heads(z_BE[:, :-n]) + z_BE[:, -n:].sum(dim=1, keepdim=True)

    def set_biases(self, logit_H: Sequence[float]) -> None:
        """Start each head at its base rate, given as log-odds."""
        self.heads.set_biases(logit_H)  # type: ignore[operator]

    def without_auxiliary(self) -> "AddedLogits":
        """A copy that holds the primary head alone, for serving."""
        alone: nn.Module = self.heads.without_auxiliary()  # type: ignore[operator,assignment]
        return AddedLogits(alone, additive_features=self.additive_features)


class Biases(nn.Module):
    """Heads on no features at all: ``z_BE`` of width 0 to one bias a head."""

    def __init__(self, *, in_features: int = 0, num_heads: int = 1, seed: int = 0) -> None:
        super().__init__()
        if in_features:
            raise ValueError(f"a bias looks at no features, and there are {in_features}")
        self.bias_H = nn.Parameter(torch.zeros(num_heads))

    @property
    def num_heads(self) -> int:
        """The primary head and the auxiliary ones."""
        return len(self.bias_H)

    def forward(self, z_BE: torch.Tensor) -> torch.Tensor:
        """The same logits for every row."""
        return self.bias_H.expand(z_BE.shape[0], -1)

    @torch.no_grad()
    def set_biases(self, logit_H: Sequence[float]) -> None:
        """Start each head at its base rate, given as log-odds."""
        if len(logit_H) != self.num_heads:
            raise ValueError(f"{len(logit_H)} biases for {self.num_heads} heads")
        self.bias_H.copy_(torch.tensor(logit_H))

    def without_auxiliary(self) -> "Biases":
        """A copy that holds the primary head alone, for serving."""
        alone = Biases()
        alone.bias_H.data.copy_(self.bias_H[:1])
        return alone
