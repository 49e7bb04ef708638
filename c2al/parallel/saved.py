"""What the dense part keeps for its backward, counted without computing anything: a forward on fake tensors.

Fake tensors have shapes and storages but no data (``FakeTensorMode``, on which torch.compile stands), so that a batch
of any size costs milliseconds. They say they are on the CPU: a kernel that saves other tensors on a GPU, such as fused
attention, is counted as the CPU's. ``training.compile`` keeps less than is counted here.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from c2al.batch import Batch
from c2al.parallel.shard import find_tables


class SavedBytes:
    """Bytes of the storages that autograd keeps; a storage counts once however many views of it are kept."""

    def __init__(self, *known: torch.Tensor) -> None:
        self._known = {id_of(tensor) for tensor in known}
        self._kept: dict[int, torch.Tensor] = {}  # the tensors are held, so that no storage's address is used twice

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """A pack hook of ``saved_tensors_hooks``."""
        if id_of(tensor) not in self._known:
            self._kept[id_of(tensor)] = tensor
        return tensor

    @property
    def total(self) -> int:
        """Without the storages of the known tensors: weights are counted as weights."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what forwards within save."""
        with torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor):
            yield


def id_of(tensor: torch.Tensor) -> int:
    """The storage behind a tensor, real or fake; views share it."""
    return int(tensor.untyped_storage()._cdata)


def saved_bytes(
    model: nn.Module, *, batch_size: int, num_dense: int, num_axes: int, ids_per_row: Mapping[str, float] | None = None
) -> int:
    """Of one forward of a ``TrainingModel`` whose tables are not sharded yet: all that is kept but weights.

    The rows that come from the tables count here where the dense part keeps them. ``ids_per_row`` is the mean number
    of ids of a column that is read as a sequence, 1 where it is not named.
    """
    columns: list[str] = []
    alone = copy.copy(model)  # only the way to the tables is copied: the model stays whole
    for path, tables in find_tables(model).items():
        pooled = isinstance(tables, EmbeddingBagCollection)
        found: _Pooled | _Unpooled = _Pooled(tables) if pooled else _Unpooled(tables, ids_per_row or {})
        columns += found.keys
        _swap(alone, path, found)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        held = {**dict(alone.named_parameters()), **dict(alone.named_buffers())}
        state: dict[str, torch.Tensor] = {name: mode.from_tensor(value) for name, value in held.items()}
        batch = empty_batch(batch_size, columns, num_dense=num_dense, num_axes=num_axes)
        saved = SavedBytes(*state.values())
        with saved.counting():
            torch.func.functional_call(alone.train(), state, (batch,))
        return saved.total


class _Pooled(nn.Module):
    """In place of the tables: pooled rows of the same keys and widths, as the forward finds them."""

    def __init__(self, tables: EmbeddingBagCollection) -> None:
        super().__init__()
        configs = tables.embedding_bag_configs()
        self.keys = [name for config in configs for name in config.feature_names]
        self.widths = [config.embedding_dim for config in configs for _ in config.feature_names]

    def forward(self, sparse: KeyedJaggedTensor) -> KeyedTensor:
        """Rows of a step's batch."""
        values = torch.empty(sparse.stride(), sum(self.widths), requires_grad=True)
        return KeyedTensor(keys=self.keys, length_per_key=self.widths, values=values)


class _Unpooled(nn.Module):
    """The same in place of the tables of sequences: as many rows as a batch has ids on average."""

    def __init__(self, tables: EmbeddingCollection, ids_per_row: Mapping[str, float]) -> None:
        super().__init__()
        self.keys = [name for config in tables.embedding_configs() for name in config.feature_names]
        self.width, self.ids_per_row = tables.embedding_dim(), ids_per_row

    def forward(self, sparse: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """Rows of a step's batch."""
        lengths = torch.zeros(sparse.stride(), dtype=torch.int64)
        found = {}
        for key in self.keys:
            rows = round(sparse.stride() * self.ids_per_row.get(key, 1.0))
            found[key] = JaggedTensor(torch.empty(rows, self.width, requires_grad=True), lengths=lengths)
        return found


def _swap(model: nn.Module, path: str, other: nn.Module) -> None:
    """Put a module at a path, copying the modules on the way but not their weights."""
    *way, last = path.split(".")
    for name in way:
        model._modules = dict(model._modules)
        model._modules[name] = copy.copy(model._modules[name])
        model = model.get_submodule(name)
    model._modules = dict(model._modules)
    model._modules[last] = other


def empty_batch(batch_size: int, columns: Sequence[str], *, num_dense: int, num_axes: int) -> Batch:
    """A batch of the right shapes, without ids."""
    lengths = torch.zeros(len(columns) * batch_size, dtype=torch.int64)
    nothing = torch.empty(0, dtype=torch.int64)
    return Batch(
        dense_BN=torch.empty(batch_size, num_dense),
        sparse=KeyedJaggedTensor(keys=list(columns), values=nothing, lengths=lengths, stride=batch_size),
        label_B=torch.empty(batch_size),
        weight_B=torch.empty(batch_size),
        cohort_BA=torch.empty(batch_size, num_axes, dtype=torch.int64),
        row_B=torch.empty(batch_size, dtype=torch.int64),
    )
