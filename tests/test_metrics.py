import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torchrec.metrics.ne import compute_cross_entropy, compute_ne

from c2al.metrics import Metrics
from c2al.schema import CohortAxis
from tests.on_ranks import on_ranks

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


def measured(*parts: tuple[torch.Tensor, ...], axes: list[CohortAxis] = AXES) -> dict:
    metrics = Metrics(axes)
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
        assert values["auc"] == pytest.approx(roc_auc_score(label, logit, sample_weight=weight), rel=1e-12)
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


def test_ties_count_half():
    logit_B = torch.tensor([0.0, 0, 0, 1, 1, -2])
    label_B = torch.tensor([1.0, 0, 0, 1, 0, 0])
    weight_B = torch.tensor([1.0, 2, 1, 0.5, 3, 1])
    found = measured((logit_B, label_B, weight_B, torch.full((6, 2), -1)))
    assert found["overall"]["auc"] == pytest.approx(roc_auc_score(label_B, logit_B, sample_weight=weight_B), rel=1e-12)


def test_batches_and_ranks_add_up_to_the_whole():
    whole, ranks = rows(), [Metrics(AXES), Metrics(AXES)]
    for i, batch in enumerate(zip(*(part.split(777) for part in whole), strict=True)):
        ranks[0 if i % 3 else 1].update(*batch)
    total = sum(metrics.state()[0] for metrics in ranks)
    for metrics in ranks:
        metrics.state()[0].copy_(total)  # what all_reduce does
    merged, other = on_ranks([metrics.compute for metrics in ranks])
    assert merged == other
    at_once = measured(whole)
    for (values, _), (expected, _) in zip(segments(merged, whole[3]), segments(at_once, whole[3]), strict=True):
        assert [v is None for v in values.values()] == [v is None for v in expected.values()]
        numbers = [name for name in values if expected[name] is not None]
        assert [values[n] for n in numbers] == pytest.approx([expected[n] for n in numbers], rel=1e-12)


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


def test_extreme_logits_keep_their_order():
    logit_B, label_B = torch.tensor([1e3, -1e3, 25.0, -25.0]), torch.tensor([1.0, 0, 0, 1])
    overall = measured((logit_B, label_B, torch.ones(4), torch.full((4, 2), -1)))["overall"]
    assert overall["log_loss"] == pytest.approx(50 / 4)
    assert overall["auc"] == pytest.approx(0.75)


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


def test_infinite_logits_have_a_place_in_the_order():
    logit_B, label_B = torch.tensor([math.inf, -math.inf, 1.0, math.inf]), torch.tensor([1.0, 0, 1, 0])
    overall = measured((logit_B, label_B, torch.ones(4), torch.full((4, 2), -1)))["overall"]
    assert overall["auc"] == pytest.approx(2.5 / 4)
    assert overall["log_loss"] is None


@pytest.mark.parametrize("huge", [1e20, 1e38, 3e38])
def test_huge_weight_leaves_ne_undefined_and_the_rest_defined(huge):
    """1e38 beside ones: the mean label rounds to 1, and its entropy is 0."""
    label_B = torch.tensor([1.0, 0, 1, 0])
    weight_B = torch.tensor([huge, 1.0, 1.0, 1.0])
    logit_B = torch.tensor([0.5, -1.0, 0.0, 0.0])
    overall = measured((logit_B, label_B, weight_B, torch.full((4, 2), -1)))["overall"]
    assert overall["ne"] is None
    assert overall["auc"] == pytest.approx(1.0)
    assert overall["calibration"] == pytest.approx(1 / (1 + math.exp(-0.5)), rel=1e-6)
    assert overall["log_loss"] == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-6)
    assert (overall["rows"], overall["positives"]) == (4, 2)
    json.dumps(overall, allow_nan=False)


def test_weights_whose_sum_is_no_number_are_none_in_json():
    weight_B = torch.tensor([1.7e308, 1.7e308], dtype=torch.float64)
    found = measured((torch.zeros(2), torch.tensor([1.0, 0]), weight_B, torch.zeros(2, 0, dtype=torch.long)), axes=[])
    assert json.loads(json.dumps(found, allow_nan=False))["overall"]["weight"] is None


@pytest.mark.parametrize(("spread", "center"), [(1.5, -2), (0.03, -5), (0.01, -7), (0.003, -7), (5, -25), (5, 60)])
def test_auc_of_narrow_and_of_far_logits(spread, center):
    rng = np.random.default_rng(0)
    q = rng.normal(size=50_000)
    logit, label = (center + spread * q).astype(np.float32), rng.random(50_000) < 1 / (1 + np.exp(2 - q))
    none = torch.zeros(50_000, 0, dtype=torch.long)
    found = measured((torch.tensor(logit), torch.tensor(label).float(), torch.ones(50_000), none), axes=[])
    assert found["overall"]["auc"] == pytest.approx(roc_auc_score(label, logit), rel=1e-12)
    assert "auc_error" not in found["overall"]


def test_auc_of_half_precision_logits():
    logit_B, label_B, weight_B, cohort_BA = rows(500)
    half = logit_B.bfloat16()
    found = measured((half, label_B, weight_B, cohort_BA))["overall"]["auc"]
    assert found == pytest.approx(roc_auc_score(label_B, half.float(), sample_weight=weight_B), rel=1e-12)
