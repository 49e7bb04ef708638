"""Two hosts: a cut cable, then a dead host. All end in time, the first line names who and why, the run goes on."""

import re

import pytest

from tests import runs
from tests.faults.hosts import Pair, two_faults
from tests.faults.jobs import CUT_SHORT, half_written, logs_of
from tests.faults.netns import Hosts, missing


@pytest.fixture
def hosts():
    if why := missing():
        pytest.skip(why)
    with Hosts() as made:
        yield made


@pytest.mark.slow
def test_a_run_over_two_hosts(hosts, tiny_rows, undisturbed, tmp_path):
    pair = Pair(hosts, tiny_rows, tmp_path / "run", timeout_s=40, tiny=True)
    cut, died = two_faults(pair, 6, 14, print)
    assert len(cut) == 2, "both sides speak"
    assert re.match(r"c2al: rank 1 \(pid \d+ on host-1\) (did not answer|was lost) during \S", cut[0])
    other = r"c2al: rank 0('s host host-0 \(10\.77\.0\.1\) does not answer| \(pid \d+ on host-0\) was lost) during \S"
    assert re.match(other, cut[1])
    assert re.match(r"c2al: rank 1 \(pid \d+ on host-1\) (did not answer|was lost) during \S", died[0])
    runs.assert_same_run(undisturbed, tmp_path / "run")
    assert logs_of(tmp_path / "run") == ["rank_0.log", "rank_1.log"]
    assert half_written(tmp_path / "run") == []


@pytest.mark.full
def test_a_host_that_comes_back(hosts, tiny_rows, undisturbed, tmp_path):
    """torchrun on the other host waits for it, and the job goes on by itself."""
    pair = Pair(hosts, tiny_rows, tmp_path / "run", timeout_s=60, tiny=True)
    try:
        pair.start(pace_s=0.1, max_restarts=2)
        pair.until_step(9)
        pair.jobs[1].end()
        pair.jobs[1] = pair.start_on(1, max_restarts=2)
        pair.finish()
        lost, *going_on = pair.jobs[0].lines()
    finally:
        pair.end()
    assert re.match(r"c2al: rank 1 \(pid \d+ on host-1\) was lost during \S", lost)
    assert all(CUT_SHORT in line for line in going_on), going_on
    runs.assert_same_run(undisturbed, tmp_path / "run")
