"""A run goes on only with what it was."""

import shutil
from types import SimpleNamespace

import pytest

from c2al.schema import DataError
from c2al.training.loop import Progress
from c2al.training.resume import go_on, last_step, refuse_other_config, schedule_of
from tests import runs

C2AL = ("method=c2al", *runs.PAIR)


@pytest.mark.parametrize(
    "option",
    [
        *("model.dim=16", "training.sparse.optimizer=sgd", "model.heads.hidden=[4]", "seed=1", "data.sparse=[user]"),
        *("training.dense.learning_rate=0.5", "cohorts.head=new", "training.average=0.5"),
    ],
)
def test_what_trains_something_else_is_refused_by_name(whole_run, tiny_rows, option):
    key, _, value = option.partition("=")
    with pytest.raises(DataError, match="the run was trained with") as raised:
        refuse_other_config(whole_run, runs.config(tiny_rows, whole_run, *C2AL, "resume=true", option))
    assert f"{key}=" in raised.value.problem
    assert key in str(raised.value.where["value"])
    assert value.strip("[]") in str(raised.value.where["value"])


@pytest.mark.parametrize(
    "option",
    [
        *("parallel=row_wise", "training.log_every=1", "training.steps=99", "name=x", "training.batch_size=64"),
        *("training.window_rows=64", "training.keep_checkpoints=7"),
    ],
)
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


@pytest.mark.parametrize(
    ("option", "state"),
    [
        *(("training.sparse.optimizer=sgd", "optimizer"), ("training.dense.learning_rate=0.5", "optimizer")),
        *(("training.average=0.5", "average"), ("data.path=elsewhere", "position")),
    ],
)
def test_a_state_may_be_left_by_name(whole_run, tiny_rows, option, state):
    with pytest.raises(DataError, match=rf"resume_without=\[{state}\]"):
        refuse_other_config(whole_run, runs.config(tiny_rows, whole_run, *C2AL, "resume=true", option))
    config = runs.config(tiny_rows, whole_run, *C2AL, "resume=true", option, f"resume_without=[{state}]")
    refuse_other_config(whole_run, config)
    config.model.dim = 16
    with pytest.raises(DataError, match=r"model\.dim=8"):
        refuse_other_config(whole_run, config)


class Reader:
    """Arithmetic alone: 1,000 rows."""

    num_rows = 1000

    def __init__(self, rows_per_step: int) -> None:
        self.rows_per_step = rows_per_step
        self.steps_per_epoch = self.steps(0, [])

    def rows_left(self, epoch, legs):
        return self.num_rows - sum(leg.steps * leg.batch_size * leg.world_size for leg in legs)

    def steps(self, epoch, legs):
        return -(-self.rows_left(epoch, legs) // self.rows_per_step)


def at_start(world_size, batch_size, **options):
    now = Progress(num_rows=1000, world_size=world_size, batch_size=batch_size, window_rows=100)
    now.paces = [[0, 0.0, world_size * batch_size]]
    now.num_steps = last_step(now, Reader(world_size * batch_size), settings(**options))
    return now


def settings(*, steps=None, epochs=1, accumulate=1, warmup=0.1, decay="linear"):
    return SimpleNamespace(steps=steps, epochs=epochs, accumulate=accumulate, warmup=warmup, decay=decay)


def moved(progress, world_size, batch_size, *, without=(), **options):
    """The progress on other ranks, and what is said of it."""
    now = at_start(world_size, batch_size, **options)
    reader = Reader(world_size * batch_size)
    said = go_on(progress, reader, now, without=without, run="run")
    progress.num_steps = last_step(progress, reader, settings(**options))
    return said


def test_as_many_rows_a_step_change_no_step():
    progress = at_start(2, 10)
    progress.step = progress.step_in_epoch = 30
    assert progress.num_steps == 50
    said = moved(progress, 4, 5)
    assert (progress.num_steps, progress.legs, progress.step_in_epoch) == (50, [[2, 10, 100, 30]], 0)
    assert said == ["400 rows are left of epoch 0, dealt anew to 4 ranks"]
    schedules = [schedule_of(each, settings()) for each in (progress, at_start(2, 10))]
    assert [schedules[0](step) for step in range(51)] == [schedules[1](step) for step in range(51)]


@pytest.mark.parametrize("how", [{"epochs": 1}, {"steps": 50}])
def test_with_other_rows_a_step_the_schedule_goes_on_by_its_share(how):
    progress = at_start(2, 10, **how)
    progress.step = progress.step_in_epoch = 30
    before = schedule_of(progress, settings())(30)
    said = moved(progress, 1, 10, **how)
    assert progress.num_steps == 30 + 40, "half the rows a step, twice the steps that are left"
    after = schedule_of(progress, settings())
    assert after(30) == pytest.approx(before)
    assert after(50) == pytest.approx(before / 2)
    assert after(70) == 0
    assert "60.0%" in said[-1]
    progress.step, progress.step_in_epoch = 40, 10
    moved(progress, 1, 10, **how)
    assert progress.num_steps == 70, "the same again, from any step after"
    moved(progress, 3, 10, **how)
    assert progress.num_steps == 40 + 10
    assert progress.legs == [[2, 10, 100, 30], [1, 10, 100, 10]]


def test_epochs_are_counted_in_rows():
    progress = at_start(2, 10, epochs=2.5)
    progress.step, progress.epoch, progress.step_in_epoch = 70, 1, 20
    moved(progress, 1, 5, epochs=2.5)
    assert progress.num_steps == 70 + 600 // 5 + 500 // 5
    progress.step, progress.epoch, progress.step_in_epoch, progress.legs = 190 + 40, 2, 40, []
    moved(progress, 1, 10, epochs=2.5)
    assert progress.num_steps == 230 + 300 // 10


def test_nothing_moves_before_the_first_step():
    progress = at_start(2, 10)
    moved(progress, 1, 10)
    assert progress.as_dict() == at_start(1, 10).as_dict()


def test_other_rows_are_another_position():
    progress = at_start(1, 10)
    progress.step, progress.step_in_epoch, progress.num_rows = 30, 30, 900
    with pytest.raises(DataError, match=r"1,000 rows, and had 900 .*resume_without=\[position\]"):
        moved(progress, 1, 10)
    said = moved(progress, 1, 10, without=["position"])
    assert said[0] == "epoch 0 begins anew, on 1,000 rows"
    assert (progress.step_in_epoch, progress.legs, progress.num_steps) == (0, [], 30 + 100)


def test_accumulated_steps_stay_whole():
    progress = at_start(1, 10, accumulate=4)
    assert progress.num_steps == 100
    progress.step = progress.step_in_epoch = 40
    moved(progress, 1, 7, accumulate=4)
    assert progress.num_steps == 40 + 84


def test_training_goes_on_under_another_plan(whole_run, tiny_rows, tmp_path):
    """One rank holds all rows under any plan: the same numbers."""
    run = shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_00000024")
    runs.trained(tiny_rows, run, *C2AL, "resume=true", "parallel=row_wise")
    ne = [runs.report_of(each)["metrics"]["test"]["overall"]["ne"] for each in (whole_run, run)]
    assert ne[0] == pytest.approx(ne[1], abs=1e-5)


def test_fewer_steps_than_it_has_are_refused(whole_run, tiny_rows, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    with pytest.raises(DataError, match=r"the run has 24 steps already \(value steps=4\)"):
        runs.trained(tiny_rows, run, *C2AL, "resume=true", "training.steps=4")
    assert runs.report_of(run)["config"]["training"]["steps"] == 24
