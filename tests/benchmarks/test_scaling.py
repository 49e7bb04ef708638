import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling import Size, main
from benchmarks.scaling_lines import words
from c2al.schema import DataError

SMALL = (
    *("shapes=journey", "sizes=[1x1,2x1]", "rounds=1", "blocks=1", "steps=2", "warmup=1", "batches=2", "name=tiny"),
    *("training.batch_size=32", "model.dim=4", "model.interaction.out_features=16", "model.heads.hidden=[8]"),
)


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, f"to={tmp_path}"]) == 0
    (path,) = tmp_path.glob("*.json")
    assert path.with_suffix(".png").exists()
    cases = {(case["kind"], case["ranks"]): case for case in json.loads(path.read_text())["cases"]}
    assert {key: case["batch_size"] for key, case in cases.items()} == {
        **{("weak", 1): 32, ("weak", 2): 32, ("strong", 1): 32, ("strong", 2): 16},
    }
    assert all(case["rows_per_s"]["median"] > 0 and case["to_stock"]["median"] > 0 for case in cases.values())
    assert cases["weak", 1]["speedup"]["median"] == 1
    assert "table_wise" in capsys.readouterr().out


def test_two_ranks_are_judged_for_complete_journey() -> None:
    ratio = {"rows_per_s": {"median": 0.95, "low": 0.9, "high": 1.0}}
    found: dict[str, Any] = {"two_ranks": {"weak": ratio, "strong": ratio}, "name": "journey"}
    found["settings"] = {"sharding": "table_wise"}
    weak, strong = words(found)
    assert "0.95 (0.90 to 1.00) (wanted at least 0.9: met)" in weak
    assert "wanted" not in strong


@pytest.mark.parametrize("word", ["2", "x2", "0x1", "2x", "axb"])
def test_sizes_that_cannot_be(word: str) -> None:
    with pytest.raises(DataError, match="ranks x threads"):
        Size.of(word)
