import re

import pytest

from c2al.analysis.forest import forest, limits


def test_scale_is_not_ruled_by_one_wide_interval():
    cells = [{"difference": 0.0, "low": -0.1, "high": 0.1}] * 20
    low, high = limits([*cells, {"difference": 0.1, "low": -40.0, "high": 40.0}])
    assert -0.5 < low < -0.1
    assert 0.1 < high < 0.5
    low, high = limits([*cells, {"difference": -1.0, "low": -1.2, "high": -0.8}])
    assert low < -1.2  # not far beyond the means: shown whole
    assert limits([{"difference": None, "low": None, "high": None}]) == (-1.0, 1.0)


def test_one_row_a_cohort_and_one_lane_an_arm(make_study):
    study, _ = make_study("forest", num_rows=2_000, seeds=(0, 1), arms=("baseline", "c2al", "head_only"))
    html = forest(study)
    assert html.count('<div class="lane"') == len(study["cells"])
    assert html.count('<div class="name">') == len(study["cells"]) / 2
    assert len(re.findall('<div class="row pair">', html)) == 2
    axes = re.findall('<div class="axis">(.*?)</div>', html)
    assert axes == ["revenue", "age", "surface"]


def test_dots_stand_where_the_differences_are(fake_study):
    study, _ = fake_study
    low, high = limits(study["cells"])
    dots = [float(left) for left in re.findall(r'class="dot(?: full)?" style="left:([\d.]+)%', forest(study))]
    cells = sorted(study["cells"], key=lambda row: row["axis"] != "overall")  # the pair's axis is the first one here
    assert dots == pytest.approx([100 * (row["difference"] - low) / (high - low) for row in cells], abs=0.01)


def test_cut_intervals_are_marked_and_undefined_cells_say_so(fake_study):
    study, _ = fake_study
    cells = [dict(row) for row in study["cells"]]
    cells[-1] |= {"low": -1e3, "high": 1e3, "mde": 1e3}
    cells[-2] |= {"difference": None, "low": None, "high": None, "mde": None, "per_seed": {}}
    cells[-2]["verdict"] = "not defined: labels all alike"
    html = forest({**study, "cells": cells})
    assert "‹" in html
    assert "›" in html
    assert "not defined" in html
