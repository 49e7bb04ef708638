"""A rank whose memory runs out ends, says so, and the job ends with it."""

import json
import re

import pytest

from tests.faults.jobs import FAULTY, PROMPT_S, Job

pytestmark = pytest.mark.slow
LINE = re.compile(
    r"c2al: \[rank 1\] memory ran out during [a-z ]+\d+ \(value .+\)\. Remedy: give the process more memory"
)


def test_one_rank_of_two_out_of_memory_ends_the_job(tiny_rows, tmp_path):
    fault = json.dumps({"where": "memory", "rank": 1, "step": 6})
    with Job(tiny_rows, tmp_path / "run", program=FAULTY, FAULT=fault) as job:
        status, _ = job.ended(PROMPT_S)
    assert status == 1
    assert len(job.lines()) == 1, job.said
    (line,) = job.lines()
    assert LINE.match(line), line
    assert re.search(r"exitcode\s+: 2 ", job.said), job.said
    assert re.search(r"exitcode\s+: 76 ", job.said), "the other rank was lost by it"
