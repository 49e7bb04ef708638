from io import BytesIO
from typing import Any

import pytest

from benchmarks.parts import PARTS
from benchmarks.plan_bars import draw
from benchmarks.plan_findings import beside_estimate, equal_losses, plan_findings, rank_correlation, recommended
from benchmarks.plan_lines import markdown, words


def round_of(c2al: float, *, stock: float = 0.1, bare: float = 0.1) -> dict[str, Any]:
    """One plan's round: seconds of a step."""
    memory = {"tables": 2**20, "table_optimizer": 2**20, "dense": 2**20, "peak_added": 2**22}
    seconds = dict.fromkeys(PARTS, 0.01)
    parts = {"seconds": seconds, "sent_bytes": {"lookup": 2048.0}, "read_bytes": 1e6, "dense_flops": 2e6}
    return {
        "step_s": {"c2al": [[c2al, c2al]], "bare": [[bare, bare]], "stock": [[stock, stock]]},
        "memory": [memory, memory | {"tables": 0, "peak_added": None}],
        "parts": [parts, parts],
        "build_s": 1.0,
    }


PEAKS = {"copy_bytes_per_s": 1e9, "product_flops_per_s": 1e9}


def test_medians_ratios_and_shares() -> None:
    found = plan_findings([round_of(0.11), round_of(0.1), round_of(0.13)], rows=100, peaks=PEAKS)
    assert found["rows_per_s"]["median"] == pytest.approx(100 / 0.11)
    assert found["overhead"]["median"] == pytest.approx(0.1)
    assert found["to_stock"]["median"] == pytest.approx(0.1 / 0.11)
    assert found["step_ms"] == {"p50": pytest.approx(110), "p95": pytest.approx(130)}
    assert found["lookup_share_of_copy"] == pytest.approx(1e6 / 0.01 / 1e9)
    assert found["dense_share_of_product"] == pytest.approx(2e6 / 0.02 / 1e9)
    assert found["memory"][1]["peak_added"] is None
    slowest = {"input_comms": 1.0, "forward_compute": 2, "forward_comms": 3, "backward_compute": 4, "backward_comms": 5}
    assert beside_estimate(found["parts_ms"], slowest)["backward"] == {"estimated_ms": 9, "measured_ms": 20}


def test_the_first_losses_are_compared_and_the_last_told() -> None:
    losses = {
        "a": {"c2al": [1.0, 0.5, 0.25, 0.2], "stock": [1.0, 0.5, 0.25]},
        "b": {"c2al": [1.0, 0.5, 0.25]},
        "c": {"c2al": [1.0, 0.5, 0.26]},
    }
    found = equal_losses(losses, last=2, tolerance=1e-5)
    assert (found["compared"], found["steps"]) == (3, 3)
    assert [plan["equal"] for plan in found["plans"].values()] == [True, True, False]
    assert found["plans"]["c"]["distance"] == pytest.approx(0.04)
    assert found["plans"]["a"]["final_loss"] == pytest.approx(0.375)
    losses["b"]["stock"] = [1.0, 0.6, 0.25]
    losses["c"]["c2al"] = [1.0, float("nan"), 0.25]
    assert [plan["equal"] for plan in equal_losses(losses, last=1, tolerance=1e-5)["plans"].values()] == [
        True,
        False,
        False,
    ]


def test_rounding_that_training_amplifies_is_no_difference() -> None:
    losses = {"a": {"c2al": [1.0] * 20}, "b": {"c2al": [1.0] * 8 + [1.0 + 10.0**power for power in range(-9, 3)]}}
    assert equal_losses(losses, last=1, tolerance=1e-5)["plans"]["b"]["equal"]


def plan(*rounds: float, held: int = 10, equal: bool = True) -> dict[str, Any]:
    memory = {"tables": held * 2**20, "table_optimizer": 0, "dense": 0}
    speeds = {
        "median": sorted(rounds)[len(rounds) // 2],
        "low": min(rounds),
        "high": max(rounds),
        "rounds": list(rounds),
    }
    return {"rows_per_s": speeds, "memory": [memory], "equal": equal}


def test_the_fastest_is_taken_and_by_how_much_it_is() -> None:
    found = recommended({"a": plan(10, 11, 12), "b": plan(9, 10, 11), "c": plan(20, 20, 20, equal=False)})
    assert (found["plan"], found["tied"]) == ("a", ["a"])
    assert "10.0% before b" in found["reason"]


def test_of_those_that_cannot_be_told_apart_the_one_that_holds_least() -> None:
    found = recommended({"a": plan(10, 11, 12, held=50), "b": plan(9, 12, 11), "c": plan(5, 5, 5, held=1)})
    assert (found["plan"], found["tied"]) == ("b", ["a", "b"])
    assert "within the spread" in found["reason"] or "best median" in found["reason"]
    assert recommended({"a": plan(10, held=50), "b": plan(9)})["plan"] == "b", "one round tells nothing apart"
    assert recommended({"a": plan(10, equal=False)})["plan"] is None


def test_the_planners_order_of_plans() -> None:
    plans = {name: {"estimated_ms": e, "tables_ms": t} for name, e, t in (("a", 1, 9), ("b", 2, 20), ("c", 2, 21))}
    assert rank_correlation(plans) == pytest.approx(0.866, abs=1e-3)
    assert rank_correlation({"a": plans["a"], "b": plans["b"]}) is None


def test_what_is_printed_and_drawn() -> None:
    rounds = [round_of(0.2), round_of(0.2)]
    own = plan_findings(rounds, rows=100, peaks=PEAKS) | {
        "loss": 0.5,
        "final_loss": 0.25,
        "distance": 0.0,
        "equal": True,
    }
    own |= {"stock_distance": 1e-7}
    own |= {"estimated_ms": 1.0, "estimated_bytes": [2**20]}
    other = own | {"equal": False, "distance": 0.1}
    found: dict[str, Any] = {
        "name": "tiny",
        "plans": {"auto": own, "grid": other},
        "refused": {"row_wise": "too wide"},
        "tables": {"count": 2, "rows": 30},
        "settings": {"world_size": 2, "threads": 1, "batch_size": 50, "steps": 2, "stock": True, "rounds": 2},
        "losses": {"compared": 6, "steps": 9, "tolerance": 1e-5},
        "recommended": {"plan": "auto", "tied": ["auto"], "reason": "because"},
        "hardware": {"processor": "some", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00:00",
    }
    said = "\n".join(words(found))
    assert "row_wise: not measured: too wide" in said
    assert "grid did NOT train" in said
    assert "100.0% to 100.0% of a step (wanted under 3%: MISSED)" in said
    assert "no plan slower: MISSED by auto, grid" in said
    text = markdown(found)
    assert text.count("| auto |") == 3
    assert "0.5000000 ≠" in text
    picture = BytesIO()
    draw(picture, found)
    assert picture.getvalue().startswith(b"\x89PNG")
