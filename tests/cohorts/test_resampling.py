import warnings

import numpy as np
import pytest
from scipy import stats

from c2al.cohorts import resampling
from c2al.cohorts.divergence import js

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from statsmodels.stats.multitest import multipletests


def null_cells(seed: int, *, num_units: int = 240) -> np.ndarray:
    """Two cohorts without a difference: the tenth of units with the fewest rows, and the tenth with the most."""
    rng = np.random.default_rng(seed)
    size = np.sort(rng.lognormal(3.5, 1.2, num_units).astype(int) + 1)
    extremes = np.r_[size[: num_units // 8], size[-num_units // 8 :]]
    cells = np.zeros((len(extremes), 2, 30))
    for unit, rows in enumerate(extremes):
        scores = 0.7 * rng.normal() + rng.normal(size=rows)
        cohort = int(unit >= len(extremes) // 2)
        cells[unit, cohort] = np.histogram(np.clip(scores, -2.99, 2.99), bins=30, range=(-3, 3))[0]
    return cells


def sign_flip_p(cells: np.ndarray, seed: int) -> float:
    rng = np.random.default_rng(seed)
    weight = cells.sum(-1)
    units = weight.sum(0) ** 2 / (weight**2).sum(0)
    hist = cells.sum(0)
    flips, share = resampling.sign_flips(cells, num=199, rng=rng), resampling.pooled(hist, units)
    starts = resampling.dense_bins(share, units=units.min())
    hist, flips, share = (np.add.reduceat(x, starts, axis=-1) for x in (hist, flips, share))
    null = resampling.null_divergences(hist, flips, share, js)
    return resampling.p_value(float(js(*hist)), null, units=units.min())


def relabelling_p(cells: np.ndarray, seed: int) -> float:
    """The test that is not used: cohort labels shuffled over the units."""
    rng = np.random.default_rng(seed)
    of_unit, head, total = cells.sum(1), cells[:, 0].sum(-1) > 0, cells.sum((0, 1))
    null = np.stack([rng.permutation(head) @ of_unit for _ in range(199)])
    return (1 + (js(null, total - null) >= js(*cells.sum(0))).sum()) / 200


def test_sign_flips_hold_their_level_where_relabelling_units_does_not():
    seeds = range(80)
    flips = np.array([sign_flip_p(null_cells(seed), seed) for seed in seeds])
    relabelled = np.array([relabelling_p(null_cells(seed), seed) for seed in seeds])
    assert stats.binomtest(int((flips <= 0.05).sum()), len(flips), 0.05, alternative="greater").pvalue > 0.01
    assert (relabelled <= 0.05).mean() > 0.25


def test_the_identity_among_the_signs_gives_the_observed_divergence():
    cells = null_cells(0)
    hist = cells.sum(0)
    everyone = np.stack([hist, -hist])  # all signs plus; all minus
    null = resampling.null_divergences(hist, everyone, resampling.pooled(hist, np.array([12.0, 3.0])), js)
    assert null[0] == pytest.approx(js(*hist), rel=1e-9)


def test_sign_flips_and_bootstraps_are_sums_over_units():
    cells = np.random.default_rng(1).random((6, 3, 4))
    flips = resampling.sign_flips(cells, num=300, rng=np.random.default_rng(2))
    signs = np.random.default_rng(2).integers(0, 2, (128, 6)) * 2 - 1
    np.testing.assert_allclose(flips[:128], np.einsum("rg,gck->rck", signs, cells))
    assert flips.shape == (300, 3, 4)
    draws = resampling.bootstraps(cells, num=2000, rng=np.random.default_rng(3))
    np.testing.assert_allclose(draws.mean(0), cells.sum(0), rtol=0.05)
    np.testing.assert_allclose(draws.var(0), 6 * cells.var(0), rtol=0.25)


def test_fold_keeps_units_whole_and_even():
    unit = np.random.default_rng(0).integers(0, 10_000, 50_000) * 7
    few = resampling.fold(unit % 700, 50_000, rng=np.random.default_rng(1))
    assert len(np.unique(few)) == len(np.unique(unit % 700))
    many = resampling.fold(unit, 50_000, rng=np.random.default_rng(1), most=64)
    assert set(many) == set(range(64))
    group_of = dict(zip(unit.tolist(), many.tolist(), strict=True))
    assert [group_of[u] for u in unit.tolist()] == many.tolist()
    counts = np.bincount(list(group_of.values()))
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(resampling.fold(None, 5, rng=np.random.default_rng(1)), np.arange(5))


def test_effective_units_by_hand():
    weight = np.array([1.0, 1.0, 2.0, 5.0, 3.0])
    ids, unit = np.array([0, 0, 0, 1, 1]), np.array([7, 7, 8, 7, 9])
    found = resampling.effective_units(weight, ids, unit, 3)
    np.testing.assert_allclose(found[:2], [4**2 / (2**2 + 2**2), 8**2 / (5**2 + 3**2)])
    assert found[2] == 0
    rows = resampling.effective_units(weight, ids, None, 2)
    np.testing.assert_allclose(rows, [4**2 / 6, 8**2 / 34])


def test_p_value_counts_where_it_can_and_follows_the_tail_where_it_cannot():
    rng = np.random.default_rng(0)
    null = rng.chisquare(6, 999)
    assert resampling.p_value(6.0, null, units=500) == (1 + (null >= 6.0).sum()) / 1000
    for observed in (25.0, 35.0, 45.0):
        truth = stats.chi2.sf(observed, 6)
        assert np.log10(resampling.p_value(observed, null, units=500)) == pytest.approx(np.log10(truth), abs=1.2)
    assert resampling.p_value(45.0, null, units=11) == 2.0**-10  # eleven units have no more than 2^11 signs
    assert resampling.p_value(45.0, null[:50], units=500) == 1 / 51  # too few draws to fit a tail to
    assert resampling.p_value(0.0, np.zeros(999), units=500) == 1.0


def test_interval_takes_the_bias_of_the_plug_in_away():
    # D = 0.10 was observed, resamples scatter about 0.13: the truth is about 0.07
    resampled = 0.13 + 0.01 * np.random.default_rng(0).normal(size=2000)
    low, high = resampling.interval(0.10, resampled, alpha=0.05)
    assert low == pytest.approx(0.07 - 0.0196, abs=0.002)
    assert high == pytest.approx(0.07 + 0.0196, abs=0.002)
    assert resampling.interval(0.001, resampled, alpha=0.05) == (0.0, 0.0)


def test_interval_covers_the_true_divergence():
    centres = np.linspace(-3, 3, 30)
    truth = float(js(stats.norm.pdf(centres, 0.3, 1.22), stats.norm.pdf(centres, -0.3, 1.22)))
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cells = np.zeros((160, 2, 30))
        for unit in range(160):
            scores = (0.3, -0.3)[unit % 2] + 0.7 * rng.normal() + rng.normal(size=50)
            cells[unit, unit % 2] = np.histogram(np.clip(scores, -3.1, 3.1), bins=30, range=(-3.104, 3.104))[0]
        draws = resampling.bootstraps(cells, num=200, rng=rng)
        low, high = resampling.interval(float(js(*cells.sum(0))), js(draws[:, 0], draws[:, 1]), alpha=0.05)
        covered += low <= truth <= high
    assert covered >= 50  # of 60; a nominal 95 % interval covers 57


def test_holm_is_statsmodels():
    rng = np.random.default_rng(0)
    for p in (rng.random(40) ** 4, np.full(3, 0.02), np.array([0.04])):
        np.testing.assert_allclose(resampling.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_the_smallest_p_value_that_permutations_show():
    assert resampling.least_shown(999) == 0.001


def test_simultaneous_intervals_are_wider_and_hold_what_is_shown():
    resampled = 0.13 + 0.01 * np.random.default_rng(0).normal(size=2000)
    one, many = (resampling.simultaneous(0.10, resampled, alpha=0.05, num=num) for num in (1, 100))
    assert one == pytest.approx((0.07 - 0.0196, 0.10), abs=0.002), "the bias is taken away; 0.10 is shown"
    assert many == pytest.approx((0.07 - 0.0348, 0.1048), abs=0.003)
    assert resampling.simultaneous(0.001, resampled, alpha=0.05, num=3)[0] == 0.0
