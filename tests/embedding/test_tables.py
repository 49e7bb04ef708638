"""One table a column, nothing allocated before it is sharded."""

import pytest
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.embedding.tables import embedding_tables, padded, table_name
from c2al.embedding.tokens import FeatureTokens
from c2al.schema import SparseColumn

COLUMNS = (SparseColumn("item", 10), SparseColumn("tags", 6, multi=True), SparseColumn("store", 4))


def test_tables_of_any_size_cost_nothing_on_meta():
    tables = embedding_tables([SparseColumn("item", 10**12)], dim=64)
    (weight,) = tables.parameters()
    assert (weight.shape, weight.device.type) == ((10**12, 64), "meta")


def test_one_table_a_column_in_the_schemas_order():
    configs = embedding_tables(COLUMNS, dim=8).embedding_bag_configs()
    assert [config.feature_names for config in configs] == [["item"], ["tags"], ["store"]]
    assert [(config.num_embeddings, config.embedding_dim) for config in configs] == [(10, 8), (6, 8), (4, 8)]


@pytest.mark.parametrize("name", ["type", "a.b", "forward", "0", "parameters", "weight"])
def test_columns_may_be_called_as_modules_cannot(name):
    tables = embedding_tables([SparseColumn(name, 3)], dim=4)
    assert list(tables.embedding_bags) == [table_name(name)]
    assert "." not in table_name(name)


def test_a_table_may_have_a_width_of_its_own():
    configs = embedding_tables(COLUMNS, dim=8, dims={"store": 16}).embedding_bag_configs()
    assert [config.embedding_dim for config in configs] == [8, 8, 16]


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_bags_are_pooled_as_plain_torch_does(pooling):
    """Single values are looked up; a bag is the mean or the sum; an empty one is zero."""
    tables = embedding_tables(COLUMNS, dim=4, device="cpu")
    tokens = FeatureTokens(tables, None, mean=["tags"] if pooling == "mean" else [])
    ids = {"item": [[1], [9], [0]], "tags": [[0, 5, 5], [], [2]], "store": [[3], [0], [3]]}
    bags = [bag for name in ids for bag in ids[name]]
    sparse = KeyedJaggedTensor(
        keys=list(ids),
        values=torch.tensor([value for bag in bags for value in bag]),
        lengths=torch.tensor([len(bag) for bag in bags]),
    )
    pooled = dict(zip(ids, tokens.order(tables(sparse), sparse).unbind(1), strict=True))
    for name, each in ids.items():
        weight = tables.embedding_bags[table_name(name)].weight
        starts = torch.tensor([0, *(len(bag) for bag in each)]).cumsum(0)[:-1]
        flat = torch.tensor([value for bag in each for value in bag])
        expected = nn.functional.embedding_bag(flat, weight, starts, mode=pooling if name == "tags" else "sum")
        torch.testing.assert_close(pooled[name], expected)
    assert pooled["tags"][1].eq(0).all()


def test_rows_are_padded_to_sixteen_bytes():
    assert [padded(width) for width in (1, 4, 10, 16, 17)] == [4, 4, 12, 16, 20]
    configs = embedding_tables(COLUMNS, dim=10, dims={"store": 3}).embedding_bag_configs()
    assert [config.embedding_dim for config in configs] == [12, 12, 4]
