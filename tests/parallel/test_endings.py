"""One line and a status for every way to end."""

import errno
import json
import subprocess
import sys

import pytest

from c2al.parallel.endings import RankLostError, failure, full_disk, leave, tell_torchrun
from c2al.schema import DataError
from tests import runs


def test_input_is_said_once(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = DataError("bad row", remedy="mend it")
    assert failure(error, rank=1) == (2, "[rank 1] bad row. Remedy: mend it")
    error.agreed = True
    assert failure(error, rank=1) == (2, "")
    assert failure(error, rank=0) == (2, "bad row. Remedy: mend it")
    error.found_by = 1
    assert failure(error, rank=0) == (2, "[rank 1] bad row. Remedy: mend it")


def test_a_lost_rank_is_said_by_one_survivor():
    assert failure(RankLostError("rank 1 was lost", speaks=True), rank=0) == (76, "rank 1 was lost")
    assert failure(RankLostError("rank 1 was lost", speaks=False), rank=2) == (76, "")


def test_a_fault_of_the_program_names_its_log(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = RuntimeError("no such shape\nand more")
    error.add_note("traceback in run/logs/rank_1.log")
    said = "[rank 1] RuntimeError: no such shape (traceback in run/logs/rank_1.log)"
    assert failure(error, rank=1) == (1, said)


def test_a_full_disk_is_no_fault_of_the_program():
    found = full_disk(OSError(errno.ENOSPC, "No space left on device", "run/metrics.jsonl"))
    assert "No space left on device" in str(found)
    assert "run/metrics.jsonl" in str(found)
    assert full_disk(FileNotFoundError("x")) is None


def test_alone_it_is_an_ordinary_exit(capsys):
    with pytest.raises(SystemExit) as ended:
        leave(75, "stopped", alone=True)
    assert ended.value.code == 75
    assert capsys.readouterr().err == "c2al: stopped\n"


def test_among_many_it_waits_for_nobody(tmp_path):
    """Not for threads either; torchrun finds its file."""
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(3000,)).start()\n"
        "from c2al.parallel.endings import leave; leave(76, 'rank 1 was lost', alone=False)"
    )
    file = tmp_path / "error.json"
    words = [sys.executable, "-c", code]
    environment = runs.environment(TORCHELASTIC_ERROR_FILE=str(file))
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=runs.PATIENT_S, check=False)
    assert (ended.returncode, ended.stderr) == (76, "c2al: rank 1 was lost\n")
    assert json.loads(file.read_text())["message"]["message"] == "rank 1 was lost"


def test_without_torchrun_there_is_no_file(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    tell_torchrun(1, "x")


def test_a_program_ends_with_its_threads_and_what_it_has_to_do_at_its_end():
    program = (
        "import atexit, threading\nfrom c2al.parallel.endings import end_program\n"
        "gate = threading.Event()\natexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (gate.wait(), print('thread'))).start()\n"
        "threading.Timer(0.2, gate.set).start()\nend_program(7)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=900)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (7, ["thread", "at exit"], "")
