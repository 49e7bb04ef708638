"""One rank raises: it speaks for itself, with its number and cause; the other ends with it, and both have logs."""

import json
import re

import pytest

from tests.faults.faulty import WORDS
from tests.faults.jobs import FAULTY, PROMPT_S, Job, logs_of

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("where", "cause", "status"),
    [
        pytest.param("planning", f"ValueError: {WORDS} (traceback in", 1),
        pytest.param("reading", f"row group does not read: [Errno 5] Input/output error, {WORDS} (file", 2),
        pytest.param("loss", f"ValueError: {WORDS} (traceback in", 1),
    ],
)
def test_a_rank_that_raises(tiny_rows, tmp_path, where, cause, status):
    fault = json.dumps({"where": where, "rank": 1})
    run = tmp_path / "run"
    with Job(tiny_rows, run, program=FAULTY, FAULT=fault) as job:
        job.until(job.lines)
        job.ended(PROMPT_S)
        (line,) = job.lines()
        assert line.startswith(f"c2al: [rank 1] {cause}"), job.said
        assert re.search(rf"exitcode *: {status} |exitcode: {status}\)", job.said)
    assert logs_of(run) == ["rank_0.log", "rank_1.log"]
    logs = [(run / "logs" / f"rank_{rank}.log").read_text() for rank in (0, 1)]
    assert "Traceback" in logs[1]
    assert WORDS in logs[0], "it knows why it ends"
