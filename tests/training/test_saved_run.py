import shutil

import pytest
import torch

from c2al.schema import DataError
from c2al.training.evaluate_run import loaded_run
from c2al.training.saved_run import SavedRun, config_of


def test_weights_are_those_of_the_loaded_run(whole_run):
    saved = SavedRun(str(whole_run))
    with loaded_run(str(whole_run)) as (training, _):
        state = training.sharded.state_dict()
        for name, value in saved.dense().items():
            assert torch.equal(value, state[f"ranker.{name}"]), name
        tables = {name: value for name, value in state.items() if "embedding.tables" in name}
        for column in saved.schema.sparse:
            whole = torch.cat(list(saved.table(column.name)))
            [sharded] = [value for name, value in tables.items() if name.endswith(f"table_{column.name}.weight")]
            parts = (
                [shard.tensor for shard in sharded.local_shards()] if hasattr(sharded, "local_shards") else [sharded]
            )
            assert torch.equal(whole, torch.cat(parts)), column.name


def test_it_says_where_it_stands(whole_run):
    saved = SavedRun(str(whole_run))
    assert saved.step == 24
    assert saved.plain["method"]["name"] == "c2al"
    assert saved.report["metrics"]["test"]["overall"]["rows"] == 600
    assert "torch" in saved.versions
    assert SavedRun(str(whole_run), step=16).step == 16


def test_a_step_that_is_not_kept(whole_run):
    with pytest.raises(DataError, match=r"step=16, 24"):
        SavedRun(str(whole_run), step=3)


def test_a_table_that_is_not_there(whole_run):
    with pytest.raises(DataError, match="no such table"):
        next(SavedRun(str(whole_run)).table("shoe_size"))


def test_a_run_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no run there"):
        config_of(str(tmp_path))


def test_a_damaged_checkpoint_is_said_to_be(whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    largest = max((run / "checkpoints" / "step_00000024").glob("*.distcp"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-10])
    with pytest.raises(DataError, match="damaged"):
        SavedRun(str(run))
    assert SavedRun(str(run), step=16).step == 16
