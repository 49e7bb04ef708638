"""Parts of one logical tensor that a rank holds, in the form that torch.distributed.checkpoint saves and loads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import ReadItem, TensorWriteData, WriteItem, WriteItemType


@dataclass(frozen=True)
class Rectangles:
    """This rank's rectangles of a tensor of ``shape``: (tensor, offsets) each, none at all on some ranks.

    DCP asks objects that have these methods (its ``_Checkpointable``) for their chunks, and puts them together by their
    offsets: whoever loads may hold other rectangles, or the whole as a plain tensor. It wants the planners below.
    """

    shape: torch.Size
    parts: Sequence[tuple[torch.Tensor, Sequence[int]]]

    def copied(self) -> "Rectangles":
        """The same in memory of its own, on the CPU."""
        return Rectangles(self.shape, [(copied(tensor), offsets) for tensor, offsets in self.parts])

    def __create_write_items__(self, fqn: str, _: Any) -> list[WriteItem]:
        return [
            WriteItem(
                index=MetadataIndex(fqn, chunk.offsets),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(
                    chunk=chunk, properties=TensorProperties.create_from_tensor(tensor), size=self.shape
                ),
            )
            for chunk, (tensor, _) in zip(self.__create_chunk_list__(), self.parts, strict=True)
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [ChunkStorageMetadata(torch.Size(offsets), tensor.size()) for tensor, offsets in self.parts]

    def at(self, offset: torch.Size | None) -> torch.Tensor:
        """The part that begins there."""
        return next(tensor for tensor, offsets in self.parts if torch.Size(offsets) == offset)


Value = torch.Tensor | Rectangles


class SavePlanner(DefaultSavePlanner):
    """DCP's own, which finds parts in rectangles as well as in tensors."""

    def lookup_object(self, index: MetadataIndex) -> Any:
        """What a write item is of."""
        found = self.state_dict[index.fqn]
        return found.at(index.offset) if isinstance(found, Rectangles) else super().lookup_object(index)


class LoadPlanner(DefaultLoadPlanner):
    """The same for loading, from a flat state, in place."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        """DCP's own would look for tensors on the meta device, and make None of all that is no tensor."""
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def load_bytes(self, read_item: ReadItem, value: Any) -> None:
        """Refuse: DCP's own would unpickle, which can run any code, and c2al saves nothing but tensors."""
        raise ValueError(f"{read_item.dest_index.fqn} is no tensor in the checkpoint: only pickle could read it")

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        """What a read item goes into."""
        found = self.state_dict[index.fqn]
        return found.at(index.offset) if isinstance(found, Rectangles) else super().lookup_tensor(index)


def copied(value: Any) -> Any:
    """A tensor or rectangles in memory of their own, on the CPU."""
    if isinstance(value, Rectangles):
        return value.copied()
    return value.detach().clone() if value.device.type == "cpu" else value.detach().cpu()
