"""What a rank's device would hold under a plan, in bytes: arithmetic over placements, nothing is allocated.

Tables and their optimizer state are exact. The dense part is counted on fake tensors (``saved.py``). Buffers of the
tables follow the collectives of TorchRec's shardings: a step's ids and pooled rows, once, as forward and backward need
them at different times. Real steps on one CPU rank added 9 to 12 % less than is said here (three models, in
``tests/training/test_preview.py``). CUDA's context, NCCL's channels, workspaces and fragmentation are not counted:
leave headroom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from c2al.parallel.plan import Placement, Shard, rank_bytes
from c2al.parallel.saved import saved_bytes
from c2al.parallel.shard import find_tables

ID = LENGTH = 8  # bytes: ids and lengths are int64
VALUE = 4  # and all else is float32
ON_HOST = ("fused_uvm", "fused_uvm_caching")
CACHED = 0.2  # of a table's rows; TorchRec's default
BATCHES_HELD = {"base": 2, "sparse_dist": 3}  # by a pipeline, at once


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank: its shards, their optimizer state, the dense part with Adam, and what a step adds.

    A table in unified memory (``fused_uvm``) is in the host's, and ``fused_uvm_caching`` has a cache on the device.
    """

    weights: int = 0
    optimizer: int = 0
    dense: int = 0
    activations: int = 0
    host: int = 0  # not on the device: tables in unified memory, with their state

    @property
    def total(self) -> int:
        """All that is on the device."""
        return self.weights + self.optimizer + self.dense + self.activations


@dataclass(frozen=True)
class DenseMemory:
    """Bytes of the part that every rank holds alike."""

    held: int  # parameters, gradients (DDP's buckets are views of them), Adam's two moments, the average
    saved: int  # for backward
    parameters: int


@dataclass(frozen=True)
class StepShape:
    """What a rank's batch looks like; ``ids_per_row`` by sparse column, 1 where it is not named."""

    batch_size: int
    num_dense: int
    num_axes: int
    ids_per_row: Mapping[str, float]
    pipeline: str = "base"

    def ids(self, table: str) -> float:
        """Mean bytes of a row's ids in a column, and of their number."""
        return ID * self.ids_per_row.get(table, 1.0) + LENGTH

    def looked_up(self, placement: Placement) -> float:
        """Mean number of rows that a row of the batch gets from a table: one where they are pooled."""
        return self.ids_per_row.get(placement.table, 1.0) if placement.sequence else 1.0


def dense_memory(model: nn.Module, shape: StepShape, *, averaged: bool) -> DenseMemory:
    """Of a ``TrainingModel`` whose tables are on the meta device."""
    tables = {id(weight) for each in find_tables(model).values() for weight in each.parameters()}
    sizes = (p.numel() * p.element_size() for p in model.parameters() if id(p) not in tables)
    parameters = sum(sizes)
    saved = saved_bytes(
        model,
        batch_size=shape.batch_size,
        num_dense=shape.num_dense,
        num_axes=shape.num_axes,
        ids_per_row=shape.ids_per_row,
    )
    return DenseMemory(held=parameters * (5 if averaged else 4), saved=saved, parameters=parameters)


def rank_memory(
    placements: Sequence[Placement], dense: DenseMemory, shape: StepShape, *, world_size: int
) -> list[RankMemory]:
    """For every rank, in order."""
    alike = dense.saved + _batches(placements, shape) + _pooled(placements, shape)
    steps = [float(alike)] * world_size
    for each in placements:
        for shard in each.shards():
            steps[shard.rank] += _buffers(each, shard, shape, world_size)
    on_device, on_host, cached = (
        rank_bytes([each for each in placements if each.kernel in kernels], world_size=world_size)
        for kernels in (("fused", "dense"), ON_HOST, ON_HOST[1:])
    )
    return [
        RankMemory(
            weights=held["weight_bytes"] + round(CACHED * cache["weight_bytes"]),
            optimizer=held["optimizer_bytes"],
            dense=dense.held,
            activations=round(step),
            host=host["weight_bytes"] + host["optimizer_bytes"],
        )
        for held, host, cache, step in zip(on_device, on_host, cached, steps, strict=True)
    ]


def _batches(placements: Sequence[Placement], shape: StepShape) -> float:
    """The batches that the pipeline holds: dense columns, label, weight, axes, row number, ids, lengths, offsets."""
    row = VALUE * (shape.num_dense + 2) + ID * (shape.num_axes + 1)
    row_ids = sum(shape.ids(each.table) + LENGTH for each in placements)
    return BATCHES_HELD[shape.pipeline] * shape.batch_size * (row + row_ids)


def _pooled(placements: Sequence[Placement], shape: StepShape) -> int:
    """This rank's rows of every table as they come from the tables' ranks, and their gradients."""
    return round(2 * shape.batch_size * VALUE * sum(each.dim * shape.looked_up(each) for each in placements))


def _buffers(placement: Placement, shard: Shard, shape: StepShape, world_size: int) -> float:
    """What a shard receives in a step, all ranks' ids, and pooled rows for all ranks."""
    if placement.sharding == "data_parallel":  # its own rows only, and a gradient as large as the table
        return VALUE * shard.rows * shard.columns
    share = shard.rows / placement.num_rows  # as if all ids were equally frequent
    ids, rows = (shape.ids(placement.table) - LENGTH) * share, 1.0
    if placement.sequence:  # each row of a table comes from the one shard that has it; of pooled ones, a part from all
        rows = shape.looked_up(placement) * share
    return world_size * shape.batch_size * (ids + LENGTH + VALUE * shard.columns * rows)
