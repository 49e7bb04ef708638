"""Schema to embedding tables: one TorchRec table a sparse column, on the meta device until it is sharded."""

from collections.abc import Sequence

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from c2al.schema import SparseColumn

POOLING = {"mean": PoolingType.MEAN, "sum": PoolingType.SUM}


def table_name(column: str) -> str:
    """``table_<column>``: a column may be called ``type`` or ``a.b``, which no torch module can be."""
    return f"table_{column.replace('.', '__')}"


def embedding_tables(
    columns: Sequence[SparseColumn], *, dim: int, pooling: str = "mean", device: str = "meta"
) -> EmbeddingBagCollection:
    """One bag of width ``dim`` for each column; a multi-valued column's rows are pooled, an empty bag is zero.

    A table bears its column's name after ``table_name``. On the meta device nothing is allocated: a table of any size
    can be planned for.
    """
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table_name(column.name),
                feature_names=[column.name],
                num_embeddings=column.num_rows,
                embedding_dim=dim,
                pooling=POOLING[pooling] if column.multi else PoolingType.SUM,
            )
            for column in columns
        ],
        device=torch.device(device),
    )
