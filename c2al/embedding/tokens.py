"""Batch to feature tokens ``x_BFD``: one token a sparse column, then the dense ones."""

import torch
from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedTensor

from c2al.batch import Batch
from c2al.embedding.dense import DenseTokens


class SchemaOrder(nn.Module):
    """Pooled rows in the schema's order, ``KeyedTensor -> x_BFD``; a leaf for the pipeline's tracing.

    Sharded tables give their columns grouped by rank, so the order of keys depends on the plan. Taken as they come, two
    plans would feed the same interaction with permuted tokens, silently.
    """

    def __init__(self, names: list[str], dim: int) -> None:
        super().__init__()
        self.names, self.dim = names, dim

    def forward(self, pooled: KeyedTensor) -> torch.Tensor:
        """A view where the order is right already, one gather where it is not."""
        x_BFD = pooled.values().view(-1, len(self.names), self.dim)
        keys = pooled.keys()
        if keys == self.names:
            return x_BFD
        return x_BFD[:, [keys.index(name) for name in self.names]]


class FeatureTokens(nn.Module):
    """``Batch -> x_BFD``. The forward is a straight line, which is what TorchRec's pipeline can trace."""

    def __init__(self, tables: EmbeddingBagCollection, dense: DenseTokens | None) -> None:
        super().__init__()
        configs = tables.embedding_bag_configs()
        self.tables = tables
        self.order = SchemaOrder([config.feature_names[0] for config in configs], configs[0].embedding_dim)
        self.dense = dense
        self.dim = configs[0].embedding_dim
        self.num_tokens = len(configs) + (dense.num_tokens if dense else 0)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The pooled rows of every table, then the dense tokens."""
        sparse_BFD = self.order(self.tables(batch.sparse))
        if self.dense is None:
            return sparse_BFD
        return torch.cat([sparse_BFD, self.dense(batch.dense_BN)], dim=1)
