"""A process ends with its parent: also one that is stuck, and one whose parent died first."""

import os
import signal
import subprocess
import sys

import pytest

from c2al.parallel import parent
from tests import runs

STUCK = (
    "import os, signal, sys\nfrom c2al.parallel.parent import end_with\n"
    "print('ready', end_with(os.getppid(), signal.SIGKILL), os.getpid(), flush=True)\n"
    "signal.sigwait([signal.SIGUSR2])"
)

JOB = (
    "import signal, sys\nfrom c2al.sweep import Job\nready = sys.stdout\n"
    "def stuck():\n    print('ready True 0', file=ready, flush=True)\n    signal.sigwait([signal.SIGUSR2])\n"
    "Job(0, 'seed=0', '').run(stuck, sweep=sys.argv[1], blame=lambda error: None, apart=True)"
)


@pytest.mark.parametrize("program", [STUCK, JOB], ids=["a process", "a job of a sweep"])
def test_the_kernel_ends_a_stuck_process_with_its_parent(program, tmp_path):
    starts = (
        "import signal, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {program!r}, {str(tmp_path)!r}], stdout=sys.stdout)\n"
        "signal.sigwait([signal.SIGUSR2])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starts], env=runs.environment(), stdout=subprocess.PIPE, text=True
    )
    ready, there, _ = process.stdout.readline().split()
    assert (ready, there) == ("ready", "True")
    process.kill()
    assert process.stdout.read() == "", "the pipe closes when the last of both is gone"
    process.wait()


def test_a_parent_that_died_first_is_noticed():
    assert not parent.end_with(2**22 + 1, signal.SIGCONT)
    assert parent.end_with(os.getppid(), signal.SIGCONT)


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, None),
        ({"C2AL_WITH_PARENT": "no number"}, None),
        ({"C2AL_WITH_PARENT": str(2**22 + 1)}, 2**22 + 1),  # dead: above the greatest pid
        ({"C2AL_WITH_PARENT": str(os.getpid())}, os.getppid()),  # a shell between
        ({"TORCHELASTIC_RUN_ID": "none"}, os.getppid()),
        ({"TORCHELASTIC_RUN_ID": "none", "C2AL_WITH_PARENT": str(2**22 + 1)}, os.getppid()),
    ],
)
def test_the_parent_to_end_with(monkeypatch, own, found):
    for name in ("C2AL_WITH_PARENT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert parent.expected() == found


def test_a_torchrun_that_died_first_is_noticed(monkeypatch):
    """Its orphans are those of the first process, which is no Python program."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(parent, "_may_be_torchrun", lambda pid: False)
    assert parent.expected() == 0
