"""A run of sasrec on two ranks is that of one; saved under one plan, it goes on under another on other ranks."""

import numpy as np
import pytest

from c2al.training.evaluate_run import evaluate_run
from tests import runs

pytestmark = pytest.mark.slow
ALL_ROWS = 4800  # in every step: then batches do not hang on the number of ranks
LONG = (
    *("model=sasrec", "method=c2al", *runs.PAIR, "training.warmup=0", "training.decay=constant"),
    *("training.log_every=1", "training.evaluations=0", "training.snapshots=1", "training.final_splits=[test]"),
    *("training.threads=1", "training.window_rows=4800", "training.sparse.learning_rate=0.2", "progress=false"),
)


def words(rows, folder, *own: str) -> list[str]:
    return [f"data.path={rows}", "data.prepare=null", f"run_dir={folder}", *LONG, *own]


def losses(folder) -> list[list[float]]:
    return [line["losses"] for line in runs.metrics_of(folder) if line["split"] == "train"]


@pytest.fixture(scope="module")
def alone(tiny_rows, tmp_path_factory):
    """Six steps of one rank, table-wise."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    from c2al.cli import compose
    from c2al.training.train import train

    train(compose("config", words(tiny_rows, folder, f"training.batch_size={ALL_ROWS}", "training.steps=6")))
    return folder


@pytest.mark.parametrize(("plan", "then"), [("row_wise", "column_wise"), ("table_wise", "row_wise")])
def test_two_ranks_then_one_are_one(plan, then, alone, tiny_rows, tmp_path):
    """Three steps on two ranks, three more on one under another plan, with the pipeline that sends ids ahead."""
    folder = tmp_path / "run"
    own = [f"training.batch_size={ALL_ROWS // 2}", "training.steps=3", f"parallel={plan}"]
    ended = runs.on_ranks(["-m", "c2al", "train", *words(tiny_rows, folder, *own)])
    assert [status for status, _, _ in ended] == [0, 0], ended
    own = [f"training.batch_size={ALL_ROWS}", "training.steps=6", f"parallel={then}", "parallel.pipeline=sparse_dist"]
    ended = runs.on_ranks(["-m", "c2al", "train", *words(tiny_rows, folder, *own, "resume=true")], world_size=1)
    assert [status for status, _, _ in ended] == [0], ended
    np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-3)
    assert len(losses(folder)) == 6
    one, other = (runs.report_of(each)["metrics"]["test"]["overall"] for each in (alone, folder))
    assert other == pytest.approx(one, rel=1e-2)


def test_evaluated_under_other_plans(alone):
    wanted = runs.report_of(alone)["metrics"]["test"]["overall"]
    for sharding in ("row_wise", "column_wise"):
        found = evaluate_run(str(alone), split="test", step=None, axes=[], sharding=sharding)["overall"]
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_checkpoint_names_the_sequences_table_as_any_other(alone):
    from torch.distributed.checkpoint import FileSystemReader

    kept = next((alone / "checkpoints").iterdir())
    names = FileSystemReader(str(kept)).read_metadata().state_dict_metadata
    assert {name for name in names if "recent_categories" in name} == {
        "tables.recent_categories.weight",
        "tables.recent_categories.moment",
    }


def test_snapshots_hold_the_attention(alone):
    start, end = runs.weights_of(alone, 0), runs.weights_of(alone, 6)
    shapes = {name: array.shape for name, array in start.items() if name.startswith("activation.")}
    assert shapes == {
        "activation.interaction.blocks.0.self_attention.attention": (256, 2, 8, 8),
        "activation.interaction.blocks.1.self_attention.attention": (256, 2, 8, 8),
        "activation.interaction.target_attention.attention": (256, 2, 1, 8),
    }
    assert not any(np.array_equal(start[name], end[name]) for name in shapes)
