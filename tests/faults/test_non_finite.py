"""A batch whose loss is not finite: every rank stops in the same step, and the batch is kept to be looked at."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests import runs
from tests.faults.jobs import PROMPT_S, Job, logs_of
from tests.training.rows import changed

pytestmark = pytest.mark.full


def test_one_row(tiny_rows, undisturbed, tmp_path):
    """The largest 32-bit number in one dense value, which overflows in the first product."""
    rows = changed(tiny_rows, tmp_path / "rows", split="train", column="price", value=3.4e38, row=1500)
    run = tmp_path / "run"
    with Job(rows, run) as job:
        job.until(job.lines)
        status, _ = job.ended(PROMPT_S)
        assert status == 1
        (line,) = job.lines()
        found = re.match(
            r"c2al: step (\d+): the (loss of head 0|gradient) is not finite .*file (\S+_rank_[01]\.pt)", line
        )
        assert found, line
        assert len(re.findall(r"exitcode *: 2 ", job.said)) >= 1
    kept = torch.load(found[3], weights_only=False)
    assert kept["step"] == int(found[1])
    assert logs_of(run) == ["rank_0.log", "rank_1.log"]
    for good in Path(tiny_rows, "train").glob("*.parquet"):
        shutil.copy(good, Path(rows, "train", good.name))
    with Job(rows, run, "resume=true") as again:
        assert again.wait() == 0, again.said
    runs.assert_same_run(undisturbed, run)
