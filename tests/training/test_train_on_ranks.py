"""The same program on two ranks: every row counted once, one folder, the same numbers again, one error for all."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests import runs
from tests.training.rows import changed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bad_rows(tiny_rows, tmp_path_factory):
    """One id out of range among the 4,800 training rows: one rank alone reads it."""
    folder = tmp_path_factory.mktemp("bad") / "rows"
    return changed(tiny_rows, folder, split="train", column="item", value=10**6, row=1500)


@pytest.fixture(scope="module")
def world(tiny_rows, bad_rows, tmp_path_factory):
    """The folder of ``ranks_world``'s runs."""
    out = tmp_path_factory.mktemp("world")
    words = ["-m", "tests.training.ranks_world", tiny_rows, bad_rows, str(out)]
    ended = runs.on_ranks(words)
    assert [status for status, _, _ in ended] == [0, 0], ended[0][2][-3000:] + ended[1][2][-3000:]
    return out


def test_every_row_is_evaluated_once(world):
    report = runs.report_of(world / "whole")
    assert report["world_size"] == 2
    assert report["rows"] == 24 * 64 * 2
    for split in ("validation", "test"):
        assert report["metrics"][split]["overall"]["rows"] == 600
        assert pq.read_table(world / "whole" / "scores" / f"{split}.parquet")["row"].to_pylist() == list(range(600))
    assert sorted(path.name for path in (world / "whole" / "logs").iterdir()) == ["rank_0.log", "rank_1.log"]


def test_two_ranks_train_as_one_does(world, tiny_rows, tmp_path):
    """Half the rows a rank, the same steps; only the order of rows differs."""
    one = runs.trained(tiny_rows, tmp_path / "run", "method=c2al", *runs.PAIR, "training.average=0.9")
    two = runs.report_of(world / "whole")
    for split in ("validation", "test"):
        ne = [report["metrics"][split]["overall"]["ne"] for report in (one, two)]
        assert ne[0] == pytest.approx(ne[1], abs=0.02)
    start = [runs.weights_of(run, 0) for run in (tmp_path / "run", world / "whole")]
    own = [name for name in start[0] if name.startswith(("interaction.", "heads."))]
    assert all((start[0][name] == start[1][name]).all() for name in own)


def test_resuming_on_two_ranks_is_the_same_to_the_bit(world):
    runs.assert_same_run(world / "whole", world / "cut")


def test_no_rank_writes_a_checkpoint_before_there_is_room_for_it(world):
    """Rank 0 removes what is left of another there: a folder made meanwhile ended the run ("Is a directory")."""
    found = [json.loads((world / f"rank_{rank}.json").read_text())["ahead"] for rank in (0, 1)]
    assert found == [["nothing", "", "False", "False", "False"], ["nothing", ""]]
    there = sorted(path.name for path in (world / "late" / "checkpoints").iterdir())
    assert there == ["step_00000016", "step_00000024"]


def test_the_pipelines_agree_on_two_ranks(world):
    runs.assert_same_run(world / "whole", world / "piped")


def test_plans_agree(world):
    """Up to the order of sums, which Adagrad's first steps enlarge; test_shard compares them closely."""
    whole = runs.report_of(world / "whole")["metrics"]["test"]["overall"]["log_loss"]
    for sharding in ("row_wise", "column_wise"):
        report = runs.report_of(world / sharding)
        assert {placement["sharding"] for placement in report["plan"]} == {sharding}
        assert report["metrics"]["test"]["overall"]["log_loss"] == pytest.approx(whole, abs=3e-4)


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(world):
    found = [json.loads((world / f"rank_{rank}.json").read_text())["non_finite"] for rank in (0, 1)]
    assert found[0] == found[1]
    assert "step 6: the loss of head 2 is not finite" in found[0][0]
    assert "rank_1.pt" in found[0][0], "the batch of the rank that saw it"
    assert found[0][1] == "True"
    assert not list((world / "broken" / "checkpoints").iterdir())


@pytest.mark.parametrize(("case", "part"), [("bad_row", "column item"), ("no_rows", "no prepared data there")])
def test_bad_input_on_one_rank_is_raised_on_both(world, case, part):
    found = [json.loads((world / f"rank_{rank}.json").read_text())[case] for rank in (0, 1)]
    assert found[0] == found[1]
    assert part in found[0][0]
    assert found[0][1] == "True"


def test_bad_input_gives_one_line_and_exit_status_2(bad_rows, tmp_path):
    words = runs.command(bad_rows, tmp_path / "run", "training.batch_size=64", "training.timeout_s=1500")[1:]
    ended = runs.on_ranks(words, timeout_s=1200)  # start-up, no time-out of a collective
    assert [status for status, _, _ in ended] == [2, 2]
    lines = [line for _, _, text in ended for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("c2al: ")
    for part in ("column item", "value 1000000", "part-00000.parquet", "row group"):
        assert part in lines[0]


def test_torchrun_makes_the_data_and_one_folder(tmp_path):
    """``torchrun --nproc-per-node 2 -m c2al train``, started where there is nothing yet."""
    words = [*runs.SMALL, "name=two", "training.batch_size=64", "training.steps=6", "data.prepare.rows=6000"]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "c2al", "train", *words],
        cwd=tmp_path,
        env=runs.environment(),
        capture_output=True,
        text=True,
        timeout=runs.PATIENT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("report.json") == 1, "rank 0 alone speaks"
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["data", "two"]
    assert runs.report_of(tmp_path / "outputs" / "two")["world_size"] == 2
    assert "Warning" not in ended.stderr
