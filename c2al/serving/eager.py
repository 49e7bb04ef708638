"""A model's modules from its manifest alone: without Hydra, and with no code but c2al's layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from c2al.embedding.dense import DenseTokens
from c2al.heads.assembled import assembled
from c2al.names import table_name
from c2al.schema import DataError
from c2al.serving.served import Lookup, ServedModel, SparseInput

LAYERS = ("c2al.interaction.", "c2al.heads.")
REFUSED = "do not trust the file, or export it again: c2al export run=… to=…"
MOST_UNUSED = 10_000  # parameters and modules of auxiliary heads, which are built and left out
LARGEST = 2**16  # of any whole number that says how a model is built
DEEPEST = 50  # settings inside settings


def loaded(manifest: Mapping[str, Any], weights: bytes, path: str) -> ServedModel:
    """Return the model that a manifest describes, with the weights of a file of safetensors.

    It is built without memory first: what would be larger than its weights, or another model, is refused before.

    Raises:
        DataError: they do not fit, or it names code that is no layer of c2al's.
    """
    try:
        _check_numbers(manifest["model"])
        tensors = load_tensors(weights)
        with _at_most(len(tensors)), torch.device("meta"):
            shapes = {name: value.shape for name, value in built(manifest).state_dict().items()}
        if shapes != {name: value.shape for name, value in tensors.items()}:
            raise DataError("the weights are those of another model", file=path, remedy=REFUSED)
        model = built(manifest)
        model.load_state_dict(tensors)
    except DataError as error:
        value = error.where["value"]
        raise DataError(error.problem, file=path, value=value, remedy=error.remedy) from None
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, ImportError, RuntimeError) as error:
        problem = f"the model does not read: {type(error).__name__} {(str(error).splitlines() or [''])[0][:200]}"
        raise DataError(problem, file=path, remedy=REFUSED) from error
    return model


def _check_numbers(settings: Any, depth: int = 0) -> None:
    """DataError at a whole number that would make more layers, levels or heads than any model has."""
    if depth > DEEPEST or (isinstance(settings, int) and abs(settings) > LARGEST):
        problem = "the model has a setting beyond all bounds"
        raise DataError(problem, value=str(settings)[:80], remedy=REFUSED)
    inside = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    for each in inside:
        _check_numbers(each, depth + 1)


@contextmanager
def _at_most(num_tensors: int) -> Iterator[None]:
    """A context in which no more parameters and modules are made than belong to so many weights; a DataError then."""
    made = {"parameters": 0, "modules": 0}
    most = {"parameters": num_tensors + MOST_UNUSED, "modules": 10 * num_tensors + MOST_UNUSED}

    def count(kind: str, part: object) -> None:
        made[kind] += part is not None
        if made[kind] > most[kind]:
            raise DataError("the model has more layers than weights", value=num_tensors, remedy=REFUSED)

    handles = (
        register_module_parameter_registration_hook(lambda module, name, part: count("parameters", part)),
        register_module_module_registration_hook(lambda module, name, part: count("modules", part)),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    if not isinstance(target, str) or not target.startswith(LAYERS):
        raise DataError("the model names code that is no layer of c2al's", value=target, remedy="do not trust the file")
    module, _, name = target.rpartition(".")
    own = {key: _value(value) for key, value in settings.items() if key not in ("_target_", "_partial_")}
    made = getattr(import_module(module), name)
    if not (isinstance(made, type) and issubclass(made, nn.Module) and made.__module__ == module):
        raise DataError("the model names code that is no layer of c2al's", value=target, remedy="do not trust the file")
    return partial(made, **own, **sizes) if settings.get("_partial_") else made(**own, **sizes)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return make(value) if "_target_" in value else {key: _value(each) for key, each in value.items()}
    return value
