import json
from typing import Any

import pytest

from benchmarks.parts import GRADIENTS, INPUT, OUTPUT, PARTS, WAITING
from benchmarks.sharding_plans import main
from benchmarks.traffic import REDUCED

ROWS, DIM, COLUMNS = 64, 4, 26
SMALL = (
    *("shapes=criteo", "rows=3000", "rounds=1", "blocks=1", "steps=3", "warmup=1", "batches=3", "parts=1", "threads=1"),
    *(f"training.batch_size={ROWS}", f"model.dim={DIM}", "model.interaction.out_features=16", "model.heads.hidden=[8]"),
)
PLANS = ("table_wise", "row_wise", "column_wise", "data_parallel")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four plans on two ranks; 4 columns cannot be cut in two."""
    folder = tmp_path_factory.mktemp("results")
    plans = f"parallel.plans=[{','.join(PLANS)}]"
    assert main([*SMALL, plans, f"to={folder}", "name=tiny"]) == 0
    (path,) = folder.glob("*.json")
    assert path.with_suffix(".png").exists()
    assert str(folder) not in path.read_text()
    return json.loads(path.read_text())


def test_every_plan_is_measured_beside_the_plain_loop(found: dict[str, Any]) -> None:
    assert set(found["plans"]) == {"table_wise", "row_wise", "data_parallel"}
    assert "4 columns cannot be cut into 2" in found["refused"]["column_wise"]
    for plan in found["plans"].values():
        assert plan["rows_per_s"]["median"] > 0
        assert plan["stock_rows_per_s"]["median"] > 0
        assert plan["step_ms"]["p50"] <= plan["step_ms"]["p95"]
        assert plan["estimated_ms"] > 0


def test_all_plans_train_the_same_and_as_the_plain_loop_does(found: dict[str, Any]) -> None:
    for plan in found["plans"].values():
        assert plan["equal"]
        assert plan["distance"] < 1e-5
        assert plan["stock_distance"] < 1e-5


def test_no_part_of_a_step_is_missed(found: dict[str, Any]) -> None:
    for name, plan in found["plans"].items():
        without = {OUTPUT, GRADIENTS, INPUT, WAITING} if name == "data_parallel" else set()
        assert all(plan["parts_ms"][part] > 0 for part in PARTS if part not in without), plan["parts_ms"]


def test_what_ranks_send_is_what_their_tables_ask_for(found: dict[str, Any]) -> None:
    """Pooled rows of the other rank's batch, once forward and once back."""
    sent = found["plans"]["row_wise"]["sent_bytes"]
    pooled = 4 * ROWS * DIM * COLUMNS
    assert sent[OUTPUT] == sent[GRADIENTS] == pooled
    assert 0 < sent[INPUT] < 8 * 3 * ROWS * COLUMNS
    assert set(found["plans"]["data_parallel"]["sent_bytes"]) == {REDUCED}
    tables = 4 * DIM * found["tables"]["rows"]
    assert found["plans"]["data_parallel"]["sent_bytes"][REDUCED] == tables + sent[REDUCED]


def test_memory_is_what_the_plan_says(found: dict[str, Any]) -> None:
    tables = 4 * DIM * found["tables"]["rows"]
    for name, plan in found["plans"].items():
        held = [rank["tables"] for rank in plan["memory"]]
        assert sum(held) == (2 * tables if name == "data_parallel" else tables)
        assert all(rank["tables"] == rank["table_optimizer"] for rank in plan["memory"])
