"""The state of training by what it is, not by how a plan holds it: saved under one plan, loaded under any other.

    tables.<table>.weight        [rows, dim]
    tables.<table>.moment        [rows, dim] of Adagrad, [rows] of row-wise Adagrad; SGD has none
    dense.<name>                 parameters and buffers that are no table's
    dense_optim.<name>.<moment>  of Adam: exp_avg, exp_avg_sq, step
    average.<tables or dense …>  the moving average of the first and the third

Tables are ``Rectangles``, or plain tensors where every rank holds them whole. All of them are live: what is loaded into
them is in the model. A fused moment and that of a data-parallel table are the same thing under the same name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torchrec.optim.keyed import KeyedOptimizer

from c2al.embedding.tables import table_name, table_of
from c2al.parallel.optimizers import Optimizers
from c2al.parallel.plan import Placement
from c2al.parallel.rectangles import Rectangles, Value

State = dict[str, Value]


def weights(state_dict: Mapping[str, Any], placements: Sequence[Placement]) -> State:
    """The tables and the dense part of a sharded model's state dict."""
    tables = {table_name(each.table): each for each in placements}
    state: State = {}
    for name, value in state_dict.items():
        if (table := table_of(name)) is not None:
            placement = tables[table]
            state[f"tables.{placement.table}.weight"] = _value(value, (placement.num_rows, placement.dim))
        else:
            state[f"dense.{name}"] = value
    for each in placements:  # a rank may hold no part of a table, and says so
        state.setdefault(f"tables.{each.table}.weight", Rectangles(torch.Size((each.num_rows, each.dim)), []))
    return state


def moments(optimizers: Optimizers, placements: Sequence[Placement]) -> State:
    """All that the optimizers remember. Adam's is missing before its first step: see ``fill_lazy_state``."""
    tables = {table_name(each.table): each for each in placements}
    state: State = {}
    for placement in placements:
        if placement.optimizer != "sgd":
            state[f"tables.{placement.table}.moment"] = Rectangles(_moment_size(placement), [])
    for name, each in [*_states(optimizers.fused), *_states(optimizers.replicated)]:
        placement = tables[table_of(name) or ""]
        if (found := _moment(each)) is not None:
            state[f"tables.{placement.table}.moment"] = _value(found, _moment_size(placement))
    for name, each in _states(optimizers.dense):
        state |= {f"dense_optim.{name}.{key}": value for key, value in each.items()}
    return state


def fill_lazy_state(optimizers: Optimizers) -> None:
    """Adam makes its moments at its first step; make them now, by a step of zero gradients, for load to fill."""
    for parameter in optimizers.dense_parameters:
        parameter.grad = torch.zeros_like(parameter)
    if not (state := optimizers.dense.state_dict()["state"]) or not all(state.values()):
        optimizers.dense.step()
    optimizers.zero_grad()


def sizes(state: Mapping[str, Value]) -> dict[str, list[int]]:
    """Of each tensor as a whole; the same on all ranks."""
    return {name: list(value.shape if isinstance(value, Rectangles) else value.size()) for name, value in state.items()}


def _states(optimizer: KeyedOptimizer | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if optimizer is not None:
        yield from optimizer.state_dict()["state"].items()


def _moment(state: Mapping[str, Any]) -> Any:
    """FBGEMM's ``<table>.momentum1``, or the ``sum`` of torch's Adagrad and of TorchRec's row-wise one."""
    return next((value for key, value in state.items() if key == "sum" or key.endswith("momentum1")), None)


def _moment_size(placement: Placement) -> torch.Size:
    size = (placement.num_rows, placement.dim)
    return torch.Size(size[:1] if placement.optimizer == "rowwise_adagrad" else size)


def _value(value: Any, size: Sequence[int]) -> Value:
    """Rectangles of what is sharded, a view of that size of what is whole; shards without a row are left out."""
    if not hasattr(value, "local_shards"):
        return value.detach().view(size)
    shards = [(each.tensor, each.metadata.shard_offsets) for each in value.local_shards()]
    parts = [(_as(tensor, len(size)), list(offsets)[: len(size)]) for tensor, offsets in shards]
    return Rectangles(torch.Size(size), [(tensor, offsets) for tensor, offsets in parts if tensor.numel()])


def _as(tensor: torch.Tensor, dims: int) -> torch.Tensor:
    return tensor.detach().view(-1) if dims == 1 else tensor.detach()
