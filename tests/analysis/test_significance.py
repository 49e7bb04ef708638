import copy

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from c2al.analysis.significance import OVERALL, check_identity, compare, conclude, interval, levels, reach
from c2al.schema import DataError

AXES = {"age": ["young", "old", "unknown"], "device": ["phone", "desktop"]}


def metrics_of(loss, label, weight, cohort_of):
    """The metrics of one split, straight from their definitions."""

    def cell(inside):
        w, y = weight[inside], label[inside]
        total, rate = w.sum(), np.average(y, weights=w)
        mean = float(np.average(loss[inside], weights=w))
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)) if 0 < rate < 1 else None
        return {
            "ne": mean / float(entropy) if entropy else None,
            "auc": 0.7 if entropy else None,
            "calibration": 1.01 if rate > 0 else None,
            "log_loss": mean,
            "rows": int(inside.sum()),
            "positives": int(y.sum()),
            "weight": float(total),
            "positive_weight": float((w * y).sum()),
        }

    axes = {axis: {n: cell(cohort_of[axis] == i) for i, n in enumerate(names)} for axis, names in AXES.items()}
    return {"overall": cell(np.ones(len(label), bool)), "cohorts": axes}


@pytest.fixture(scope="module")
def metrics_by_arm():
    rng = np.random.default_rng(0)
    n = 4000
    label = rng.random(n) < 0.2
    weight = rng.choice([1.0, 100.0], n)
    cohort_of = {axis: rng.choice(len(names), n) for axis, names in AXES.items()}
    arms = {"baseline": 0.0, "c2al": 0.05, "random": 0.0}
    out = {arm: {} for arm in arms}
    for seed in range(4):
        loss = rng.gamma(2.0, size=n)
        for arm, gain in arms.items():
            better = gain * (cohort_of["age"] == 0)
            noise = 1 + 0.002 * rng.normal(size=3)[cohort_of["age"]]
            out[arm][seed] = metrics_of(loss * (1 - better) * noise, label, weight, cohort_of)
    return out


def cell_of(rows, arm, axis, cohort):
    return next(row for row in rows if (row["arm"], row["axis"], row["cohort"]) == (arm, axis, cohort))


def test_differences_and_intervals_are_scipys(metrics_by_arm):
    rows = compare(metrics_by_arm, reference="baseline")
    assert len(rows) == 2 * (1 + 5)
    row = cell_of(rows, "c2al", "age", "young")
    ne = {arm: [metrics_by_arm[arm][s]["cohorts"]["age"]["young"]["ne"] for s in range(4)] for arm in metrics_by_arm}
    differences = 100 * (np.array(ne["c2al"]) / np.array(ne["baseline"]) - 1)
    test = stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval(row["confidence"])
    assert row["confidence"] == 1 - 0.05 / 10, "the smallest p of two arms x five cohorts"
    assert row["difference"] == pytest.approx(differences.mean())
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["sd"] == pytest.approx(differences.std(ddof=1))
    assert row["per_seed"] == pytest.approx(dict(enumerate(differences)))
    assert row["ne_reference"] == pytest.approx(np.mean(ne["baseline"]))
    assert (row["verdict"], row["seeds"]) == ("better", [0, 1, 2, 3])
    assert row["rows"] == metrics_by_arm["baseline"][0]["cohorts"]["age"]["young"]["rows"]


def test_hand_computed():
    found = interval([-1.0, -2.0, -3.0])
    error = 1 / np.sqrt(3)
    assert found["mean"] == -2
    assert found["sd"] == 1
    assert found["low"] == pytest.approx(-2 - 4.302653 * error, abs=1e-5)  # t table, two degrees of freedom
    assert found["mde"] == pytest.approx((4.302653 + 1.060660) * error, abs=1e-5)
    assert found["p"] == pytest.approx(0.074180, abs=1e-5)


def test_detectable_effect_has_about_its_power():
    # The formula is the usual approximation of the noncentral t; from ten seeds on it is close to 80 %.
    found = interval(np.random.default_rng(1).normal(size=12))
    power = TTestPower().power(found["mde"] / found["sd"], nobs=12, alpha=0.05)
    assert power == pytest.approx(0.8, abs=0.02)


def test_holm_over_cohorts_times_arms_and_over_overall_cells(metrics_by_arm):
    rows = compare(metrics_by_arm, reference="baseline")
    for family in ([r for r in rows if r["axis"] != "overall"], [r for r in rows if r["axis"] == "overall"]):
        expected = multipletests([row["p"] for row in family], alpha=0.05, method="holm")
        assert [row["p_holm"] for row in family] == pytest.approx(expected[1].tolist())
        told = [row["verdict"] in ("better", "worse") for row in family]
        assert told == expected[0].tolist()


def test_one_seed_has_no_interval(metrics_by_arm):
    one = {arm: {0: runs[0]} for arm, runs in metrics_by_arm.items()}
    for row in compare(one, reference="baseline"):
        assert row["verdict"] == "one seed: no interval"
        assert row["difference"] is not None
        assert [row[key] for key in ("low", "high", "p", "p_holm", "sd", "mde")] == [None] * 6


def test_only_common_seeds_are_paired(metrics_by_arm):
    some = {**metrics_by_arm, "c2al": {s: metrics_by_arm["c2al"][s] for s in (1, 3)}}
    row = cell_of(compare(some, reference="baseline"), "c2al", *OVERALL)
    assert row["seeds"] == [1, 3]
    with pytest.raises(DataError, match="share no seed"):
        compare(
            {"baseline": {0: metrics_by_arm["baseline"][0]}, "c2al": {1: metrics_by_arm["c2al"][1]}},
            reference="baseline",
        )


