"""A signal stops what can be stopped: at once before there is anything to save, between steps after."""

import signal
import subprocess
import sys
import time

import pytest

from tests import runs

PROGRAM = """
import sys, time
from c2al.parallel.signals import Stopped, stop_signal
stop_signal.listen()
stop_signal.graceful = {graceful}
say_up = lambda: print("up", flush=True)
{rest}
"""
POLITE = "say_up()\nwhile not stop_signal.received: time.sleep(0.01)\nprint(stop_signal.received, flush=True)\n"


def started(rest, *, graceful=False, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(graceful=graceful, rest=rest)],
        env=runs.environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def after(process, *signals, pause_s=0.0):
    """Exit status and output of a process that gets signals once it is up."""
    assert process.stdout.readline() == "up\n"
    for each in signals:
        process.send_signal(each)
        time.sleep(pause_s)
    said = process.communicate(timeout=runs.PATIENT_S)
    return process.returncode, *said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_before_the_first_step_the_process_leaves_at_once(number):
    """By an exception, so that what is open is closed."""
    rest = "try:\n    say_up()\n    time.sleep(3000)\nexcept Stopped as stopped:\n    print(stopped)\n    raise"
    status, out, _ = after(started(rest), number)
    assert (status, out) == (75, f"stopped by {number.name}\n")


def test_under_nohup_a_closed_terminal_stops_nothing():
    rest = "say_up()\ntime.sleep(0.5)\nprint(stop_signal.received, flush=True)"
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", PROGRAM.format(graceful=False, rest=rest)],
        env=runs.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status, out, _ = after(process, signal.SIGHUP)
    assert (status, out) == (0, "None\n")


def test_one_that_waits_outside_python_ends_too():
    """As in a rendezvous: the handler does not run until C++ comes back."""
    rest = (
        "import ctypes\nlibc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
        "libc.pthread_mutex_lock(mutex)\nimport threading\n"
        "threading.Timer(0.5, say_up).start()  # when the main thread is in the lock\nlibc.pthread_mutex_lock(mutex)"
    )
    status, _, error = after(started(rest), signal.SIGTERM)
    assert status == 75
    assert error == "c2al: stopped by SIGTERM\n"


def test_between_steps_the_program_looks_for_itself():
    status, out, _ = after(started(POLITE, graceful=True), signal.SIGUSR1)
    assert (status, out) == (0, "SIGUSR1\n")


def test_two_at_once_are_one_and_a_later_one_ends_it():
    rest = POLITE + "time.sleep(3000)"
    status, out, _ = after(started(POLITE + "time.sleep(0.5)", graceful=True), signal.SIGTERM, signal.SIGTERM)
    assert (status, out) == (0, "SIGTERM\n")
    status, out, error = after(started(rest, graceful=True), signal.SIGTERM, signal.SIGTERM, pause_s=3.2)
    assert (status, out) == (75, "SIGTERM\n")
    assert "second SIGTERM" in error


def test_the_death_of_the_parent_is_a_signal(tmp_path):
    """As of torchrun, or of a study: no run lives on as an orphan."""
    child = PROGRAM.format(graceful=True, rest=POLITE)
    parent = (
        f"import os, subprocess, sys, time\nos.environ['C2AL_WITH_PARENT'] = str(os.getpid())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=sys.stdout)\ntime.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        env=runs.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    process.kill()
    assert process.stdout.read() == f"the end of its parent (pid {process.pid})\n"
    process.wait()
