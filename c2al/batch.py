"""One batch as the model sees it: dense columns, sparse ids, label, weight, cohort ids, row numbers."""

from dataclasses import dataclass

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable


@dataclass
class Batch(Pipelineable):
    """Rows of prepared data, on one device.

    ``dense_BN`` float32, ``sparse`` ids by column, ``label_B`` and ``weight_B`` float32, ``cohort_BA`` int64 (-1: in no
    cohort of that axis), ``row_B`` int64, the row's number in its split. A rank with one row fewer than the others has
    a filler in its last batch: weight 0, row -1; it counts nowhere.
    """

    dense_BN: torch.Tensor
    sparse: KeyedJaggedTensor
    label_B: torch.Tensor
    weight_B: torch.Tensor
    cohort_BA: torch.Tensor
    row_B: torch.Tensor

    @classmethod
    def from_arrays(
        cls,
        *,
        keys: list[str],
        values: torch.Tensor,
        lengths_FB: torch.Tensor,
        length_per_key: list[int],
        dense_BN: torch.Tensor,
        label_B: torch.Tensor,
        weight_B: torch.Tensor,
        cohort_BA: torch.Tensor,
        row_B: torch.Tensor,
    ) -> "Batch":
        """Ids come column by column: ``values`` int64 is flat, ``lengths_FB`` int64 says how many each row has."""
        lengths = lengths_FB.reshape(-1)
        offsets = torch.empty(len(lengths) + 1, dtype=lengths.dtype)  # not zeros: those torch fills on all its threads
        offsets[0] = 0
        torch.cumsum(lengths, 0, out=offsets[1:])
        offset_per_key = [0]
        for length in length_per_key:
            offset_per_key.append(offset_per_key[-1] + length)
        # Lengths, offsets, stride and both per-key lists given: the tensor then computes none of them in the step.
        sparse = KeyedJaggedTensor(
            keys=keys,
            values=values,
            lengths=lengths,
            offsets=offsets,
            stride=len(label_B),
            length_per_key=length_per_key,
            offset_per_key=offset_per_key,
        )
        return cls(dense_BN, sparse, label_B, weight_B, cohort_BA, row_B)

    def __len__(self) -> int:
        return len(self.label_B)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        return Batch(*(part.to(device=device, non_blocking=non_blocking) for part in self._parts()))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, for faster copies to a GPU."""
        return Batch(*(part.pin_memory() for part in self._parts()))

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until the stream has used it."""
        for part in self._parts():
            part.record_stream(stream)

    def _parts(self) -> tuple:
        return self.dense_BN, self.sparse, self.label_B, self.weight_B, self.cohort_BA, self.row_B
