from pathlib import Path

import pytest

from benchmarks.wanted import PlansWanted, ScalingWanted, config_for, make_rows, parse, shapes_of
from c2al.schema import DataError, Schema


def test_own_words_and_those_of_c2al() -> None:
    words = ["data=parquet", "parallel.plans=[auto,grid]", "parallel.world_size=4", "rounds=7", "model.dim=8"]
    wanted, others = parse(words, PlansWanted)
    assert (wanted.plans, wanted.world_size, wanted.rounds) == (["auto", "grid"], 4, 7)
    assert others == ["data=parquet", "model.dim=8"]
    assert parse(["sizes=[1x1]"], ScalingWanted)[0].sizes == ["1x1"]


@pytest.mark.parametrize("word", ["rounds=many", "rounds=0", "rounds"])
def test_words_that_cannot_be(word: str) -> None:
    with pytest.raises(DataError, match="rounds"):
        parse([word], PlansWanted)


def test_shapes_and_any_method_gets_its_cohorts(tmp_path: Path) -> None:
    wanted, others = parse(["shapes=criteo", "rows=500", "batches=1", "method=c2al"], PlansWanted)
    config = config_for(wanted, others, world_size=2, threads=1, folder=tmp_path, batch_size=16)
    assert (config.parallel.world_size, config.training.threads, config.training.decay) == (2, 1, "constant")
    assert (config.cohorts.axis, config.cohorts.head, config.cohorts.tail) == ("revenue", "top", "low")
    make_rows(wanted, others, config, ranks=2)
    assert Schema.load(config.data.path).splits["train"].rows == 32


def test_no_data_named_is_complete_journey_s_shapes_and_two_are_refused() -> None:
    assert shapes_of(PlansWanted(), ["model.dim=8"]) == "journey"
    assert shapes_of(PlansWanted(), ["data=movielens"]) is None
    with pytest.raises(DataError, match="one of the two"):
        shapes_of(PlansWanted(shapes="criteo"), ["data.path=there"])
