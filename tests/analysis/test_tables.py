import json
import re
from pathlib import Path

from c2al.analysis.tables import MEASURE_NAMES, cells_table, density_table, facts, pairs_table


def lines(html):
    rows = re.findall("<tr.*?>(.*?)</tr>", html)
    return [[re.sub("<.*?>", "", cell).strip() for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def test_cells_table_has_every_number(fake_study):
    study, _ = fake_study
    head, *rows = lines(cells_table(study))
    assert len(rows) == len(study["cells"])
    assert {len(row) for row in rows} == {len(head)}
    first = dict(zip(head, rows[0], strict=True))
    row = study["cells"][0]
    assert first["cohort"] == "all rows"
    assert first["rows"] == f"{row['rows']:,}"
    assert first["NE"] == f"{row['ne_reference']:.4f}"
    assert first["calibration"] == f"{row['calibration_reference']:.3f} → {row['calibration_arm']:.3f}"
    assert first["detectable"] == f"{row['mde']:.3f}"
    assert first["s.e. over rows"] == f"{row['row_error']:.3f}"


def test_cells_without_values(fake_study):
    study, _ = fake_study
    keys = ("difference", "low", "high", "p", "p_holm", "mde", "ne_reference", "auc_difference", "auc_low", "auc_high")
    empty = {**study["cells"][-1], **dict.fromkeys((*keys, "calibration_reference", "calibration_arm"))}
    empty |= {"row_interval": {"0": None}, "verdict": "not defined: labels all alike"}
    row = lines(cells_table({**study, "cells": [empty]}))[1]
    assert "not defined" in row
    assert row.count("–") >= 6


def test_several_arms_are_named(fake_study):
    study, _ = fake_study
    arms = {**study["arms"], "other": study["arms"]["c2al"]}
    assert lines(cells_table({**study, "arms": arms}))[1][:2] == ["c2al", "all rows"]


def test_pairs_table_marks_the_studys_pair(fake_study):
    study, folder = fake_study
    html = pairs_table(json.loads(Path(folder, "pairs.json").read_text()), study["pair"])
    assert html.count("class=pair") == 1
    assert lines(html)[1][0] == "revenue: top 5% / bottom 5%"


def test_density_tables(fake_study):
    study, _ = fake_study
    of_y = lines(density_table(study["density"], "baseline", only_y=True))
    assert [row[1] for row in of_y[1:8]] == list(MEASURE_NAMES.values())[:7], "the others are of attention weights"
    assert len(of_y) == 1 + 2 * 7
    std = next(r for r in study["density"] if r["moment"] == "end" and r["kind"] == "activation")["measures"]["std"]
    assert of_y[1][4:6] == [f"{std['reference']:.4f}", f"{std['arm']:.4f}"]
    around = lines(density_table(study["density"], "baseline", only_y=False))
    assert {row[1] for row in around[1:]} == {"attention", "after", "beside", "heads"}
    assert around[1][3].startswith("× 1.3")  # the fixture's attention weights grow by 1.6 and 2.1


def test_facts_leave_out_what_is_empty():
    assert lines(facts({"a": 1, "b": None, "c": ""}))[1:] == [["a", "1"]]
    assert facts({}) == ""
