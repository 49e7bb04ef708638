"""Epochs and steps with a pipeline and a reader that only count."""

import pytest

from c2al.data.order import Leg
from c2al.training.loop import Fed, Loop, Progress


class Reader:
    """Batches are (epoch, step) pairs; says whether its generators were closed."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.opened = self.closed = 0

    def steps(self, epoch, legs):
        return self.steps_per_epoch

    def rows_left(self, epoch, legs):
        return self.steps_per_epoch * 16 - 3  # the last batch has three fillers

    def batches(self, epoch, start_step, legs):
        self.opened += 1
        try:
            for step in range(start_step, self.steps_per_epoch):
                yield (epoch, step)
        finally:
            self.closed += 1


class Pipeline:
    """Draws a batch ahead, as the real ones do; gives back the batch as losses, and eight logits."""

    def __init__(self) -> None:
        self.ahead = None

    def reset(self):
        self.ahead = None

    def progress(self, batches):
        if self.ahead is None:
            self.ahead = next(batches)
        now, self.ahead = self.ahead, next(batches, "none")
        return now, range(8)


def loop(progress, *, steps_per_epoch=5, num_steps=12, world_size=2):
    reader = Reader(steps_per_epoch)
    return Loop(Pipeline(), reader, progress, num_steps=num_steps, world_size=world_size), reader


def test_epochs_until_all_steps_are_done():
    progress = Progress()
    steps, reader = loop(progress)
    seen = [batch for batch, _ in steps]
    assert seen == [(epoch, step) for epoch in range(3) for step in range(5)][:12]
    assert (progress.step, progress.epoch, progress.step_in_epoch, progress.rows) == (12, 2, 2, 12 * 8 * 2 - 2 * 3)
    assert reader.opened == reader.closed == 3


@pytest.mark.parametrize("done", range(13))
def test_going_on_from_any_step_gives_the_rest(done):
    progress = Progress(step=done, epoch=done // 5, step_in_epoch=done % 5)
    steps, _ = loop(progress)
    assert [batch for batch, _ in steps] == [(epoch, step) for epoch in range(3) for step in range(5)][done:12]


def test_progress_has_moved_past_the_step_when_it_is_yielded():
    progress = Progress()
    steps, _ = loop(progress)
    for number, _ in enumerate(steps, start=1):
        assert progress.step == number
        assert (progress.epoch, progress.step_in_epoch) == divmod(number, 5)


def test_a_loop_left_early_closes_its_reader():
    steps, reader = loop(Progress())
    under_way = iter(steps)
    next(under_way)
    under_way.close()
    assert reader.closed == 1


def test_steps_are_remembered_for_the_report_of_a_failure():
    """A pipeline draws ahead; the batch of a step is found all the same."""
    fed = Fed(iter("abcdefgh"), first_step=5)
    for _ in range(6):
        next(fed)
    assert fed.of_step(10) == "f"
    assert fed.of_step(7) == "c"
    assert fed.of_step(6) is None, "too long ago"
    assert fed.of_step(11) is None, "not drawn yet"


def test_a_new_epoch_is_of_one_leg():
    progress = Progress(legs=[[4, 8, 64, 1]], step_in_epoch=4, batch_size=8)
    assert progress.past_legs() == [Leg(4, 8, 64, 1)]
    steps, _ = loop(progress, num_steps=2)
    assert len(list(steps)) == 2
    assert (progress.epoch, progress.step_in_epoch, progress.legs) == (1, 1, [])


def test_progress_round_trip():
    progress = Progress(step=3, best_ne=0.5, losses_since=[[[1.0, 2.0]]], world_size=4, legs=[[2, 8, 64, 5]])
    assert Progress(**progress.as_dict()) == progress
