"""Saved under any plan on any number of ranks, loaded under any other: every tensor the same, to the bit."""

import json

import pytest
import torch

from c2al.parallel import ranks as process_group
from c2al.parallel.rectangles import Rectangles
from c2al.parallel.state import fill_lazy_state, moments, sizes, weights
from tests import runs
from tests.parallel import state_world


@pytest.fixture
def trained():
    ranks = process_group.start()
    yield state_world.Trained("row_wise", "rowwise_adagrad", ranks, seed=0), ranks
    process_group.stop()


def test_the_state_says_what_it_is_and_not_where_it_lies(trained):
    one, ranks = trained
    one.step(1, ranks)
    found = sizes(one.state())
    assert found["tables.a.b.weight"] == found["average.tables.a.b.weight"] == [61, 48]
    assert found["tables.a.b.moment"] == [61]
    head = "ranker.heads.1.weight"
    assert found[f"dense.{head}"] == found[f"dense_optim.{head}.exp_avg"] == [1, 192]
    assert found[f"dense_optim.{head}.step"] == []
    assert {name.split(".")[0] for name in found} == {"tables", "dense", "dense_optim", "average"}


def test_it_is_live(trained):
    """What is put into the state is in the model, and in its optimizers."""
    one, ranks = trained
    one.step(1, ranks)
    state = weights(one.sharded.state_dict(), one.placements) | moments(one.optimizers, one.placements)
    with torch.no_grad():
        for value in state.values():
            for tensor in [part for part, _ in value.parts] if isinstance(value, Rectangles) else [value]:
                tensor.fill_(7)
    again = weights(one.sharded.state_dict(), one.placements) | moments(one.optimizers, one.placements)
    assert all(bool((tensor == 7).all()) for tensor in state_world.gathered(again).values())


def test_adam_has_no_moments_before_its_first_step(trained):
    one, _ = trained
    assert not [name for name in one.state() if name.startswith("dense_optim.")]
    fill_lazy_state(one.optimizers)
    steps = [value for name, value in one.state().items() if name.endswith(".step")]
    assert len(steps) == len(one.optimizers.dense_parameters)


@pytest.mark.slow
def test_all_pairs_of_ranks_and_plans(tmp_path):
    """{1, 2, 3, 4} ranks × {row, table, column, table-row, data-parallel}: weights, moments, averages, Adam."""
    ports = [str(runs.free_port()) for _ in range(8)]
    ended = runs.on_ranks(["-m", "tests.parallel.state_world", str(tmp_path), *ports], world_size=4)
    assert [status for status, _, _ in ended] == [0] * 4, ended[0][2][-3000:]
    found = json.loads((tmp_path / "differ.json").read_text())
    assert len(found) == 20 * 20 + 17 * 17, "Adagrad under all plans, row-wise Adagrad under those that cut no row"
    assert not {pair: names for pair, names in found.items() if names}
