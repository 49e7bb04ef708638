import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from c2al.schema import DataError
from c2al.serving.workers import in_order

BIG = 300_000  # bytes: more than a pipe holds


class Work:
    """Doubles numbers, late ones first where it can; ``wrong`` says what happens at a number."""

    def __init__(self, wrong: dict[int, str] | None = None) -> None:
        self.wrong = wrong or {}
        if -1 in self.wrong:
            raise DataError("no model there", file="x.pt2", remedy="mend it")

    def __call__(self, argument: tuple[int, bytes]) -> tuple[int, int, bytes]:
        number, _ = argument
        time.sleep(0.03 if number % 3 == 0 else 0)
        match self.wrong.get(number):
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "input":
                raise DataError("bad row", file="a.parquet", column="c", remedy="mend it")
            case "fails":
                raise ZeroDivisionError("of nothing")
        return 2 * number, os.getpid(), b"x" * BIG


def packed(number: int) -> tuple[int, bytes]:
    return number, b"y" * BIG


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(workers):
    found = list(in_order(range(10), Work, sent=packed, workers=workers))
    assert [task for task, _ in found] == list(range(10))
    assert [number for _, (number, _, _) in found] == [2 * i for i in range(10)]
    pids = {pid for _, (_, pid, _) in found}
    assert len(pids) == workers
    assert (os.getpid() in pids) == (workers == 1)


def test_tasks_are_taken_only_a_little_ahead():
    taken = []
    tasks = (taken.append(i) or i for i in range(100))
    results = in_order(tasks, Work, sent=packed, workers=2)
    next(results)
    assert len(taken) <= 5
    results.close()


@pytest.mark.parametrize(("wrong", "words"), [("dies", "SIGKILL"), ("input", r"a\.parquet"), ("fails", "of nothing")])
def test_a_worker_that_dies_or_fails_ends_it_with_one_error(wrong, words):
    results = in_order(range(100), partial(Work, {4: wrong}), sent=packed, workers=2)
    done = [task for task, _ in (next(results) for _ in range(3))]
    with pytest.raises(RuntimeError if wrong == "fails" else DataError, match=words) as caught:
        done += [task for task, _ in results]
    assert done == [0, 1, 2]
    if wrong == "fails":
        assert "ZeroDivisionError" in "".join(caught.value.__notes__)


def test_what_making_the_work_raises_is_raised_here():
    with pytest.raises(DataError, match=r"x\.pt2"):
        list(in_order(range(9), partial(Work, {-1: ""}), sent=packed, workers=2))
    with pytest.raises(DataError, match="workers"):
        list(in_order([], Work, sent=packed, workers=0))


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path):
    code = (
        "import os, signal\n"
        "from tests.serving.test_workers import Work, packed\n"
        "from c2al.serving.workers import in_order\n"
        "if __name__ == '__main__':\n"
        "    for i, (_, (_, pid, _)) in enumerate(in_order(range(99), Work, sent=packed, workers=2)):\n"
        "        print(pid, flush=True)\n"
        "        if i == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(code)
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, str(program)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=1800,
        check=False,
    )
    pids = {int(line) for line in ended.stdout.split()}
    assert ended.returncode == -signal.SIGKILL
    assert len(pids) == 2
    deadline = time.monotonic() + 600
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
