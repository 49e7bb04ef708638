from pathlib import Path

import pytest

from benchmarks.wanted import PlansWanted, ScalingWanted, config_for, parse
from c2al.schema import DataError


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


def test_shapes_are_made_once_and_any_method_gets_its_cohorts(tmp_path: Path) -> None:
    wanted, others = parse(["shapes=criteo", "rows=500", "batches=1", "method=c2al"], PlansWanted)
    config = config_for(wanted, others, world_size=2, threads=1, folder=tmp_path, batch_size=16)
    assert (config.parallel.world_size, config.training.threads, config.training.decay) == (2, 1, "constant")
    assert (config.cohorts.axis, config.cohorts.head, config.cohorts.tail) == ("revenue", "top", "low")
    before = (tmp_path / "criteo" / "schema.yaml").stat().st_mtime_ns
    config_for(wanted, others, world_size=2, threads=1, folder=tmp_path)
    assert (tmp_path / "criteo" / "schema.yaml").stat().st_mtime_ns == before
