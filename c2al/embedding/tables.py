"""Schema to embedding tables: one TorchRec table a sparse column, on the meta device until it is sharded."""

import re
from collections.abc import Mapping, Sequence

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from c2al.names import table_name as table_name  # what modules of this layer and above take from here
from c2al.schema import SparseColumn


def table_of(parameter: str) -> str | None:
    """The table whose weight a parameter's dotted path names, sharded or not; None for the dense part's."""
    found = re.search(r"\.(?:embedding_bags|sequences\.embeddings)\.([^.]+)\.", f".{parameter}")
    return found[1] if found else None


def padded(width: int) -> int:
    """Columns of a table whose rows hold ``width`` numbers: FBGEMM's rows are of 16 bytes or a multiple.

    The columns beyond are never read: their gradient is zero, and they are no parameters of the model. Row-wise
    Adagrad's moment is a mean over all columns of a row, theirs too: it takes steps sqrt(padded / width) as long.
    """
    return 4 * -(-width // 4)


def embedding_tables(
    columns: Sequence[SparseColumn],
    *,
    dim: int,
    dims: Mapping[str, int] | None = None,
    device: str = "meta",
) -> EmbeddingBagCollection:
    """One bag for each column, of width ``dim`` or its own of ``dims``, ``padded``.

    A multi-valued column's rows are summed, an empty bag is zero; ``FeatureTokens`` makes means of sums. Left to
    TorchRec, a mean would be a sum under grid sharding (1.8.0), without a word.

    A table bears its column's name after ``table_name``. On the meta device nothing is allocated: a table of any size
    can be planned for.
    """
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table_name(column.name),
                feature_names=[column.name],
                num_embeddings=column.num_rows,
                embedding_dim=padded((dims or {}).get(column.name, dim)),
                pooling=PoolingType.SUM,
            )
            for column in columns
        ],
        device=torch.device(device),
    )
