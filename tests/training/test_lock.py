"""One writer a folder; a job started again is known."""

import errno
import json
import os
import subprocess
import sys

import pytest

from c2al import folder_lock
from c2al.schema import DataError
from c2al.training import lock
from c2al.training.lock import FolderLock, goes_on, job, restarted
from tests import runs

HOLD = """
import sys, pathlib
from c2al.training.lock import FolderLock
held = FolderLock(pathlib.Path(sys.argv[1])); held.take(); held.write()
print("held", flush=True); sys.stdin.read()
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, env=runs.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(DataError, match=f"another run writes into this folder.*process {holder.pid} on"):
            FolderLock(tmp_path).take(wait_s=0.3)
        holder.kill()
        holder.wait()
        mine = FolderLock(tmp_path)
        mine.take(wait_s=5)  # the system gives back what the dead held
        assert mine.read()["pid"] == holder.pid
        mine.write(clearing=True)
        assert (mine.read()["pid"], mine.read()["clearing"]) == (os.getpid(), True)
        mine.release()


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    FolderLock(tmp_path).take(wait_s=0)
    assert "cannot be locked" in caplog.text


def test_what_is_cut_short_is_nobodys(tmp_path):
    (tmp_path / lock.NAME).write_text(json.dumps({"pid": 1})[:5])
    assert FolderLock(tmp_path).read() == {}


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_job_that_is_started_again(monkeypatch, name):
    for each in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(each, raising=False)
    assert not restarted()
    monkeypatch.setenv(name, "0")
    assert not restarted()
    monkeypatch.setenv(name, "2")
    assert restarted()


def test_a_job_keeps_its_name(monkeypatch):
    for each in ("C2AL_JOB", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(each, raising=False)
    assert job() == job()
    assert str(os.getppid()) in job()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert str(os.getppid()) in job()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "abc")
    assert job() == "torchrun abc"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert job() == "slurm 17"
    monkeypatch.setenv("C2AL_JOB", "c2al-train-x7")
    assert job() == "job c2al-train-x7"


def test_a_job_that_its_launcher_named_goes_on_without_being_told_that_it_was_restarted(monkeypatch):
    for each in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT", "SLURM_JOB_ID", "C2AL_JOB"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert not goes_on({"job": job()}), "a user's own rdzv-id may be that of two jobs"
    monkeypatch.setenv("C2AL_JOB", "c2al-train-x7")
    assert goes_on({"job": "job c2al-train-x7"})
    assert not goes_on({"job": "job c2al-train-y8"})
    assert not goes_on({})


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000, '"a"'])
def test_a_lock_that_is_none(tmp_path, text):
    (tmp_path / lock.NAME).write_text(text)
    assert FolderLock(tmp_path).read() == {}


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("keep")
    (tmp_path / lock.NAME).symlink_to("mine")
    with pytest.raises(OSError, match="symbolic links"):
        FolderLock(tmp_path).take()
    assert (tmp_path / "mine").read_text() == "keep"
