"""Interaction and heads from a model's settings, by whatever makes modules of settings: Hydra where a run is trained,
``serving/eager.py`` where a file is opened without it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from c2al.heads.additive import AddedLogits, Biases
from c2al.interaction.beside import BesideFMAttention
from c2al.schema import DataError

Make = Callable[..., Any]  # (settings with a _target_, **sizes) -> module


def assembled(
    model: Mapping[str, Any],
    sharing: Mapping[str, Any] | None,
    *,
    num_tokens: int,
    num_heads: int,
    seed: int,
    make: Make,
    asked: Mapping[str, int] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """``(interaction, heads)``; the shared part first, so that every arm of a seed starts equal.

    ``asked`` is what an architecture of a history is told besides: where it and its candidate stand among the tokens.
    ``sharing`` are the heads by which a method has its tasks share, in place of the model's own.
    """
    interaction = make(model["interaction"], num_tokens=num_tokens, dim=model["dim"], **(asked or {}))
    if model.get("fm_attention") and "fm_block" in model:  # Wukong's own block takes the word for itself
        block = make(model["fm_block"], num_tokens=num_tokens, dim=model["dim"])
        interaction = BesideFMAttention(interaction, block)
    # Heads see all features of the representation but those that enter every logit as they are.
    additive: int = getattr(interaction, "additive_features", 0)
    features: int = interaction.out_features - additive
    if sharing and not features:
        raise DataError(
            "experts are shared on a representation, and all that this model makes enters the logits as it is",
            value=model.get("name"),
            remedy="another model, such as model=dhen, or an FM-attention block beside it: model.fm_attention=true",
        )
    settings = sharing or model["heads"]
    heads = make_heads(settings, features, num_heads=num_heads, seed=seed, make=make)
    return interaction, AddedLogits(heads, additive_features=additive) if additive else heads


def make_heads(settings: Mapping[str, Any], in_features: int, *, num_heads: int, seed: int, make: Make) -> nn.Module:
    """The heads that the settings name; biases where there are no features."""
    if not in_features:
        return Biases(num_heads=num_heads)
    return make(settings, in_features=in_features, num_heads=num_heads, seed=seed)
