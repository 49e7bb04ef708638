"""Rectangles of a tensor, saved and loaded by DCP as other rectangles, or whole."""

import pytest
import torch
import torch.distributed.checkpoint as dcp

from c2al.parallel import ranks as process_group
from c2al.parallel.rectangles import LoadPlanner, Rectangles, SavePlanner, copied

WHOLE = torch.arange(35.0).view(5, 7)
CUTS = {
    "whole": [(0, 5, 0, 7)],
    "rows": [(0, 2, 0, 7), (2, 5, 0, 7)],
    "columns": [(0, 5, 0, 4), (0, 5, 4, 7)],
    "grid": [(0, 3, 0, 3), (0, 3, 3, 7), (3, 5, 0, 3), (3, 5, 3, 7)],
}


@pytest.fixture(autouse=True)
def group():
    process_group.start()
    yield
    process_group.stop()


def cut(tensor: torch.Tensor, cuts) -> Rectangles:
    return Rectangles(tensor.shape, [(tensor[a:b, c:d].clone(), [a, c]) for a, b, c, d in cuts])


@pytest.mark.parametrize("saved", ["tensor", *CUTS])
def test_any_form_loads_from_any(saved, tmp_path):
    state = {"x": WHOLE.clone() if saved == "tensor" else cut(WHOLE, CUTS[saved])}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path), planner=SavePlanner())
    for cuts in CUTS.values():
        found = cut(torch.zeros(5, 7), cuts)
        dcp.load({"x": found}, storage_reader=dcp.FileSystemReader(tmp_path), planner=LoadPlanner())
        for (tensor, _), (a, b, c, d) in zip(found.parts, cuts, strict=True):
            assert torch.equal(tensor, WHOLE[a:b, c:d])
    whole = torch.zeros(5, 7)
    dcp.load({"x": whole}, storage_reader=dcp.FileSystemReader(tmp_path), planner=LoadPlanner())
    assert torch.equal(whole, WHOLE)


def test_copies_are_apart():
    live = cut(WHOLE, CUTS["rows"])
    apart = copied(live)
    live.parts[0][0].zero_()
    assert torch.equal(apart.parts[0][0], WHOLE[:2])
    assert apart.shape == live.shape
    assert copied(WHOLE).data_ptr() != WHOLE.data_ptr()


def test_a_rank_may_hold_nothing():
    assert copied(Rectangles(torch.Size([5]), [])).parts == []
