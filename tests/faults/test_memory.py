"""A rank whose memory runs out ends, says so, and the job ends with it."""

import re
import resource
from pathlib import Path

import pytest

from tests.faults.jobs import PROMPT_S, Job

pytestmark = pytest.mark.slow
LINE = re.compile(
    r"c2al: \[rank 1\] memory ran out during [a-z ]+\d+ \(value .+\)\. Remedy: give the process more memory"
)


def test_one_rank_of_two_out_of_memory_ends_the_job(tiny_rows, tmp_path):
    """Its address space is full: no thread can be started and no tensor allocated any more."""
    with Job(tiny_rows, tmp_path / "run", "training.steps=5000", "training.checkpoint_every=4") as job:
        job.until_step(3)
        pid = job.workers()[1]
        held = int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
        resource.prlimit(pid, resource.RLIMIT_AS, (held, held))
        status, _ = job.ended(PROMPT_S)
    assert status == 1
    assert len(job.lines()) == 1, job.said
    (line,) = job.lines()
    assert LINE.match(line), line
    assert re.search(r"exitcode\s+: 2 ", job.said), job.said
    assert re.search(r"exitcode\s+: 76 ", job.said), "the other rank was lost by it"
