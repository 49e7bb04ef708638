from pathlib import Path

import pytest

from benchmarks.launching import on_ranks
from c2al.schema import DataError

PROGRAM = "tests.benchmarks.failing_rank"
SAID = {
    "refuse": r"rank 1 at the second plan: too few rows \(value 3\). Remedy: more of them",
    "killed": r"rank 1 was killed by SIGKILL at the second plan",
}


@pytest.mark.parametrize("end", SAID)
def test_a_rank_that_fails_ends_all_in_one_error(end: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"(?s){SAID[end]}"):
        on_ranks(PROGRAM, {"end": end}, world_size=2, threads=1, folder=tmp_path)


def test_what_rank_0_found(tmp_path: Path) -> None:
    assert on_ranks(PROGRAM, {"end": "well"}, world_size=2, threads=1, folder=tmp_path) == {"rank": 0}
