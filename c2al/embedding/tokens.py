"""Batch to feature tokens ``x_BFD``: one token a pooled sparse column, then the dense ones, then those of sequences."""

from collections.abc import Collection, Mapping

import torch
from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from c2al.batch import Batch
from c2al.embedding.dense import DenseTokens
from c2al.embedding.sequences import Padding
from c2al.embedding.tables import padded, table_name


class SchemaOrder(nn.Module):
    """Summed rows as tokens in the schema's order, ``x_BFD``; a leaf for the pipeline's tracing.

    Sharded tables give their columns grouped by rank, so the order of keys depends on the plan. Taken as they come, two
    plans would feed the same interaction with permuted tokens, silently. A table whose width is not ``dim`` is brought
    to it by a linear map of its own (as in DLRM with mixed dimensions: Ginart et al. 2019, arXiv 1909.11810). Padding
    columns are left out. Columns in ``mean`` are divided by their number of ids.
    """

    def __init__(self, widths: dict[str, int], dim: int, *, mean: Collection[str] = ()) -> None:
        super().__init__()
        self.names, self.widths, self.dim, self.mean = list(widths), widths, dim, frozenset(mean)
        self.to_dim = nn.ModuleDict(
            {table_name(name): nn.Linear(width, dim, bias=False) for name, width in widths.items() if width != dim}
        )

    def forward(self, pooled: KeyedTensor, sparse: KeyedJaggedTensor) -> torch.Tensor:
        """A view where widths and order are right already, one gather where they are not; then the means."""
        keys = pooled.keys()
        if self.to_dim:
            by_name = dict(zip(keys, pooled.values().split(pooled.length_per_key(), dim=1), strict=True))
            x_BFD = torch.stack([self._token(name, by_name[name]) for name in self.names], dim=1)
        else:
            width = pooled.length_per_key()[0]
            x_BFD = pooled.values().view(-1, len(self.names), width)
            if width != self.dim:
                x_BFD = x_BFD[..., : self.dim]
            if keys != self.names:
                x_BFD = x_BFD[:, [keys.index(name) for name in self.names]]
        return x_BFD * self._one_over_ids(sparse) if self.mean else x_BFD

    def _one_over_ids(self, sparse: KeyedJaggedTensor) -> torch.Tensor:
        """[B, F, 1]: one over the number of ids where a mean is wanted, 1 elsewhere and for empty bags."""
        keys = sparse.keys()
        lengths_FB = sparse.lengths().view(len(keys), -1)
        none_B = torch.ones_like(lengths_FB[0])
        rows = [lengths_FB[keys.index(name)].clamp(min=1) if name in self.mean else none_B for name in self.names]
        return torch.stack(rows, dim=1).unsqueeze(2).float().reciprocal()

    def _token(self, name: str, pooled_BD: torch.Tensor) -> torch.Tensor:
        table = table_name(name)
        if table in self.to_dim:
            return self.to_dim[table](pooled_BD[:, : self.widths[name]])
        return pooled_BD[:, : self.dim]


class FeatureTokens(nn.Module):
    """``Batch -> x_BFD``. The forward is a straight line, which is what TorchRec's pipeline can trace.

    ``dim`` is the tokens' width; without it, that of all tables. ``dims`` are the widths of tables that have their own,
    as ``embedding_tables`` got them. ``mean`` names the columns whose rows are averaged rather than summed.
    ``sequences`` are the tables of columns that are not pooled, and ``places`` how many tokens each of them has.
    """

    def __init__(
        self,
        tables: EmbeddingBagCollection,
        dense: DenseTokens | None,
        *,
        dim: int | None = None,
        dims: Mapping[str, int] | None = None,
        mean: Collection[str] = (),
        sequences: EmbeddingCollection | None = None,
        places: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        configs = tables.embedding_bag_configs()
        self.tables = tables
        self.dim = dim or configs[0].embedding_dim
        widths = {config.feature_names[0]: config.embedding_dim for config in configs}
        like_tokens = {name: self.dim for name, width in widths.items() if width == padded(self.dim)}
        self.order = SchemaOrder(widths | like_tokens | dict(dims or {}), self.dim, mean=mean)
        self.num_table_parameters = sum(
            config.num_embeddings * self.order.widths[config.feature_names[0]] for config in configs
        )
        self.dense = dense
        self.num_tokens = len(configs) + (dense.num_tokens if dense else 0)
        self.sequences, self.padding = sequences, Padding(places or {}, self.dim)
        if sequences is not None:
            rows = sum(config.num_embeddings for config in sequences.embedding_configs())
            self.num_table_parameters += rows * self.dim
            self.num_tokens += sum(self.padding.lengths.values())

    def forward(self, batch: Batch) -> torch.Tensor:
        """The pooled rows of every table, the dense tokens, the places of every sequence.

        Both lookups begin before either is waited for.
        """
        pooled = self.tables(batch.sparse)
        rows = None if self.sequences is None else self.sequences(batch.sparse)
        parts = [self.order(pooled, batch.sparse)]
        if self.dense is not None:
            parts.append(self.dense(batch.dense_BN))
        if rows is not None:
            parts.append(self.padding(rows))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
