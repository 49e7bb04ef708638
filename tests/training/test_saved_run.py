import os
import pickle
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from c2al.schema import DataError
from c2al.training.checkpoint_store import Store
from c2al.training.evaluate_run import evaluate_run, loaded_run
from c2al.training.saved_run import SavedRun, config_of
from c2al.training.show_checkpoint import look
from c2al.training.train import train
from tests import runs


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
    assert saved.metrics["test"]["overall"]["rows"] == 600
    assert "torch" in saved.versions
    earlier = SavedRun(str(whole_run), step=16)
    assert earlier.step == 16
    assert earlier.metrics == {}, "the report is of step 24"


@pytest.mark.parametrize(
    "report", ["", "[]", '{"progress": 3, "metrics": {}}', '{"progress": {"step": 24}, "metrics": [1]}']
)
def test_a_report_that_is_none_has_no_metrics(whole_run, tmp_path, report):
    run = shutil.copytree(whole_run, tmp_path / "run")
    (run / "report.json").write_text(report)
    assert SavedRun(str(run)).metrics == {}


def test_a_step_that_is_not_kept(whole_run):
    with pytest.raises(DataError, match=r"step=16, 24"):
        SavedRun(str(whole_run), step=3)


def test_a_table_that_is_not_there(whole_run):
    with pytest.raises(DataError, match="no such table"):
        next(SavedRun(str(whole_run)).table("shoe_size"))


def test_a_run_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no run there"):
        config_of(str(tmp_path))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_one_byte(path):
    """Of the same size: as a disk rots."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def swap_with_another_step(path):
    path.write_bytes((path.parents[1] / "step_00000016" / path.name).read_bytes())


@pytest.mark.parametrize("damage", [cut_short, flip_one_byte, swap_with_another_step])
@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "progress.json"])
def test_from_a_damaged_checkpoint_back_to_the_one_before_loudly(whole_run, tmp_path, damage, name, capsys):
    """By default; a step that is asked for is refused."""
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    path = run / "checkpoints" / "step_00000024" / name
    whole = path.read_bytes()
    damage(path)
    if path.read_bytes() == whole:
        pytest.skip("both steps have the same one")
    assert SavedRun(str(run)).step == 16
    [said] = capsys.readouterr().err.splitlines()
    assert "step_00000024 is passed over for that of step 16: the checkpoint is damaged: " in said
    with pytest.raises(DataError, match=r"damaged: .*step_00000024.* name another by step=…"):
        SavedRun(str(run), step=24)
    assert [bool(each["fault"]) for each in look(str(run))] == [False, True]
    metrics = evaluate_run(str(run), split="test", step=None, axes=[])
    assert metrics == evaluate_run(str(run), split="test", step=16, axes=[])
    with pytest.raises(DataError, match=r"damaged: .*step_00000024"):
        evaluate_run(str(run), split="test", step=24, axes=[])


def test_a_forged_checkpoint_runs_nothing(whole_run, tmp_path):
    """With digests that are right: whoever forges can hash. In every way that there is to open it."""
    run, mark = tmp_path / "run", tmp_path / "fired"
    shutil.copytree(whole_run, run)
    store = Store(str(run / "checkpoints"))
    for step in store.steps():
        content = pickle.dumps(Fires(str(mark)))
        (run / "checkpoints" / f"step_{step:08d}" / ".metadata").write_bytes(content)
        found = store.describe(step)
        os.rename(store.where(step), store.where_written(step))
        os.remove(f"{store.where_written(step)}/progress.json")
        store.finish(step, {key: value for key, value in found.items() if key not in ("files", "sha256")})
    assert not any(each["fault"] for each in look(str(run))), "it says what it is said to be, and opens nothing"
    url = f"file://{run}/checkpoints"
    for place in ("null", url):
        config = runs.config(config_of(str(run)).data.path, run, "method=c2al", *runs.PAIR)
        config.training.checkpoints = None if place == "null" else place
        (run / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
        with pytest.raises(DataError, match=r"names posix\.system, which is none of DCP's records"):
            SavedRun(str(run))
        with pytest.raises(DataError, match=r"no checkpoint can be read: .*posix\.system"):
            evaluate_run(str(run), split="test", step=None, axes=None)
        config.resume = True
        with pytest.raises(DataError, match=r"no checkpoint can be read: .*posix\.system"):
            train(config)
    assert not mark.exists()


class Fires:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)
