"""Sequences: the last ids of each row in their order, zeros before them; two ranks are in tests/parallel."""

import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.batch import Batch
from c2al.embedding.dense import DenseTokens
from c2al.embedding.sequences import Padding, sequence_tables
from c2al.embedding.tables import embedding_tables, table_name
from c2al.embedding.tokens import FeatureTokens
from c2al.schema import SparseColumn

HISTORY, OTHER = SparseColumn("a.history", 10, multi=True), SparseColumn("other", 4, multi=True)
VALUES_VD = torch.arange(1.0, 7.0).view(6, 1)  # rows of 1, 0, 2 and 3 ids
LENGTHS = torch.tensor([1, 0, 2, 3])


def test_tables_of_any_size_on_meta():
    tables = sequence_tables([SparseColumn("a.history", 10**12, multi=True)], dim=6)
    (config,) = tables.embedding_configs()
    assert (config.name, config.feature_names, config.embedding_dim) == ("table_a%2Ehistory", ["a.history"], 8)
    assert tables.embeddings["table_a%2Ehistory"].weight.device == torch.device("meta")


def batch() -> Batch:
    """Two rows: a store, histories [7, 2, 9] and none, others [1] and [3, 3]."""
    sparse = KeyedJaggedTensor(
        ["a.history", "store", "other"],
        torch.tensor([7, 2, 9, 1, 0, 1, 3, 3]),
        lengths=torch.tensor([3, 0, 1, 1, 1, 2]),
    )
    one = torch.ones(2)
    return Batch(torch.randn(2, 3), sparse, one, one, torch.empty(2, 0).long(), torch.arange(2))


@pytest.mark.parametrize("dim", [4, 6])
def test_pooled_tokens_then_dense_ones_then_places(dim):
    """Rows wider than the tokens are cut: FBGEMM's are of a multiple of 4 numbers."""
    store = SparseColumn("store", 5)
    sequences = sequence_tables([HISTORY, OTHER], dim=dim, device="cpu")
    dense = DenseTokens(num_dense=3, dim=dim)
    tokens = FeatureTokens(
        embedding_tables([store], dim=dim, device="cpu"),
        dense,
        dim=dim,
        sequences=sequences,
        places={"a.history": 2, "other": 3},
    )
    rows = batch()
    x_BFD = tokens(rows)
    assert x_BFD.shape == (2, tokens.num_tokens, dim) == (2, 7, dim)
    history, other = (sequences.embeddings[table_name(each.name)].weight[:, :dim] for each in (HISTORY, OTHER))
    torch.testing.assert_close(x_BFD[:, 1:2], dense(rows.dense_BN))
    assert torch.equal(x_BFD[0, 2:4], history[[2, 9]])
    assert torch.equal(x_BFD[1, 5:], other[[3, 3]])
    assert x_BFD[1, 2:5].eq(0).all()
    assert tokens.num_table_parameters == (5 + 10 + 4) * dim


def test_padding_takes_a_promise_of_rows():
    """Of sharded tables: it has a mapping's methods and no brackets."""

    class Promise:
        def __init__(self, rows):
            self.rows = rows

        def __getattr__(self, name):
            return getattr(self.rows, name)

    rows = sequence_tables([HISTORY], dim=4, device="cpu")(batch().sparse)
    padding = Padding({"a.history": 2}, 4)
    assert torch.equal(padding(Promise(rows)), padding(rows))
