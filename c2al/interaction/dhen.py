"""DHEN: layers of an ensemble of interaction modules, a shortcut and a norm.

Zhang et al. 2022, "DHEN: A Deep and Hierarchical Ensemble Network for Large-Scale Click-Through Rate Prediction",
arXiv 2203.11014::

    X_{l+1} = LayerNorm(Ensemble_i Interaction_i(X_l) + Shortcut(X_l))

Differs: one linear layer with ReLU makes ``z_BE`` from the last layer's tokens, so that a tower stays small and an
auxiliary one costs little.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import nn

from c2al.interaction.fm_attention import FMBlock
from c2al.interaction.linear import TokenLinear
from c2al.interaction.mlp import mlp

Ensemble = Literal["concat", "sum", "weighted"]


class InteractionFactory(Protocol):
    """Makes a module ``[B, num_tokens, dim] -> [B, out_tokens, dim]``: such a class, or a ``partial`` of one."""

    def __call__(self, *, num_tokens: int, dim: int, out_tokens: int) -> nn.Module:
        """The module, for sizes that the layer decides."""


class DHENLayer(nn.Module):
    """One layer, ``[B, num_tokens, dim] -> [B, out_tokens, dim]``."""

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        out_tokens: int,
        modules: Mapping[str, InteractionFactory],
        ensemble: Ensemble,
    ) -> None:
        super().__init__()
        shares = _shares(out_tokens, len(modules)) if ensemble == "concat" else [out_tokens] * len(modules)
        self.ensemble = ensemble
        self.interactions = nn.ModuleDict(
            {
                name: make(num_tokens=num_tokens, dim=dim, out_tokens=share)
                for (name, make), share in zip(modules.items(), shares, strict=True)
            }
        )
        if ensemble == "weighted":
            self.weights_M = nn.Parameter(torch.ones(len(modules)))
        self.shortcut: nn.Module = nn.Identity()
        if out_tokens != num_tokens:
            self.shortcut = TokenLinear(num_tokens=num_tokens, dim=dim, out_tokens=out_tokens)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Every module sees the same input."""
        parts = [interaction(x_BFD) for interaction in self.interactions.values()]
        if self.ensemble == "concat":
            mixed = torch.cat(parts, dim=1)
        elif self.ensemble == "sum":
            mixed = torch.stack(parts).sum(0)
        else:
            mixed = torch.stack([self.weights_M[i] * part for i, part in enumerate(parts)]).sum(0)
        return self.norm(mixed + self.shortcut(x_BFD))


class DHEN(nn.Module):
    """``x_BFD -> z_BE``.

    ``modules`` names the interaction modules of every layer and says how to make them; one set to None is left out.
    Default: FM attention with attentive Y, and linear. ``layer_tokens`` is the number of tokens after each layer; by
    default it stays what it was, and the shortcut is the identity. ``ensemble``: "concat" deals the tokens out to the
    modules, "sum" and "weighted" (by a learned scalar each) have every module make all of them.
    """

    out_features: int

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        num_layers: int = 2,
        modules: Mapping[str, InteractionFactory | None] | None = None,
        layer_tokens: int | None = None,
        ensemble: Ensemble = "concat",
        out_features: int = 64,
    ) -> None:
        super().__init__()
        used = {name: make for name, make in (modules or _default_modules()).items() if make is not None}
        tokens = layer_tokens or num_tokens
        _check(used, tokens, ensemble, num_layers)
        self.layers = nn.Sequential(
            *(
                DHENLayer(
                    num_tokens=num_tokens if i == 0 else tokens,
                    dim=dim,
                    out_tokens=tokens,
                    modules=used,
                    ensemble=ensemble,
                )
                for i in range(num_layers)
            )
        )
        self.output = nn.Sequential(nn.Flatten(1), mlp(tokens * dim, [], out_features, out_scale=2**0.5), nn.ReLU())
        self.out_features = out_features

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """All layers, then the representation that the heads share."""
        return self.output(self.layers(x_BFD))


def _default_modules() -> dict[str, InteractionFactory]:
    return {"fm_attention": FMBlock, "linear": TokenLinear}


def _shares(tokens: int, num_modules: int) -> list[int]:
    """As even as can be, the first ones one more."""
    return [tokens // num_modules + (i < tokens % num_modules) for i in range(num_modules)]


def _check(modules: Mapping[str, InteractionFactory], tokens: int, ensemble: str, num_layers: int) -> None:
    if num_layers < 1 or not modules:
        raise ValueError("DHEN needs at least one layer and one interaction module")
    if ensemble not in ("concat", "sum", "weighted"):
        raise ValueError(f"unknown ensemble {ensemble!r}: concat, sum or weighted")
    if ensemble == "concat" and tokens < len(modules):
        raise ValueError(
            f"{tokens} tokens cannot be dealt out to {len(modules)} modules: raise layer_tokens, or use sum"
        )
