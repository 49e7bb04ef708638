import io

import pytest
from rich.console import Console

from c2al.analysis.plan_table import comparison_table, comparison_words, plan_tables, plan_words
from tests.analysis.plan_reports import rank, report


def shown(table, width=80):
    written = io.StringIO()
    Console(file=written, width=width).print(table)
    return written.getvalue()


def test_tables_and_ranks_in_80_columns():
    text = shown(plan_tables(report()))
    for part in ("auto, 4 ranks on 2 hosts, cuda", "1,234,567 × 8", "row_wise", "0–3", "80.00", "80%"):
        assert part in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_bars_are_stacked_to_scale():
    """16 marks for the heaviest rank: 30, 20, 10 and 20 MiB of 80; the others' as long as they are heavy."""
    heaviest, others = (
        line.split()[-1] for line in shown(plan_tables(report())).splitlines() if line.rstrip().endswith("░")
    )
    assert (heaviest.count("█"), heaviest.count("▓"), heaviest.count("▒"), heaviest.count("░")) == (6, 4, 2, 4)
    assert len(heaviest) == 16
    assert len(others) == 10


def test_ranks_that_look_alike_are_one_line():
    lines = shown(plan_tables(report())).splitlines()
    assert sum("50.00" in line for line in lines) == 1
    assert any(line.split()[:1] == ["1–3"] for line in lines)


def test_of_many_loads_the_heaviest_are_shown():
    many = [rank(10 + i % 50, 10, 10, 20, 2.0) for i in range(100)]
    text = shown(plan_tables(report(many)))
    assert "the 24 heaviest of 100 different loads" in text
    assert text.count("99.00") == 2
    assert len([line for line in text.splitlines() if line.rstrip().endswith("░")]) == 24


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "fits: the heaviest rank holds 80.0 MiB of 100.0 MiB"),
        ({"limit": None}, "the heaviest rank holds 80.0 MiB; parallel.memory_gib=… says whether that fits"),
        (
            {"limit": 60, "remedy": "auto fits from 8 ranks"},
            "does not fit: rank 0 would hold 80.0 MiB, its device has 60.0 MiB to give; auto fits from 8 ranks",
        ),
    ],
)
def test_the_verdict(own, said):
    assert plan_words(report(**own))[-1] == said


def test_tables_outside_the_device_are_named():
    plan = report()
    plan["ranks"][1] = plan["ranks"][1] | {"host_bytes": 30 * 2**30}
    assert "tables in unified memory: up to 30.0 GiB of a rank in its host's memory" in plan_words(plan)


def test_reasons_once_for_all_tables_of_it():
    plan = report()
    for table, reason in zip(plan["tables"], ("large", "small"), strict=True):
        table["reason"] = reason
    plan["tables"].append({**plan["tables"][0], "table": "query"})
    assert plan_words(plan)[:2] == ["row_wise (large): user, query", "table_wise (small): item"]


def test_a_comparison_shows_what_was_refused_and_why():
    line = {"fits": True, "heaviest_bytes": 20 * 2**30, "balance": 1.5, "step_ms": 12.345}
    refused = {"sharding": "column_wise", "fits": False, "refused": "cannot be cut. Remedy: model.dim=32"}
    compared = report(plans=[{"sharding": "row_wise", **line}, refused])
    text = shown(comparison_table(compared))
    for part in ("yes", "20.0 GiB", "1.50", "12.3", "refused"):
        assert part in text
    assert comparison_words(compared) == ["cannot be cut"]
