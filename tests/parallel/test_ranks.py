"""One rank needs no torchrun; two come to one answer, also on an error."""

import json
import os
import platform
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist

from c2al.parallel import ranks as process_group
from c2al.schema import DataError
from tests import runs


@pytest.fixture
def alone():
    yield process_group.start(threads=1)
    process_group.stop()


def test_a_group_of_one_without_torchrun(alone):
    assert (alone.rank, alone.world_size, alone.local_rank, alone.local_world_size) == (0, 1, 0, 1)
    assert alone.is_first
    assert dist.is_initialized()
    tensor = torch.tensor([2.0])
    process_group.sum_over_ranks([tensor])
    assert tensor.item() == 2
    assert process_group.gather("x") == ["x"]
    assert process_group.broadcast({"a": 1}) == {"a": 1}


def test_stopping_twice_is_no_error():
    process_group.stop()
    process_group.start()
    group = dist.GroupMember.WORLD
    process_group.stop()
    process_group.stop()
    assert process_group._left == [group], "it outlives DDP's reducer, whose end would wait for its threads"
    assert not dist.is_initialized()


def test_an_error_of_ones_own_is_raised_without_a_group():
    process_group.agree(None)
    with pytest.raises(DataError, match="broken"):
        process_group.agree(DataError("broken", remedy="mend it"))


def test_seeds_are_everyones():
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    process_group.seed_everything(7)
    first = draws()
    process_group.seed_everything(7)
    assert draws() == first
    process_group.seed_everything(8)
    assert not set(draws()) & set(first)
    process_group.seed_everything(2**40)  # NumPy takes 32 bits alone


@pytest.mark.parametrize("how", ["leave", "return"])
def test_a_rank_ends_while_a_thread_of_gloos_is_late(how):
    """DDP's reducer must not be the last owner of the group: it would wait for that thread, and keep Python's lock."""
    words = [sys.executable, "-m", "tests.parallel.late_world", how]
    ended = subprocess.run(
        words, cwd=runs.ROOT, env=runs.environment(), capture_output=True, text=True, timeout=runs.PATIENT_S
    )
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr


def two_ranks(out: str) -> None:
    """What the processes below run."""
    ranks = process_group.start(timeout_s=1500)
    found = {"place": [ranks.rank, ranks.world_size, ranks.local_world_size, ranks.is_first]}
    tensor, other = torch.tensor([1.0 + ranks.rank]), torch.tensor([ranks.rank], dtype=torch.float64)
    process_group.sum_over_ranks([tensor, other])
    found["sums"] = [tensor.item(), other.item()]
    found["gathered"] = process_group.gather({"rank": ranks.rank})
    found["broadcast"] = process_group.broadcast(f"of rank {ranks.rank}")
    process_group.agree(None)
    own = DataError("bad row", remedy="mend it", file="x.parquet", row_group=3) if ranks.rank == 1 else None
    try:
        process_group.agree(own)
    except DataError as error:
        found["error"] = [str(error), error.where]
    process_group.stop()
    with open(f"{out}/{ranks.rank}.json", "w") as file:
        json.dump(found, file)


@pytest.mark.slow
def test_two_ranks_agree(tmp_path):
    program = f"from tests.parallel.test_ranks import two_ranks; two_ranks({str(tmp_path)!r})"
    ended = runs.on_ranks(["-c", program], timeout_s=1200)  # no time-out of a collective
    assert [status for status, _, _ in ended] == [0, 0], ended
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [each["place"] for each in found] == [[0, 2, 2, True], [1, 2, 2, False]]
    for each in found:
        assert each["sums"] == [3, 1]
        assert each["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert each["broadcast"] == "of rank 0"
        assert each["error"][0] == "bad row (file x.parquet, row group 3). Remedy: mend it"
        assert each["error"][1]["row group"] == 3


KEEPS = """
import resource, torch
from c2al.parallel import ranks
ranks.start()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [torch.ones(2_000_000) for _ in range(8)]
for _ in range(10):  # aligned blocks find their places in a few steps
    step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """A step's 64 MB are 15,625 pages."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}

    def faults(**settings: str) -> int:
        words = [sys.executable, "-c", KEEPS]
        return int(subprocess.run(words, env=own | settings, capture_output=True, text=True, check=True).stdout)

    assert faults() < 5_000
    assert faults(MALLOC_MMAP_THRESHOLD_="65536") > 10_000, "what the user sets stays"
