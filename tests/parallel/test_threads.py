"""The number of threads follows from what the process may use, and they do not spin."""

import os
import subprocess
import sys

import pytest
import torch

from c2al.parallel import threads
from c2al.parallel.threads import Threads, cpu_quota
from c2al.schema import DataError
from tests import runs


def written(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(("text", "found"), [("200000 100000\n", 2.0), ("150000 100000", 1.5), ("max 100000", None)])
def test_the_quota_of_cgroup_2(tmp_path, text, found):
    written(tmp_path / "groups" / "a" / "b", cpu__max=text)
    (tmp_path / "own").write_text("0::/a/b\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == found


def test_the_least_quota_above_counts(tmp_path):
    written(tmp_path / "groups" / "a", cpu__max="100000 100000")
    written(tmp_path / "groups" / "a" / "b", cpu__max="400000 100000")
    (tmp_path / "own").write_text("0::/a/b\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == 1.0


def test_the_path_of_the_host_is_not_seen_in_a_container(tmp_path):
    written(tmp_path / "groups", cpu__max="300000 100000")
    for path in ("/kubepods/pod1/c2", "/../../pod1", "/"):
        (tmp_path / "own").write_text(f"0::{path}\n")
        assert cpu_quota(tmp_path / "groups", tmp_path / "own") == 3.0


@pytest.mark.parametrize(("quota", "found"), [("150000", 1.5), ("-1", None)])
def test_the_quota_of_cgroup_1(tmp_path, quota, found):
    written(tmp_path / "groups" / "cpu,cpuacct" / "job", **{"cpu__cfs_quota_us": quota, "cpu__cfs_period_us": "100000"})
    (tmp_path / "own").write_text("7:memory:/job\n4:cpu,cpuacct:/job\n0::/\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == found


def test_no_cgroup_is_no_limit(tmp_path):
    assert cpu_quota(tmp_path, tmp_path / "nothing") is None
    (tmp_path / "own").write_text("nonsense\n0::/a\n")
    written(tmp_path / "a", cpu__max="a b c")
    assert cpu_quota(tmp_path, tmp_path / "own") is None


@pytest.mark.parametrize(
    ("cores", "quota", "usable"), [({0, 1, 2, 3}, None, 4), ({0, 1, 2, 3}, 2.9, 2), ({5}, 8.0, 1), ({0, 1}, 0.2, 1)]
)
def test_usable_cores(monkeypatch, cores, quota, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert threads.usable_cores() == usable


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield monkeypatch
    torch.set_num_threads(before)


def test_nothing_asked_for_is_the_share_of_the_cores(four_threads):
    four_threads.setattr(threads, "usable_cores", lambda: 4)
    assert threads.use(None, ranks_here=2) == Threads(2, "4 usable cores for 2 ranks")
    assert torch.get_num_threads() == 2
    four_threads.setattr(threads, "usable_cores", lambda: 1)
    assert threads.use(None, ranks_here=2) == Threads(1, "1 usable core for 2 ranks")
    assert str(threads.use(None)) == "1 thread (1 usable core)"


def test_what_is_asked_for_wins(four_threads):
    four_threads.setattr(threads, "usable_cores", lambda: 2)
    assert threads.use(3) == Threads(3, "training.threads")
    assert torch.get_num_threads() == 3
    four_threads.setenv("OMP_NUM_THREADS", "3")
    assert threads.use(None).number == 3
    assert "OMP_NUM_THREADS" in threads.use(None).why


def test_what_a_program_has_set_stays(four_threads):
    torch.set_num_threads(1)
    four_threads.setattr(threads, "usable_cores", lambda: 4)
    assert threads.use(None) == Threads(1, "set by the program")
    assert torch.get_num_threads() == 1


def test_the_command_line_has_openmp_wait_without_spinning():
    """Told before torch is loaded; a user's own word stays, and a program that only imports c2al is not touched."""
    asks = "import os; print([os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'KMP_BLOCKTIME')])"
    starts = "import sys; sys.argv[1:] = ['report', 'study=nowhere']\ntry: cli.main()\nexcept SystemExit: pass\n"

    def told(program: str, **own: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name not in threads.SPINNING}
        environment = kept | {"PYTHONPATH": str(runs.ROOT)} | own
        words = [sys.executable, "-c", program]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert told(f"from c2al import cli; {starts}{asks}") == "['passive', '0']"
    assert told(f"from c2al import cli; {starts}{asks}", OMP_WAIT_POLICY="active") == "['active', None]"
    assert told(f"from c2al import cli; {starts}{asks}", GOMP_SPINCOUNT="10") == "[None, None]"
    assert told(f"from c2al import cli; {asks}") == "[None, None]"


@pytest.mark.parametrize("asked", [0, -1, True, 1.5, 10**9, "2"])
def test_a_number_of_threads_that_cannot_be(asked):
    with pytest.raises(DataError, match=r"training\.threads cannot be that"):
        threads.use(asked)