def test_equal_runs_are_told_equal(metrics_by_arm):
    same = {"baseline": metrics_by_arm["baseline"], "twin": copy.deepcopy(metrics_by_arm["baseline"])}
    for row in compare(same, reference="baseline"):
        assert (row["difference"], row["p"], row["verdict"]) == (0, 1, "cannot be told from zero")


def test_cohort_without_positives_has_no_verdict(metrics_by_arm):
    arms = copy.deepcopy({arm: metrics_by_arm[arm] for arm in ("baseline", "c2al")})
    for runs in arms.values():
        for metrics in runs.values():
            metrics["cohorts"]["age"]["old"].update(ne=None, auc=None, calibration=None)
    row = cell_of(compare(arms, reference="baseline"), "c2al", "age", "old")
    assert row["verdict"].startswith("not defined")
    assert row["difference"] is None
    assert row["p_holm"] is None


def test_identity_holds_on_any_partition(metrics_by_arm):
    covered = check_identity(metrics_by_arm["baseline"][0], metrics_by_arm["c2al"][0])
    assert covered == pytest.approx({"age": 1.0, "device": 1.0})


def test_identity_with_rows_outside_every_cohort(metrics_by_arm):
    ref, arm = (copy.deepcopy(metrics_by_arm[name][0]) for name in ("baseline", "c2al"))
    for metrics in (ref, arm):
        del metrics["cohorts"]["age"]["unknown"]
    assert check_identity(ref, arm)["age"] < 0.9


@pytest.mark.parametrize("key", ["ne", "log_loss"])
def test_broken_tables_are_refused(metrics_by_arm, key):
    arm = copy.deepcopy(metrics_by_arm["c2al"][0])
    arm["cohorts"]["age"]["old"][key] *= 1.0001
    with pytest.raises(DataError, match=r"log-loss-weighted mean.*axis age"):
        check_identity(metrics_by_arm["baseline"][0], arm)


def test_different_rows_are_refused(metrics_by_arm):
    arm = copy.deepcopy(metrics_by_arm["c2al"][0])
    arm["cohorts"]["device"]["phone"]["positives"] += 1
    with pytest.raises(DataError, match=r"different positives in cohort phone.*axis device"):
        check_identity(metrics_by_arm["baseline"][0], arm)
    del arm["cohorts"]["device"]["phone"]
    with pytest.raises(DataError, match="different cohorts"):
        check_identity(metrics_by_arm["baseline"][0], arm)


def test_unknown_reference(metrics_by_arm):
    with pytest.raises(DataError, match="baseline, c2al, random"):
        compare(metrics_by_arm, reference="base")


def test_levels_are_those_of_holms_steps():
    assert levels([0.2, 0.001, 0.04, 0.012, 0.5]) == pytest.approx([0.05 / 3, 0.01, 0.05 / 3, 0.0125, 0.05 / 3])
    assert levels([0.01]) == [0.05]
    assert levels([]) == []


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("draw", range(20))
def test_an_interval_excludes_zero_exactly_where_the_verdict_is_sure(num_seeds, draw):
    rows = drawn_cells(num_seeds, draw)
    for row in (told := conclude(rows)):
        sure = row["verdict"] in ("better", "worse")
        assert sure == (row["p_holm"] < 0.05) == (not row["low"] <= 0 <= row["high"])
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["auc_low"] <= row["auc_difference"] <= row["auc_high"]
        assert sure == (row["difference"] and row["difference"] < 0) or row["verdict"] != "better"
    assert conclude(told) == told, "the same again from what was written"


def test_what_another_hand_wrote_is_told_by_the_same_rule():
    row = drawn_cells(3, 0)[0]
    forged = row | {"low": 0.19, "high": 0.62, "difference": -0.08, "p": 1e-9, "p_holm": 1e-9, "verdict": "better"}
    assert conclude([forged]) == conclude([row])


def test_auc_intervals_of_an_older_study_are_told_again():
    row = drawn_cells(5, 0)[0]
    now = conclude([row])[0]
    old = {key: value for key, value in row.items() if key != "auc_sd"}
    half = reach(5, 0.05) * row["auc_sd"]
    old |= {"auc_low": row["auc_difference"] - half, "auc_high": row["auc_difference"] + half}
    again = conclude([old])[0]
    assert (again["auc_low"], again["auc_high"]) == pytest.approx((now["auc_low"], now["auc_high"]))


def drawn_cells(num_seeds, draw):
    """Cells of one arm as a study has them before they are concluded: effects of none to very sure."""
    rng = np.random.default_rng([num_seeds, draw])
    rows = []
    for i in range(1 + rng.integers(0, 12)):
        per_seed = rng.normal(rng.choice([0, 0.1, -3, 40]), 10.0 ** rng.integers(-3, 2), num_seeds)
        axis = ("overall", "all") if i == 0 else ("age", f"cohort {i}")
        row = {"arm": "c2al", "axis": axis[0], "cohort": axis[1], "rows": 100, "positives": 10}
        row |= {"per_seed": {str(seed): float(value) for seed, value in enumerate(per_seed)}, "ne_reference": 0.9}
        row |= {"auc_difference": float(rng.normal(0, 1e-3)), "auc_sd": float(rng.gamma(1, 1e-4))}
        rows.append(row)
    return rows
