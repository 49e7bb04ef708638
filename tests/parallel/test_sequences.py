"""Sequences are the same model under every plan that they can have, on one rank and two (see ``sequences_world``)."""

import json

import pytest

from c2al.parallel.conflicts import OF_SEQUENCES
from c2al.parallel.plan import SHARDINGS, TableOptions, place_tables
from c2al.schema import DataError
from tests import runs
from tests.parallel import sequences_world as world

FOUND = [(world_size, name) for world_size in (1, 2) for name in world.cases(world_size)]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """What each rank found under every plan, by number of ranks."""
    folder, found = tmp_path_factory.mktemp("sequences"), {}
    for world_size in (1, 2):
        words = ["-m", "tests.parallel.sequences_world", str(folder / "found.json")]
        ended = runs.on_ranks(words, world_size=world_size)
        assert [status for status, _, _ in ended] == [0] * world_size, [text for _, _, text in ended]
        found[world_size] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "name"), FOUND)
def test_ranks_train_as_plain_torch_does(world_size, name, worlds):
    """Tokens, losses and tables over four steps; with both pipelines, and a rank that once has no ids."""
    for rank in worlds[world_size]:
        for part in ("tokens", "losses", "tables"):
            assert rank[name][part] < 2e-6, part
        assert rank[name]["moved"] > 1e-2, "every table learns"


def place(sharding: str, *, world_size: int = 4, **own: TableOptions):
    return place_tables(
        world.COLUMNS,
        dim=world.DIM,
        sharding=sharding,
        world_size=world_size,
        ranks_per_host=2,
        optimizer="adagrad",
        own=own,
        sequences=world.PLACES,
    )


def test_placements_say_which_rows_are_not_pooled():
    assert [each.table for each in place("row_wise") if each.sequence] == ["seen", "bought"]


@pytest.mark.parametrize("sharding", [kind for kind in SHARDINGS if kind not in OF_SEQUENCES])
def test_other_shardings_are_refused_with_the_table_and_what_would_do(sharding):
    """Any other one of the pooled tables may have them."""
    with pytest.raises(DataError, match=rf"{sharding} is for pooled columns.*column (seen|bought).*row_wise"):
        place(sharding)
    placed = place(sharding, seen=TableOptions("row_wise"), bought=TableOptions("table_wise"))
    assert {each.sharding for each in placed if not each.sequence} == {sharding}


def test_column_wise_sequences_are_cut_alike():
    cut = {"ranks": (0,), "sharding": "column_wise"}
    with pytest.raises(DataError, match=r"cut alike.*ranks=.* as many as.*row_wise"):
        place("column_wise", world_size=2, seen=TableOptions(**cut))
    placed = place("column_wise", world_size=2, seen=TableOptions("row_wise"), tags=TableOptions(**cut))
    assert {each.num_column_shards for each in placed if each.sharding == "column_wise"} == {1, 2}
