import pytest
import torch
from torch import nn
from torch.nn import functional

from c2al.serving.quantized import quantized
from c2al.serving.served import Lookup, SparseInput, lay_out, widths_of

COLUMNS = [
    SparseInput("a", 10, 4),
    SparseInput("h", 20, 4, multi=True, mean=True),
    SparseInput("w", 7, 6),
    SparseInput("s", 5, 4, multi=True),
]


def tables():
    random = torch.Generator().manual_seed(0)
    return {c.name: torch.randn(c.num_rows, c.width, generator=random) for c in COLUMNS}


def stacked(placed):
    own = tables()
    return [torch.cat([own[c.name] for c in placed if c.width == width]) for width in widths_of(placed)]


def lookup(placed):
    torch.manual_seed(0)
    return Lookup(placed, dim=4, dtype="fp32", to_dim=nn.ModuleDict({"table_w": nn.Linear(6, 4, bias=False)}))


def test_tables_of_a_width_lie_one_under_another():
    placed = lay_out(COLUMNS)
    assert [(c.name, c.base) for c in placed] == [("a", 0), ("h", 10), ("w", 0), ("s", 30)]
    assert widths_of(placed) == [4, 6]


def test_tokens_are_those_of_each_table_in_the_schemas_order():
    placed, own = lay_out(COLUMNS), tables()
    model = lookup(placed)
    ids = torch.tensor([[3, 6], [9, 0], [0, 2]])
    h, s = (torch.tensor([1, 19, 4, 4]), torch.tensor([2, 0, 2])), (torch.tensor([4]), torch.tensor([0, 1, 0]))
    x, places = model(stacked(placed), ids, [h[0], s[0]], [h[1], s[1]])
    assert not places
    torch.testing.assert_close(x[:, 0], own["a"][ids[:, 0]])
    torch.testing.assert_close(x[:, 1], torch.stack([own["h"][[1, 19]].mean(0), torch.zeros(4), own["h"][4]]))
    torch.testing.assert_close(x[:, 2], functional.linear(own["w"][ids[:, 1]], model.to_dim["table_w"].weight))
    torch.testing.assert_close(x[:, 3], torch.stack([torch.zeros(4), own["s"][4], torch.zeros(4)]))


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_bags_of_fewer_bits(dtype):
    placed = lay_out([SparseInput("h", 20, 4, multi=True)])
    matrix = tables()["h"]
    model = Lookup(placed, dim=4, dtype=dtype, to_dim=nn.ModuleDict())
    values, lengths = torch.tensor([1, 2, 3]), torch.tensor([0, 3])
    x, _ = model(quantized(matrix, dtype), torch.zeros(2, 0, dtype=torch.int64), [values], [lengths])
    torch.testing.assert_close(x[1, 0], matrix[[1, 2, 3]].sum(0), atol=0.05, rtol=0)
    assert not x[0].any()


def test_a_sequence_stands_unpooled():
    placed = lay_out([SparseInput("a", 10, 4), SparseInput("h", 20, 4, multi=True, places=2)])
    own = tables()
    model = Lookup(placed, dim=4, dtype="fp32", to_dim=nn.ModuleDict())
    h = torch.tensor([1, 2, 3, 4]), torch.tensor([3, 0, 1])
    x, [places] = model([torch.cat([own["a"], own["h"]])], torch.tensor([[0], [1], [2]]), [h[0]], [h[1]])
    assert x.shape == (3, 1, 4)
    torch.testing.assert_close(places[0], own["h"][[2, 3]])
    assert not places[1].any()
    torch.testing.assert_close(places[2], torch.stack([torch.zeros(4), own["h"][4]]))
