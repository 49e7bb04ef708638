"""Sequences: multi-valued columns whose rows are looked up one by one and stand in the order of their ids, unpooled."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingCollection
from torchrec.sparse.jagged_tensor import JaggedTensor

from c2al.embedding.places import last_places
from c2al.embedding.tables import padded, table_name
from c2al.schema import SparseColumn


def sequence_tables(columns: Sequence[SparseColumn], *, dim: int, device: str = "meta") -> EmbeddingCollection:
    """One table for each column, named as ``embedding_tables`` names them; TorchRec wants all of one width, ``dim``."""
    return EmbeddingCollection(
        tables=[
            EmbeddingConfig(
                name=table_name(column.name),
                feature_names=[column.name],
                num_embeddings=column.num_rows,
                embedding_dim=padded(dim),
            )
            for column in columns
        ],
        device=torch.device(device),
    )


class Padding(nn.Module):
    """Looked-up rows as tokens of width ``dim``, each column's places one after another; a leaf for the tracing.

    ``lengths`` says how many places a column has: the last so many ids of each row, see ``last_places``. Earlier ids
    are looked up in vain and get a gradient of zero.
    """

    def __init__(self, lengths: Mapping[str, int], dim: int) -> None:
        super().__init__()
        self.lengths, self.dim = dict(lengths), dim

    def forward(self, rows: Mapping[str, JaggedTensor]) -> torch.Tensor:
        """``[B, sum of lengths, D]``."""
        found = dict(rows.items())  # sharded tables give a promise of a mapping, which has methods and no brackets
        parts = [
            last_places(found[name].values()[:, : self.dim], found[name].lengths(), length)
            for name, length in self.lengths.items()
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
