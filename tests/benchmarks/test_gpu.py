"""The GPU check, run dry on a CPU: its device side and its reference are then the same, and must agree to the bit."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import LOSS_TOLERANCE, Run, Wanted, main, right
from c2al.schema import DataError

GROUPS = ["train/dcnv2", "plans", "speed/criteo"]
DRY = ["scale=small", f"only=[{','.join(GROUPS)}]", "methods=[c2al]", "plans=[row_wise]", "variants=[fp32 base]"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("results")
    assert main([*DRY, "seconds=3000", "threads=1", f"to={folder}"]) == 0
    (path,) = folder.glob("gpu_*.json")
    return json.loads(path.read_text())


def test_every_cell_is_measured_and_right(found: dict[str, Any]) -> None:
    cells = found["cells"]
    assert set(cells) == {
        *("train/dcnv2: c2al", "train/dcnv2: resume", "train/dcnv2: export_cpu"),
        *("plans: row_wise", "speed/criteo: fp32 base"),
    }
    assert not found["wrong"]
    assert not found["not_run"]
    assert set(found["groups"].values()) == {"done"}


def test_runs_agree_with_the_reference(found: dict[str, Any]) -> None:
    for name in ("train/dcnv2: c2al", "plans: row_wise"):
        cell = found["cells"][name]
        assert cell["first_step"] == cell["first_steps"] == cell["ne_difference"] == 0
        assert cell["greatest_logit_difference"] == 0
        assert len(cell["losses"]) == 8


def test_a_resumed_run_and_an_exported_file_are_the_same(found: dict[str, Any]) -> None:
    assert found["cells"]["train/dcnv2: resume"]["to_the_bit"]
    assert found["cells"]["train/dcnv2: export_cpu"]["bitwise"]


def test_speed_has_rates_shares_and_host_syncs(found: dict[str, Any]) -> None:
    cell = found["cells"]["speed/criteo: fp32 base"]
    assert cell["rows_per_s"]["median"] > 0
    assert 0 < cell["dense_share_of_product"] < 2
    assert cell["lookup_share_of_copy"] > 0
    assert cell["host_syncs"]["operators_per_step"]["_local_scalar_dense"] >= 1  # the norm of the gradient


def test_a_time_out_loses_nothing_that_was_measured(tmp_path: Path) -> None:
    run = Run(Wanted(scale="small", only=["train/dcnv2", "plans"]), tmp_path, deadline=time.monotonic())
    done = {"losses": [0.5, 0.4], "ne": 0.9, "logits": "gone.parquet", "seconds": 1.0}
    for side in ("device", "reference"):
        folder = tmp_path / "found" / side / "train" / "dcnv2"
        folder.mkdir(parents=True)
        (folder / "c2al.json").write_text(json.dumps(done))
    run.ended = {"train/dcnv2/device": "no time was left"}
    found = run.found()
    assert found["cells"]["train/dcnv2: c2al"]["first_steps"] == 0
    assert found["not_run"] == ["train/dcnv2", "plans"]
    assert not found["wrong"]


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        ("c2al", {"first_steps": LOSS_TOLERANCE / 2, "ne_difference": -1e-4}, True),
        ("c2al", {"first_steps": LOSS_TOLERANCE * 2, "ne_difference": 0.0}, False),
        ("c2al", {"first_steps": float("nan"), "ne_difference": 0.0}, False),
        ("c2al", {"first_steps": 0.0, "ne_difference": 0.01}, False),
        ("c2al", {"reference": {"failed": "out of memory"}}, False),
        ("resume", {"greatest_difference": 1e-3}, False),
        ("fp32 base", {"rows_per_s": {"median": 1.0}}, True),
    ],
)
def test_what_counts_as_right(name: str, cell: dict[str, Any], expected: bool) -> None:
    assert right(name, cell) is expected


@pytest.mark.parametrize("words", [["only=[train/dhenn]"], ["scale=huge"], ["secs=3"], ["seconds=soon"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    with pytest.raises(DataError):
        main(words)
