"""Tokens stand in the schema's order, whatever order the tables give them in. test_shard.py tries it on every plan."""

import torch
from torchrec.sparse.jagged_tensor import KeyedTensor

from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables
from c2al.embedding.tokens import FeatureTokens, SchemaOrder
from c2al.schema import SparseColumn
from tests.parallel import sharded_world as world


def test_the_order_of_keys_does_not_matter():
    values = {name: torch.full((2, 3), float(i)) for i, name in enumerate("abc")}
    order = SchemaOrder(list("abc"), 3)
    expected = torch.stack([values[name] for name in "abc"], dim=1)
    for keys in ("abc", "cab", "bca"):
        pooled = KeyedTensor(list(keys), [3, 3, 3], torch.cat([values[key] for key in keys], dim=1))
        assert torch.equal(order(pooled), expected)


def test_sparse_tokens_then_dense_ones():
    dense = DenseTokens(num_dense=world.NUM_DENSE, dim=4, num_tokens=2)
    tokens = FeatureTokens(embedding_tables(world.COLUMNS, dim=4, device="cpu"), dense)
    rows = world.draw(0, 5)
    x_BFD = tokens(rows.batch())
    assert x_BFD.shape == (5, len(world.COLUMNS) + 2, 4)
    assert (tokens.num_tokens, tokens.dim) == (7, 4)
    torch.testing.assert_close(x_BFD[:, 5:], dense(rows.dense_BN))
    first = tokens.tables.embedding_bags["table_store"].weight
    torch.testing.assert_close(x_BFD[:, 0], first[[bag[0] for bag in rows.ids["store"]]])


def test_no_dense_columns():
    tokens = FeatureTokens(embedding_tables([SparseColumn("store", 5)], dim=4, device="cpu"), None)
    assert tokens.num_tokens == 1
