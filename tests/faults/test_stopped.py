"""Signals: all ranks save after the same step and leave with exit status 75; before the first step they just leave."""

import os
import re
import signal

import pytest

from tests import runs
from tests.faults.jobs import PROMPT_S, Job, half_written, logs_of


def stopped(job: Job, name: str) -> int:
    """The step after which all ranks left."""
    (line,) = job.lines()
    found = re.fullmatch(rf"c2al: stopped by {name} after step (\d+), checkpoint saved; resume=true goes on", line)
    assert found, line
    assert (job.run / "checkpoints" / f"step_{int(found[1]):08d}").is_dir()
    assert logs_of(job.run) == ["rank_0.log", "rank_1.log"]
    assert half_written(job.run) == []
    return int(found[1])


def goes_on(rows, run, undisturbed):
    with Job(rows, run, "resume=true") as again:
        assert again.wait() == 0, again.said
    runs.assert_same_run(undisturbed, run)


@pytest.mark.slow
def test_sigterm_to_torchrun(tiny_rows, undisturbed, tmp_path):
    """What a scheduler sends."""
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until_step(6)
        job.agent.send_signal(signal.SIGTERM)
        status, _ = job.ended(PROMPT_S)
        assert status == 1, "torchrun's own"
        assert stopped(job, "SIGTERM") >= 6
    goes_on(tiny_rows, tmp_path / "run", undisturbed)


@pytest.mark.full
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_to_one_rank(tiny_rows, undisturbed, tmp_path, name):
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until_step(6)
        os.kill(job.workers()[1], signal.Signals[name])
        status, _ = job.ended(PROMPT_S)
        assert status == 1
        assert len(re.findall(r"exitcode *: 75", job.said)) >= 1, job.said
        stopped(job, name)
    goes_on(tiny_rows, tmp_path / "run", undisturbed)


@pytest.mark.full
def test_before_the_first_step(tiny_rows, tmp_path):
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until(lambda: len(job.workers()) == 2)
        job.agent.send_signal(signal.SIGTERM)
        job.ended(PROMPT_S)
        said = ("c2al: stopped by SIGTERM", "c2al: stopped by the end of its parent")  # which may not listen yet
        assert all(line.startswith(said) for line in job.lines()), job.said
    assert not list((tmp_path / "run").glob("checkpoints/step_*"))
