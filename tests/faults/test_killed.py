"""A rank, torchrun or a whole node is killed, a rank frozen: the rest ends and says why; the run goes on as before."""

import os
import re
import signal
import time

import pytest

from tests import runs
from tests.faults.jobs import CUT_SHORT, LEFT_S, PROMPT_S, Job, half_written, logs_of

pytestmark = pytest.mark.full
LOGS = ["rank_0.log", "rank_1.log"]


def goes_on(rows, run, undisturbed):
    with Job(rows, run, "resume=true") as again:
        assert again.wait() == 0, again.said
        assert all(CUT_SHORT in line for line in again.lines()), again.said
    runs.assert_same_run(undisturbed, run)
    assert half_written(run) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank(tiny_rows, undisturbed, tmp_path, rank):
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until_step(6)
        pid = job.workers()[rank]
        os.kill(pid, signal.SIGKILL)
        status, _ = job.ended(PROMPT_S)
        assert status == 1, "torchrun's own"
        assert re.search(rf"exitcode *: 76 .*\n.*|exitcode: 76\) local_rank: {1 - rank} ", job.said), job.said
        (line,) = job.lines()
        assert re.match(rf"c2al: rank {rank} \(pid {pid} on \S+\) was lost during \S.* killed by SIGKILL", line)
        assert line.endswith("; go on with resume=true")
    assert logs_of(tmp_path / "run") == LOGS
    assert f"rank {rank} (pid {pid}" in (tmp_path / "run" / "logs" / f"rank_{1 - rank}.log").read_text()
    goes_on(tiny_rows, tmp_path / "run", undisturbed)


def test_torchrun(tiny_rows, undisturbed, tmp_path):
    """Its ranks save, so that nothing is lost, and live no longer than it."""
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until_step(6)
        job.agent.kill()
        job.ended(PROMPT_S)
        (line,) = job.lines()
        said = rf"c2al: stopped by the end of its parent \(pid {job.agent.pid}\) after step (\d+), checkpoint saved; "
        found = re.match(said, line)
        assert found, line
    assert (tmp_path / "run" / "checkpoints" / f"step_{int(found[1]):08d}").is_dir()
    assert logs_of(tmp_path / "run") == LOGS
    goes_on(tiny_rows, tmp_path / "run", undisturbed)


def test_a_node(tiny_rows, undisturbed, tmp_path):
    """Nobody is left to say anything."""
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until_step(6)
        job.end()
        assert job.lines() == []
    assert logs_of(tmp_path / "run") == LOGS
    goes_on(tiny_rows, tmp_path / "run", undisturbed)


def test_a_frozen_rank_is_waited_for_until_the_time_out(tiny_rows, tmp_path):
    with Job(tiny_rows, tmp_path / "run", "training.timeout_s=40") as job:
        job.until_step(6)
        ranks = job.workers()
        os.kill(ranks[1], signal.SIGSTOP)
        frozen = time.monotonic()
        job.until(job.lines, timeout_s=40 + LEFT_S)
        (line,) = job.lines()
        assert re.match(rf"c2al: rank 1 \(pid {ranks[1]} on \S+\) did not answer during \S", line), line
        job.until(lambda: ranks[0] not in job.processes(), timeout_s=frozen + 40 + LEFT_S - time.monotonic())
        job.ended(PROMPT_S)  # torchrun gives the frozen one 30 s to hear its SIGTERM


def test_a_rank_that_is_killed_before_it_has_met_the_others(tiny_rows, tmp_path):
    with Job(tiny_rows, tmp_path / "run") as job:
        job.until(lambda: len(job.workers()) == 2)
        os.kill(job.workers()[1], signal.SIGKILL)
        status, _ = job.ended(PROMPT_S)
        assert status == 1
        assert re.search(r"exitcode *: -9", job.said), "it has told nobody of itself yet: torchrun names it"
