"""An epoch begun on 2 ranks, killed, gone on with by 1, killed, and ended by 3, each under a plan of its own."""

import json

import pytest

from c2al.schema import DataError
from tests import runs

pytestmark = pytest.mark.slow
# Ranks, plan, rows a rank and step, the step after which all ranks are killed.
LEGS = ((2, "row_wise", 64, 13), (1, "data_parallel", 64, 33), (3, "column_wise", 32, None))


@pytest.fixture(scope="module")
def run(tiny_rows, tmp_path_factory):
    """The folder of the run; its checkpoints lie behind a URL."""
    folder = tmp_path_factory.mktemp("legs")
    for world_size, sharding, rows, killed_at in LEGS:
        words = runs.overrides(
            tiny_rows,
            folder / "run",
            *("training.steps=null", "training.epochs=1", "training.checkpoint_every=5", "training.snapshots=0"),
            *("training.evaluations=0", "model.dim=12", "training.average=0.9", f"training.batch_size={rows}"),
            *(f"parallel={sharding}", f"training.checkpoints=file://{folder}/far", f"resume={world_size != 2}"),
        )
        ended = runs.on_ranks(
            ["-m", "tests.training.legs_world", str(folder), str(killed_at), *words],
            world_size=world_size,
        )
        status = 0 if killed_at is None else -9
        assert [each[0] for each in ended] == [status] * world_size, ended[0][2][-3000:]
        (folder / f"said_{world_size}.txt").write_text(ended[0][2])
    return folder


def steps_of(run, world_size):
    """The rows of each step over all ranks, and the learning rate."""
    steps = {}
    for rank in range(world_size):
        for line in (run / f"{world_size}_{rank}.jsonl").read_text().splitlines():
            found = json.loads(line)
            rows, _ = steps.get(found["step"], ([], 0))
            steps[found["step"]] = rows + found["rows"], found["rate"]
    return steps


def test_every_row_is_trained_once(run):
    first, second, third = (steps_of(run, world_size) for world_size, *_ in LEGS)
    assert list(first) == list(range(1, 14))
    assert list(second) == list(range(11, 34)), "from the checkpoint of step 10 on"
    assert list(third) == list(range(31, 55)), "2,240 rows are left, 96 a step"
    kept = [first[step] for step in range(1, 11)] + [second[step] for step in range(11, 31)] + list(third.values())
    rows = [row for step, _ in kept for row in step]
    assert sorted(rows) == list(range(4800))
    report = runs.report_of(run / "run")
    assert (report["rows"], report["progress"]["step"], report["progress"]["epoch"]) == (4800, 54, 1)


def test_the_schedule_goes_on_where_it_stood(run):
    """Linear to zero in rows, whatever a step is."""
    first, second, third = (steps_of(run, world_size) for world_size, *_ in LEGS)
    assert second[11][1] == pytest.approx(first[11][1], rel=0.02)
    assert third[31][1] == pytest.approx(second[31][1], rel=0.02)
    slopes = [
        (each[a][1] - each[a + 1][1]) / rows for each, a, rows in ((first, 5, 128), (second, 15, 64), (third, 40, 96))
    ]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=0.05)
    assert 0 < third[54][1] < 0.01


def test_it_is_said(run):
    assert (
        "going on after step 10: 3,520 rows are left of epoch 0, dealt anew to 1 ranks"
        in (run / "said_1.txt").read_text()
    )
    assert (
        "going on after step 30: 2,240 rows are left of epoch 0, dealt anew to 3 ranks"
        in (run / "said_3.txt").read_text()
    )


def test_another_run_does_not_take_them_for_its_own(run, tiny_rows, tmp_path):
    words = ("training.steps=2", f"training.checkpoints=file://{run}/far", "model.dim=12")
    with pytest.raises(DataError, match="checkpoints of another run are there"):
        runs.trained(tiny_rows, tmp_path / "run", *words)
    assert sorted(path.name for path in (run / "far").iterdir()) == ["step_00000050", "step_00000054"]
