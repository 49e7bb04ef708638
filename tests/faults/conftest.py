"""The run to which every disturbed one is compared."""

from pathlib import Path

import pytest

from tests.faults.jobs import Job


@pytest.fixture(scope="session")
def undisturbed(tiny_rows, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with Job(tiny_rows, run) as job:
        assert job.wait() == 0, job.said
        assert job.lines() == []
    return run
