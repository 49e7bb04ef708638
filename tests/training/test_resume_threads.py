"""A run that goes on computes with as many threads as before, unless another number is asked for, or is too many."""

from types import SimpleNamespace

import pytest
import torch

from c2al.parallel.threads import Threads
from c2al.training import train
from c2al.training.loop import Progress


@pytest.fixture
def going_on(monkeypatch, capsys):
    """What a run of ``before`` threads goes on with, where ``now`` was chosen; and what is said."""
    before_all = torch.get_num_threads()
    monkeypatch.setattr(train, "usable_cores", lambda: 4)

    def go_on(before: int, now: Threads, ranks_here: int = 1) -> tuple[int, int, str]:
        run = SimpleNamespace(threads=now, ranks=SimpleNamespace(local_world_size=ranks_here, is_first=True))
        progress = Progress(threads=before)
        train.Training._keep_threads(run, progress)
        assert progress.threads == run.threads.number
        return run.threads.number, torch.get_num_threads(), capsys.readouterr().err

    yield go_on
    torch.set_num_threads(before_all)


def test_the_number_of_before_is_kept(going_on):
    number, of_torch, said = going_on(3, Threads(2, "2 usable cores"))
    assert (number, of_torch, said) == (3, 3, "")


def test_more_than_there_are_cores_is_not(going_on):
    number, _, said = going_on(8, Threads(4, "4 usable cores"))
    assert number == 4
    assert "going on with 4 threads (4 usable cores), before with 8: sums may differ in their last bits" in said
    number, _, said = going_on(4, Threads(2, "4 usable cores for 2 ranks"), ranks_here=2)
    assert number == 2


def test_what_is_asked_for_wins_and_is_said(going_on):
    number, _, said = going_on(3, Threads(1, "training.threads"))
    assert number == 1
    assert "before with 3" in said


def test_an_older_checkpoint_does_not_know(going_on):
    number, _, said = going_on(0, Threads(2, "2 usable cores"))
    assert (number, said) == (2, "")
