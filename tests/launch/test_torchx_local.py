"""``torchx run -s local_cwd c2al.train`` from a folder outside of the clone: a rank is killed, and the run goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import runs
from tests.faults import jobs

pytest.importorskip("torchx", reason="TorchX is in the extra [launch]")

TORCHX = ["torchx", "run", "-s", "local_cwd", "-cfg", "log_dir=outputs/torchx", "c2al.train"]


@pytest.mark.slow
def test_a_killed_rank_is_started_again_and_the_run_goes_on(tiny_rows, tmp_path):
    run = tmp_path / "outputs" / "mine"
    mark = f"torchx-{os.getpid()}-{time.time_ns()}"
    words = [*runs.SMALL, *jobs.TINY, f"data.path={tiny_rows}", "data.prepare=null", "name=mine"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (tmp_path / "said.txt").open("w+") as said:
        started = subprocess.Popen(
            [*TORCHX, "-j", "1x2", "--max_retries", "1", "--", *words, "method=c2al", *runs.PAIR],
            cwd=tmp_path,
            env=os.environ | {jobs.MARK: mark, "PATH": path},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            _until(lambda: jobs.step_of(run) >= 6, started)
            os.kill(_pid_of_rank(1, mark), signal.SIGKILL)
            status = started.wait(runs.PATIENT_S)
        finally:
            for pid in jobs.living(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        said.seek(0)
        text = said.read()
    assert status == 0, text
    assert [line["step"] for line in runs.metrics_of(run) if line["split"] == "train"] == list(range(1, 25))
    assert runs.report_of(run)["world_size"] == 2
    assert "outputs/mine/report.json" in text, "what rank 0 prints is seen"
    (of_ranks,) = (run / "launch").glob("c2al-train-*/c2al-train-*")
    attempts = sorted(str(path.relative_to(of_ranks)) for path in of_ranks.glob("*/*/stdout.log"))
    assert attempts == [f"attempt_{attempt}/{rank}/stdout.log" for attempt in (0, 1) for rank in (0, 1)]
    assert next((tmp_path / "outputs" / "torchx").glob("*/c2al-train-*/train/0/combined.log")).stat().st_size


def _until(holds, job: subprocess.Popen, timeout_s: float = 900) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert job.poll() is None, "the job has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _pid_of_rank(rank: int, mark: str) -> int:
    found = [pid for pid in jobs.living(mark) if jobs.environment_of(pid).get("RANK") == str(rank)]
    return min(found)
