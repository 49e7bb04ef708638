import re

import numpy as np
import pytest

from c2al.analysis.plots import Chart, bounds, histogram, percent_of_log10, short, short_layer, smooth, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.31, 0.12), (0, 1e6), (-5e-4, 2e-4), (99.99, 100.01)])
def test_ticks_are_few_round_and_within(low, high):
    found = ticks(low, high, count=5)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = np.diff(found)
    assert steps == pytest.approx(np.full(len(steps), steps[0]))
    assert f"{steps[0]:.0e}"[0] in "125"


def test_points_land_where_they_should():
    chart = Chart(x=(0, 10), y=(0, 2), width=360, height=220)
    chart.line([0, 10, 5, 5], [0, 2, float("nan"), 1], colour="red")
    points = re.search('points="(.*?)"', chart.svg("d"))[1].split()
    assert points == ["46.0,184.0", "348.0,10.0", "197.0,97.0"]  # the NaN is left out


def test_flat_and_empty_charts_do_not_fail():
    assert "polyline" in _flat().svg("flat")
    assert bounds([], []) == (0.0, 1.0)
    assert bounds([np.nan], around=2.0) == (2.0, 2.0)


def _flat():
    chart = Chart(x=(3, 3), y=(0, 0))
    chart.level(0.0)
    return chart


def test_histogram_integrates_to_one():
    rng = np.random.default_rng(0)
    values, weights, edges = rng.normal(size=1000), rng.random(1000), np.linspace(-6, 6, 41)
    assert (histogram(values, edges) * np.diff(edges)).sum() == pytest.approx(1)
    assert (histogram(values, edges, weights) * np.diff(edges)).sum() == pytest.approx(1)


def test_smooth_keeps_constants_and_length():
    assert smooth(np.full(30, 2.0), 7) == pytest.approx(np.full(30, 2.0))
    assert smooth(np.arange(9.0), 3)[1:-1] == pytest.approx(np.arange(9.0)[1:-1])
    assert len(smooth(np.arange(5.0), 9)) == 5


def test_texts():
    assert [short(v) for v in (0, 0.05, -2, 15000, 3.2e6)] == ["0", "0.05", "−2", "15k", "3.2M"]
    assert percent_of_log10(-3) == "0.1 %"
    assert short_layer("interaction.layers.0.interactions.fm_attention.fm.attention") == "layer 0.fm_attention"
