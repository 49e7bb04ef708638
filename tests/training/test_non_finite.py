"""A step that is not finite, in whole runs; on two ranks in ``test_train_on_ranks.py``."""

import pytest
import torch

from c2al.model import Objective
from c2al.schema import DataError
from tests import runs

C2AL = ("method=c2al", *runs.PAIR)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_rows, tmp_path, monkeypatch):
    """With the step, the head, the batch saved, and no checkpoint of it."""

    forward, calls = Objective.forward, []

    def broken(self, logits_BH, label_B, weight_B, cohort_BA, z_BE):
        if self.training:
            calls.append(1)
            if len(calls) == 11:
                logits_BH = logits_BH * torch.tensor([1.0, float("nan"), 1.0])
        return forward(self, logits_BH, label_B, weight_B, cohort_BA, z_BE)

    monkeypatch.setattr(Objective, "forward", broken)
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"step 11: the loss of head 1 is not finite") as raised:
        runs.trained(tiny_rows, run, *C2AL)
    saved = torch.load(raised.value.where["file"], weights_only=False)
    assert saved["step"] == 11
    assert len(saved["batch"]) == 128
    assert saved["losses_H"].isnan().tolist() == [False, True, False]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000008"]
    assert not (run / "report.json").exists()
    assert "not finite" in (run / "logs" / "rank_0.log").read_text()
    monkeypatch.undo()
    report = runs.trained(tiny_rows, run, *C2AL, "resume=true")
    assert report["rows"] == 24 * 128


def test_a_batch_that_was_saved_is_the_one_at_fault(tiny_rows, tmp_path):
    with pytest.raises(DataError, match="is not finite") as raised:
        runs.trained(tiny_rows, tmp_path / "run", "training.sparse.learning_rate=1e30", "training.sparse.optimizer=sgd")
    saved = torch.load(raised.value.where["file"], weights_only=False)
    assert f"step {saved['step']}:" in str(raised.value)
    assert saved["batch"] is not None
