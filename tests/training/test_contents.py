"""What a checkpoint says of itself, and what goes on with it."""

import pytest
import torch

from c2al.parallel.plan import Placement
from c2al.parallel.rectangles import Rectangles
from c2al.schema import DataError
from c2al.training.contents import Fit, describe


class Optimizers:
    accumulate = 2


def state(*, rows=9, dim=4, moment=(9, 4), head=3, average=False, adam=True):
    """A table a.b and a head."""
    found = {
        "tables.a.b.weight": Rectangles(torch.Size([rows, dim]), []),
        "dense.head": torch.zeros(head),
    }
    if moment:
        found["tables.a.b.moment"] = Rectangles(torch.Size(moment), [])
    if adam:
        found["dense_optim.head.step"] = torch.tensor(1.0)
    if average:
        found["average.dense.head"] = torch.zeros(head)
    return found


def saved(**sizes):
    rows, dim = sizes.get("rows", 9), sizes.get("dim", 4)
    return describe(state(**sizes), [Placement("a.b", rows, dim, "row_wise", (0, 1))], Optimizers(), None)


def fit(there, here, *, without=(), only_weights=False):
    return Fit(there, here, without=without, only_weights=only_weights, file="step_00000008")


def test_it_says_what_is_inside():
    found = saved()
    assert found["tables"][0] | {"table": "a.b", "sharding": "row_wise", "ranks": (0, 1)} == found["tables"][0]
    assert (found["tables"][0]["weight_bytes"], found["tables"][0]["moment_bytes"]) == (144, 144)
    assert found["sizes"]["tables.a.b.weight"] == [9, 4]
    assert found["dense_optimizer"] == {"kind": "Adam", "accumulate": 2}


def test_the_same_fits():
    found = fit(saved(), state())
    assert found.names == set(state())
    assert found.dropped == set()


@pytest.mark.parametrize(
    ("here", "problem", "remedy"),
    [
        ({"dim": 8}, "table a.b is 9 × 4 in the checkpoint, and 9 × 8 in the model", "model.dims.a.b=4"),
        ({"rows": 10}, "table a.b is 9 × 4 in the checkpoint, and 10 × 4 in the model", "the data that the run"),
        ({"head": 5}, "dense.head is 3 in the checkpoint, and 5 in the model", "overwrite=true"),
    ],
)
def test_another_model_is_refused_by_name(here, problem, remedy):
    with pytest.raises(DataError) as raised:
        fit(saved(), state(**here), without=["optimizer", "average", "position"])
    assert problem in str(raised.value)
    assert remedy in str(raised.value)


def test_a_table_more_or_less():
    there = saved()
    here = state() | {"tables.c.weight": Rectangles(torch.Size([2, 4]), [])}
    with pytest.raises(DataError, match="the checkpoint has no table c, and the model has one"):
        fit(there, here)
    del here["tables.c.weight"], here["tables.a.b.weight"]
    with pytest.raises(DataError, match=r"the checkpoint has a table a\.b, and the model has none"):
        fit(there, here)


@pytest.mark.parametrize(
    ("there", "here", "flag", "said"),
    [
        ({}, {"moment": (9,)}, "optimizer", "is 9 × 4 there, and 9 here"),
        ({}, {"moment": None}, "optimizer", "is 9 × 4 there, and nothing here"),
        ({"moment": None}, {}, "optimizer", "is nothing there, and 9 × 4 here"),
        ({}, {"average": True}, "average", "is nothing there, and 3 here"),
        ({"average": True}, {}, "average", "is 3 there, and nothing here"),
        ({"adam": False}, {}, "optimizer", "is nothing there, and a number here"),
    ],
)
def test_a_state_is_left_only_by_name(there, here, flag, said):
    with pytest.raises(DataError, match=rf"{said}.*resume_without=\[{flag}\]"):
        fit(saved(**there), state(**here))
    found = fit(saved(**there), state(**here), without=[flag])
    assert found.dropped == {flag}
    assert "dense.head" in found.names
    assert not {name for name in found.names if saved(**there)["sizes"].get(name) is None}


def test_weights_alone_need_no_moments():
    found = fit(saved(), state(moment=None, adam=False), only_weights=True)
    assert found.names == {"tables.a.b.weight", "dense.head"}
