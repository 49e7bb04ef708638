"""The fuzz campaign in small: a few damaged inputs through every door (``make fuzz`` has thousands)."""

from pathlib import Path

import pytest

from tests.fuzz.campaign import make_seeds, run_cases, silently_opened
from tests.fuzz.doors import DOORS

CASES = {"checkpoint": 8, "progress": 8, "config": 6, "model": 12, "forged": 12}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DOORS)
def test_damaged_input_is_taken_or_refused_in_one_line(
    name: str, seeds: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    door = silently_opened(name, tmp_path / name, seeds)
    cases = CASES.get(name, 20)
    result = run_cases(door, 0, cases, seed=0, kept=tmp_path / "kept")
    assert not result.faults, result.faults
    assert sum(result.outcomes.values()) == cases
