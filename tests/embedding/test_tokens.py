"""Tokens stand in the schema's order, whatever order the tables give them in. test_shard.py tries it on every plan."""

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables, table_name
from c2al.embedding.tokens import FeatureTokens, SchemaOrder
from c2al.schema import SparseColumn
from tests.parallel import sharded_world as world


def ids(lengths: dict[str, list[int]]) -> KeyedJaggedTensor:
    flat = [length for each in lengths.values() for length in each]
    return KeyedJaggedTensor(
        keys=list(lengths), values=torch.zeros(sum(flat), dtype=torch.long), lengths=torch.tensor(flat)
    )


def test_the_order_of_keys_does_not_matter():
    values = {name: torch.full((2, 3), float(i)) for i, name in enumerate("abc")}
    order, sparse = SchemaOrder(dict.fromkeys("abc", 3), 3), ids({key: [1, 1] for key in "abc"})
    expected = torch.stack([values[name] for name in "abc"], dim=1)
    for keys in ("abc", "cab", "bca"):
        pooled = KeyedTensor(list(keys), [3, 3, 3], torch.cat([values[key] for key in keys], dim=1))
        assert torch.equal(order(pooled, sparse), expected)


def test_means_are_over_a_rows_own_ids():
    """A sum of 6 over 3 ids, over 1, and an empty bag; another column stays a sum."""
    order = SchemaOrder({"a": 1, "b": 1}, 1, mean=["b"])
    pooled = KeyedTensor(["b", "a"], [1, 1], torch.tensor([[6.0, 5.0], [6.0, 5.0], [0.0, 5.0]]))
    found = order(pooled, ids({"a": [2, 2, 2], "b": [3, 1, 0]}))
    assert found.tolist() == [[[5.0], [2.0]], [[5.0], [6.0]], [[5.0], [0.0]]]


def test_widths_of_their_own_are_brought_to_the_tokens_width():
    order = SchemaOrder({"a": 2, "b": 3}, 2, mean=["b"])
    assert list(order.to_dim) == ["table_b"]
    pooled = KeyedTensor(["b", "a"], [3, 2], torch.arange(10.0).view(2, 5))
    found = order(pooled, ids({"a": [1, 1], "b": [2, 1]}))
    assert torch.equal(found[:, 0], pooled["a"])
    torch.testing.assert_close(
        found[:, 1], pooled["b"] @ order.to_dim["table_b"].weight.T / torch.tensor([[2.0], [1.0]])
    )


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


def test_padding_is_never_read_and_no_parameter():
    """Tokens of width 10 from rows of 12, one table of width 3 in rows of 4: the rest gets no gradient."""
    for own in ({"type": 3}, {}):
        tables = embedding_tables(world.COLUMNS, dim=10, dims=own, device="cpu")
        tokens = FeatureTokens(tables, None, dim=10, dims=own)
        x_BFD = tokens(world.draw(0, 5).batch())
        assert x_BFD.shape == (5, len(world.COLUMNS), 10)
        x_BFD.square().sum().backward()
        for column in world.COLUMNS:
            weight, width = tables.embedding_bags[table_name(column.name)].weight, own.get(column.name, 10)
            assert weight.grad[:, :width].abs().sum(0).gt(0).all()
            assert weight.grad[:, width:].eq(0).all()
        expected = sum(column.num_rows * own.get(column.name, 10) for column in world.COLUMNS)
        assert tokens.num_table_parameters == expected
