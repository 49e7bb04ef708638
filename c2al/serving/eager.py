"""A model's modules from its manifest alone: without Hydra, and with no code but c2al's layers."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from c2al.embedding.dense import DenseTokens
from c2al.heads.assembled import assembled
from c2al.names import table_name
from c2al.schema import DataError
from c2al.serving.served import Lookup, ServedModel, SparseInput

LAYERS = ("c2al.interaction.", "c2al.heads.")


def built(manifest: Mapping[str, Any]) -> ServedModel:
    """The model that ``serving/export.py`` described; its weights are yet to be loaded."""
    inputs, settings = manifest["inputs"], manifest["model"]
    sparse = [SparseInput(**column) for column in inputs["sparse"]]
    dense = DenseTokens(**inputs["dense_tokens"]) if inputs["dense_tokens"] else None
    lookup = Lookup(sparse, dim=inputs["dim"], dtype=manifest["dtype"], to_dim=linear_maps(sparse, inputs["dim"]))
    interaction, heads = assembled(
        settings["model"],
        settings["sharing"],
        num_tokens=sum(column.places or 1 for column in sparse) + (dense.num_tokens if dense else 0),
        num_heads=settings["num_heads"],
        seed=0,
        make=make,
        asked=settings["asked"],
    )
    return ServedModel(lookup, dense, interaction, heads.without_auxiliary())  # type: ignore[operator]


def linear_maps(sparse: list[SparseInput], dim: int) -> nn.ModuleDict:
    """As ``SchemaOrder`` names them, for tables of another width."""
    names = {table_name(column.name): column.width for column in sparse if column.width != dim}
    return nn.ModuleDict({name: nn.Linear(width, dim, bias=False) for name, width in names.items()})


def make(settings: Mapping[str, Any], **sizes: Any) -> Any:
    """What ``_target_`` names, with keyword arguments; DataError unless it is one of c2al's layers."""
    target = settings["_target_"]
    if not target.startswith(LAYERS):
        raise DataError("the model names code that is no layer of c2al's", value=target, remedy="do not trust the file")
    module, _, name = target.rpartition(".")
    own = {key: _value(value) for key, value in settings.items() if key not in ("_target_", "_partial_")}
    made = getattr(import_module(module), name)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise DataError("the model names code that is no layer of c2al's", value=target, remedy="do not trust the file")
    return partial(made, **own, **sizes) if settings.get("_partial_") else made(**own, **sizes)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return make(value) if "_target_" in value else {key: _value(each) for key, each in value.items()}
    return value
