import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torchrec.metrics.ne import compute_cross_entropy, compute_ne

from c2al.metrics import LOGIT_LIMIT, Metrics
from c2al.schema import CohortAxis

AXES = [CohortAxis("age", ("young", "middle", "old")), CohortAxis("surface", ("a", "b", "c", "d"))]
VALUES = ("ne", "auc", "calibration", "log_loss")


def rows(num: int = 20_000, seed: int = 0, shift: float = 0.0) -> tuple[torch.Tensor, ...]:
    """Logits that carry signal, 5 % positives, uneven weights, two axes; some rows in no cohort, cohort d empty."""
    generator = torch.Generator().manual_seed(seed)
    logit_B = 1.5 * torch.randn(num, generator=generator) - 3
    label_B = (torch.rand(num, generator=generator) < torch.sigmoid(logit_B + 0.3)).float()
    weight_B = 0.1 + torch.rand(num, generator=generator)
    cohort_BA = torch.stack(
        [torch.randint(-1, 3, (num,), generator=generator), torch.randint(0, 3, (num,), generator=generator)], dim=1
    )
    return logit_B + shift * torch.randn(num, generator=generator), label_B, weight_B, cohort_BA


def measured(*parts: tuple[torch.Tensor, ...], axes: list[CohortAxis] = AXES, bins: int = 8192) -> dict:
    metrics = Metrics(axes, bins)
    for part in parts:
        metrics.update(*part)
    return metrics.compute()


def segments(found: dict, cohort_BA: torch.Tensor) -> list[tuple[dict, torch.Tensor]]:
    """Every reported group with a mask of its rows."""
    pairs = [(found["overall"], torch.ones(len(cohort_BA), dtype=torch.bool))]
    for a, axis in enumerate(AXES):
        pairs += [(found["cohorts"][axis.name][name], cohort_BA[:, a] == i) for i, name in enumerate(axis.cohorts)]
    return pairs


def test_equals_scikit_learn_overall_and_per_cohort():
    data = rows()
    checked = 0
    for values, inside in segments(measured(data), data[3]):
        if not inside.any():
            continue
        logit, label, weight = (part[inside].double().numpy() for part in data[:3])
        prediction = 1 / (1 + np.exp(-logit))
        assert values["log_loss"] == pytest.approx(log_loss(label, prediction, sample_weight=weight), rel=1e-12)
        base = np.full_like(label, np.average(label, weights=weight))
        entropy = log_loss(label, base, sample_weight=weight)
        assert values["ne"] == pytest.approx(values["log_loss"] / entropy, rel=1e-12)
        assert values["auc"] == pytest.approx(roc_auc_score(label, logit, sample_weight=weight), abs=1e-4)
        assert values["calibration"] == pytest.approx((weight * prediction).sum() / (weight * label).sum(), rel=1e-12)
        assert (values["rows"], values["positives"]) == (len(label), label.sum())
        assert values["weight"] == pytest.approx(weight.sum(), rel=1e-12)
        assert values["positive_weight"] == pytest.approx((weight * label).sum(), rel=1e-12)
        checked += 1
    assert checked == 7


def test_equals_torchrecs_normalized_entropy():
    logit_B, label_B, weight_B, cohort_BA = (part.double() for part in rows())
    entropy = compute_cross_entropy(label_B, torch.sigmoid(logit_B), weight_B, 1e-12).sum()
    positive = (weight_B * label_B).sum()
    expected = compute_ne(entropy, weight_B.sum(), positive, weight_B.sum() - positive, 1e-12)
    found = measured((logit_B, label_B, weight_B, cohort_BA.long()))
    assert found["overall"]["ne"] == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("bins", [64, 1024, 8192])
def test_auc_error_is_within_the_stated_bound(bins):
    logit_B, label_B, weight_B, cohort_BA = rows(200_000)
    exact = roc_auc_score(label_B, logit_B, sample_weight=weight_B)
    error = abs(measured((logit_B, label_B, weight_B, cohort_BA), bins=bins)["overall"]["auc"] - exact)
    place = ((logit_B + LOGIT_LIMIT) * bins / (2 * LOGIT_LIMIT)).long().clamp(0, bins - 1)
    positive, negative = (torch.bincount(place, weight_B.double() * (label_B == y), minlength=bins) for y in (1, 0))
    assert error <= ((positive * negative).sum() / (2 * positive.sum() * negative.sum())).item()
    if bins == 8192:
        assert error < 1e-5


def test_ties_count_half():
    logit_B = torch.tensor([0.0, 0, 0, 1, 1, -2])
    label_B = torch.tensor([1.0, 0, 0, 1, 0, 0])
    weight_B = torch.tensor([1.0, 2, 1, 0.5, 3, 1])
    found = measured((logit_B, label_B, weight_B, torch.full((6, 2), -1)))
    assert found["overall"]["auc"] == pytest.approx(roc_auc_score(label_B, logit_B, sample_weight=weight_B), rel=1e-12)


