"""A run goes on only with what it was."""

import shutil

import pytest

from c2al.schema import DataError
from c2al.training.loop import Progress
from c2al.training.resume import refuse_other_config
from tests import runs

C2AL = ("method=c2al", *runs.PAIR)


@pytest.mark.parametrize(
    "option",
    [
        *("model.dim=16", "training.sparse.optimizer=sgd", "model.heads.hidden=[4]", "seed=1", "data.sparse=[user]"),
        *("training.batch_size=64", "training.dense.learning_rate=0.5", "cohorts.head=new", "training.average=0.5"),
    ],
)
def test_what_trains_something_else_is_refused_by_name(whole_run, tiny_rows, option):
    key, _, value = option.partition("=")
    with pytest.raises(DataError, match="the run was trained with") as raised:
        refuse_other_config(whole_run, runs.config(tiny_rows, whole_run, *C2AL, "resume=true", option))
    assert f"{key}=" in raised.value.problem
    assert key in str(raised.value.where["value"])
    assert value.strip("[]") in str(raised.value.where["value"])


@pytest.mark.parametrize("option", ["parallel=row_wise", "training.log_every=1", "training.steps=99", "name=x"])
def test_the_rest_may_change(whole_run, tiny_rows, option):
    refuse_other_config(whole_run, runs.config(tiny_rows, whole_run, *C2AL, "resume=true", option))


def test_nothing_to_compare_with(tiny_rows, tmp_path):
    refuse_other_config(tmp_path, runs.config(tiny_rows, tmp_path))


def test_a_run_refuses_before_it_touches_anything(whole_run, tiny_rows, tmp_path):
    run = shutil.copytree(whole_run, tmp_path / "run")
    files = [path for path in run.rglob("*") if path.is_file() and path.parent.name != "logs"]
    before = {path: path.read_bytes() for path in files if path.name != "run.lock"}
    with pytest.raises(DataError, match=r"model\.dim=8"):
        runs.trained(tiny_rows, run, *C2AL, "resume=true", "model.dim=16")
    assert {path: path.read_bytes() for path in before} == before


def test_another_number_of_ranks():
    Progress(world_size=2).refuse_other_world(2)
    with pytest.raises(DataError, match="trained on 2 ranks"):
        Progress(world_size=2).refuse_other_world(1)


def test_training_goes_on_under_another_plan(whole_run, tiny_rows, tmp_path):
    """One rank holds all rows under any plan: the same numbers."""
    run = shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_00000024")
    runs.trained(tiny_rows, run, *C2AL, "resume=true", "parallel=row_wise")
    ne = [runs.report_of(each)["metrics"]["test"]["overall"]["ne"] for each in (whole_run, run)]
    assert ne[0] == pytest.approx(ne[1], abs=1e-5)
