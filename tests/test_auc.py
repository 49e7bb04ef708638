import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from c2al import auc
from c2al.auc import AreaUnderCurve
from tests.on_ranks import on_ranks

NUM_COHORTS = (3, 40)


def rows(num=5_000, *, seed=0, decimals=None, spread=1.0, center=-2.0):
    """Logit, label, uneven weight, cohorts; one cohort of the second axis has few rows, some rows have none."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=num)
    logit = (center + spread * q).astype(np.float32)
    logit = logit if decimals is None else logit.round(decimals)
    label = (rng.random(num) < 1 / (1 + np.exp(2 - q))).astype(np.float32)
    weight = rng.choice([1.0, 0.3, 250.0], num).astype(np.float32)
    cohort = np.stack([rng.integers(-1, 3, num), np.minimum(rng.geometric(0.2, num) - 1, 39)], axis=1)
    return logit, label, weight, cohort


def expected(data, inside):
    logit, label, weight = (part[inside] for part in data[:3])
    if len(np.unique(label)) < 2:
        return np.nan
    return roc_auc_score(label, logit, sample_weight=weight)


def by_segment(data):
    cohort = data[3]
    masks = [np.ones(len(cohort), bool)]
    masks += [cohort[:, axis] == i for axis, num in enumerate(NUM_COHORTS) for i in range(num)]
    return np.array([expected(data, mask) for mask in masks])


def filled(data, *, batch=701, **options):
    area = AreaUnderCurve(NUM_COHORTS, **options)
    for start in range(0, len(data[0]), batch):
        area.update(*(part[start : start + batch] for part in data))
    return area


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("range_rows", [2**22, 600])
def test_every_segment_equals_scikit_learn(monkeypatch, decimals, range_rows):
    monkeypatch.setattr(auc, "RANGE_ROWS", range_rows)
    data = rows(decimals=decimals)
    found, error = filled(data).compute()
    np.testing.assert_allclose(found, by_segment(data), rtol=1e-12)
    assert not error.any()
    assert np.isnan(found).any(), "a cohort with one label has no area"


@pytest.mark.parametrize("range_rows", [2**22, 600])
def test_ranks_give_what_one_process_gives(monkeypatch, range_rows):
    monkeypatch.setattr(auc, "RANGE_ROWS", range_rows)
    data = rows(decimals=2)
    whole = filled(data).compute()[0]
    shares = np.split(np.arange(len(data[0])), [100, 3_000, 3_000])  # one rank has no rows
    ranks = [filled([part[share] for part in data]) for share in shares]
    found = on_ranks([rank.compute for rank in ranks])
    for values, _ in found:
        np.testing.assert_array_equal(values, found[0][0])
        np.testing.assert_allclose(values, whole, rtol=1e-12)


def test_no_rows_and_rows_added_after_the_first_answer():
    area = AreaUnderCurve(NUM_COHORTS)
    assert np.isnan(area.compute()[0]).all()
    first, second = rows(400, seed=1), rows(300, seed=2)
    area.update(*first)
    area.compute()
    area.update(*second)
    both = [np.concatenate(parts) for parts in zip(first, second, strict=True)]
    np.testing.assert_allclose(area.compute()[0], by_segment(both), rtol=1e-12)


def test_infinite_logits_ties_at_zero_and_rows_left_out():
    area = AreaUnderCurve(())
    logit = np.array([np.inf, -np.inf, 0.0, -0.0, np.nan, 5.0], np.float32)
    label, weight = np.array([1, 0, 1, 0, 1, 0.0]), np.array([1, 1, 1, 1, 1, 0.0])
    area.update(logit, label, weight, np.empty((6, 0), np.int64))
    assert area.compute()[0] == pytest.approx([3.5 / 4])


def test_a_huge_weight_hides_no_other_cohort():
    logit, label, weight, cohort = rows(2_000)
    weight[cohort[:, 0] == 0] = 1e38
    found = filled((logit, label, weight, cohort)).compute()[0]
    np.testing.assert_allclose(found[2:4], by_segment((logit, label, weight, cohort))[2:4], rtol=1e-12)


@pytest.mark.parametrize(("spread", "center"), [(1.5, -2), (0.01, -7), (0.003, -7), (5, -25)])
def test_bins_err_by_no_more_than_they_say(spread, center):
    data = rows(20_000, spread=spread, center=center)
    area = filled(data, max_bytes=50_000, num_bins=400)
    found, error = area.compute()
    exact = by_segment(data)
    there = ~np.isnan(exact)
    assert (np.isnan(found) == ~there).all()
    assert (np.abs(found - exact)[there] <= error[there] + 1e-12).all()
    assert 0 < error[0] < 0.002
    assert abs(found[0] - exact[0]) < 1e-4


def test_bins_of_few_distinct_logits_are_exact():
    data = rows(20_000, decimals=1)
    data[0][:100] = np.unique(data[0])[np.arange(100) % len(np.unique(data[0]))]  # all of them are seen in time
    found, error = filled(data, max_bytes=50_000, num_bins=500).compute()
    np.testing.assert_allclose(found, by_segment(data), rtol=1e-12)
    assert not np.nan_to_num(error).any()


@pytest.mark.parametrize("full", [(True, True), (True, False), (False, True)])
def test_bins_of_one_rank_take_up_the_others(full):
    """Ranks whose rows differ have other edges: what spans two bins counts in the error."""
    data = rows(20_000)
    lower = np.random.default_rng(0).random(20_000) < 1 / (1 + np.exp(data[0] + 2))
    shares = [np.flatnonzero(lower), np.flatnonzero(~lower)]
    ranks = [
        filled([part[share] for part in data], max_bytes=50_000 if small else 2**30, num_bins=400)
        for share, small in zip(shares, full, strict=True)
    ]
    answers = on_ranks([rank.compute for rank in ranks])
    found, error = answers[0]
    np.testing.assert_array_equal(found, answers[1][0])
    exact = by_segment(data)
    there = ~np.isnan(exact)
    assert (np.abs(found - exact)[there] <= error[there] + 1e-12).all()
    assert abs(found[0] - exact[0]) < 1e-3
    assert 0 < error[0] < 0.05


def test_infinite_logits_in_bins():
    data = rows(20_000)
    data[0][:50], data[0][50:90] = np.inf, -np.inf
    found, error = filled(data, max_bytes=50_000, num_bins=400).compute()
    finite = np.nan_to_num(data[0], posinf=1e6, neginf=-1e6)
    assert abs(found[0] - roc_auc_score(data[1], finite, sample_weight=data[2])) <= error[0] < 0.002