def test_batches_and_ranks_add_up_to_the_whole():
    whole, first, second = rows(), Metrics(AXES), Metrics(AXES)
    for i, batch in enumerate(zip(*(part.split(777) for part in whole), strict=True)):
        (first if i % 3 else second).update(*batch)
    for mine, other in zip(first.state(), second.state(), strict=True):
        mine += other  # what all_reduce does
    merged, at_once = first.compute(), measured(whole)
    for (values, _), (expected, _) in zip(segments(merged, whole[3]), segments(at_once, whole[3]), strict=True):
        assert [v is None for v in values.values()] == [v is None for v in expected.values()]
        numbers = [name for name in values if expected[name] is not None]
        assert [values[n] for n in numbers] == pytest.approx([expected[n] for n in numbers], rel=1e-11)


def test_weighted_mean_of_cohort_differences_is_the_overall_difference():
    """(L₁ - L₀) / L₀ overall equals Σ_c W_c L₀_c · (L₁_c - L₀_c) / L₀_c / Σ_c W_c L₀_c over any partition."""
    before, after = measured(rows()), measured((rows(shift=0.1)[0], *rows()[1:]))

    def difference(new: dict, old: dict) -> float:
        return (new["ne"] - old["ne"]) / old["ne"]

    old, new = (found["cohorts"]["surface"] for found in (before, after))
    filled = [name for name in old if old[name]["rows"]]
    share = {name: old[name]["weight"] * old[name]["log_loss"] for name in filled}
    mean = sum(share[name] * difference(new[name], old[name]) for name in filled) / sum(share.values())
    assert abs(mean) > 1e-4
    assert mean == pytest.approx(difference(after["overall"], before["overall"]), rel=1e-9)


def test_fillers_and_rows_without_a_cohort():
    logit_B, label_B, weight_B, cohort_BA = rows(1000)
    filler = (torch.tensor([9.0, -9.0]), torch.tensor([1.0, 0.0]), torch.zeros(2), torch.tensor([[0, 0], [-1, -1]]))
    data = (logit_B, label_B, weight_B, cohort_BA)
    assert measured(data, filler) == measured(data)
    ages = measured(data)["cohorts"]["age"].values()
    assert sum(values["rows"] for values in ages) == (cohort_BA[:, 0] >= 0).sum() < 1000


def test_undefined_values_are_none():
    no_rows = {**dict.fromkeys(VALUES), "rows": 0, "positives": 0, "weight": 0.0, "positive_weight": 0.0}
    assert measured()["overall"] == no_rows
    label_B = torch.tensor([1.0, 1, 0, 0])
    cohort_BA = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 0]])
    found = measured((torch.tensor([0.3, -1, 2, -3]), label_B, torch.ones(4), cohort_BA))["cohorts"]
    positives, negatives, nobody = found["age"].values()
    assert nobody == no_rows
    assert (positives["ne"], positives["auc"]) == (None, None)
    assert positives["calibration"] is not None
    assert positives["log_loss"] is not None
    assert (negatives["ne"], negatives["auc"], negatives["calibration"]) == (None, None, None)
    assert negatives["log_loss"] == pytest.approx((math.log1p(math.exp(2)) + math.log1p(math.exp(-3))) / 2)
    assert None not in found["surface"]["a"].values()


def test_extreme_logits_count_in_the_outer_bins_and_in_the_loss():
    logit_B, label_B = torch.tensor([1e3, -1e3, 25.0, -25.0]), torch.tensor([1.0, 0, 0, 1])
    overall = measured((logit_B, label_B, torch.ones(4), torch.full((4, 2), -1)))["overall"]
    assert overall["log_loss"] == pytest.approx(50 / 4)
    assert overall["auc"] == pytest.approx(0.5)


def test_logits_that_are_not_finite_leave_the_loss_undefined():
    logit_B, label_B = torch.tensor([math.nan, 1.0, math.inf]), torch.tensor([1.0, 0.0, 0.0])
    overall = measured((logit_B, label_B, torch.ones(3), torch.full((3, 2), -1)))["overall"]
    assert [overall[name] for name in VALUES] == [None, None, None, None]
    assert overall["rows"] == 3


def test_no_axes():
    logit_B, label_B, weight_B, _ = rows(100)
    found = measured((logit_B, label_B, weight_B, torch.empty(100, 0, dtype=torch.long)), axes=[])
    assert found["cohorts"] == {}
    assert found["overall"]["rows"] == 100


def test_small_differences_survive_many_rows():
    """Float64 sums: a shift of 1e-7 in NE, far below float32's rounding over this many rows, comes out."""
    logit_B, label_B, weight_B, cohort_BA = rows()
    tenfold = [measured(*[(logit_B + shift, label_B, weight_B, cohort_BA)] * 10) for shift in (0.0, 1e-6)]
    once = [measured((logit_B + shift, label_B, weight_B, cohort_BA)) for shift in (0.0, 1e-6)]
    many, few = (b["overall"]["ne"] - a["overall"]["ne"] for a, b in (tenfold, once))
    assert many == pytest.approx(few, rel=1e-6)
    assert 0 < abs(many) < 1e-6
