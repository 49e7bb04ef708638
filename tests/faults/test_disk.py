"""The disk is full: one line that says so, exit status 2; with room again it goes on to the same end."""

import os
import re
import subprocess

import pytest

from tests import runs
from tests.faults.jobs import PROMPT_S, Job, half_written, logs_of

pytestmark = pytest.mark.full
MIB = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 32 MiB, that is the run folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    if os.geteuid():
        pytest.skip("a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MIB))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(64))
        except OSError:
            return


def test_a_full_disk(tiny_rows, undisturbed, small_disk):
    with Job(tiny_rows, small_disk) as job:
        job.until_step(6)
        fill(small_disk)
        status, _ = job.ended(PROMPT_S)
        assert status == 1
        first = job.lines()[0]
        assert "No space left on device" in first, job.said
        assert str(small_disk) in first
        assert "Remedy: free disk space, then go on with resume=true" in first
        assert re.search(r"exitcode *: 2 |exitcode: 2\)", job.said), job.said
    assert logs_of(small_disk) == ["rank_0.log", "rank_1.log"]
    (small_disk / "ballast").unlink()
    with Job(tiny_rows, small_disk, "resume=true") as again:
        assert again.wait() == 0, again.said
    runs.assert_same_run(undisturbed, small_disk)
    assert half_written(small_disk) == []
