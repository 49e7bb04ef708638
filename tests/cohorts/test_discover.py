from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from c2al.cohorts.discover import discover
from c2al.cohorts.divergence import DIVERGENCES
from c2al.cohorts.resampling import least_shown
from c2al.schema import CohortAxis, DataError

AXES = ["revenue", "age", "surface", "age_x_surface"]
quick = partial(discover, min_rows=300, min_positives=10, num_permutations=499, num_bootstraps=100)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_planted_pair_comes_first(schema, made, write, divergence):
    found = quick(scores=write(made(effect=0.5)), schema=schema, axes=AXES, divergence=divergence)
    best = found.pairs[0]
    assert (best.axis, best.head.name, best.tail.name) == ("revenue", "top 10%", "bottom 10%")
    assert best.significant
    assert best.p_holm == least_shown(found.settings["num_permutations"])
    assert 0 < best.interval[0] < best.interval[1]
    assert best.head.mean_prediction > best.tail.mean_prediction
    assert best.head.positive_rate > best.tail.positive_rate
    assert {pair.axis for pair in found.pairs if pair.significant} == {"revenue"}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_significant_without_contrast(schema, made, write, seed):
    # With rows taken for units (schema and file without one) 2 to 6 of these 48 pairs have Holm's p under 0.05.
    found = quick(scores=write(made(seed=seed)), schema=schema, axes=AXES, negligible=0.0)
    assert len(found.pairs) == 6 + 3 + 3 + 36
    assert not any(pair.significant for pair in found.pairs)


def test_rows_as_units_would_have_found_differences_that_are_none(schema, made, write):
    columns = made()
    del columns["unit"]
    found = quick(scores=write(columns), schema=replace(schema, unit=None), axes=AXES, negligible=0.0)
    assert found.settings["unit"] == "row"
    assert sum(pair.significant for pair in found.pairs) >= 2


def test_sizes_rates_and_divergence_by_brute_force(schema, made, write):
    columns = made(effect=0.3)
    found = quick(scores=write(columns), schema=schema, axes=["age_x_surface"])
    pair = found.pairs[0]
    probability = 1 / (1 + np.exp(-columns["logit"].astype(np.float64)))
    histograms = []
    for side in (pair.head, pair.tail):
        age, surface = side.name.split(" × ")
        rows = columns["cohort_age"] == schema.axis("age").id_of(age)
        rows &= columns["cohort_surface"] == schema.axis("surface").id_of(surface)
        weight, label = columns["weight"][rows].astype(np.float64), columns["label"][rows]
        assert (side.rows, side.positives) == (rows.sum(), label.sum())
        assert side.weight == pytest.approx(weight.sum())
        assert side.positive_rate == pytest.approx(np.average(label, weights=weight))
        assert side.mean_prediction == pytest.approx(np.average(probability[rows], weights=weight))
        of_unit = np.bincount(columns["unit"][rows], weight)
        assert side.units == pytest.approx(of_unit.sum() ** 2 / (of_unit**2).sum())
        score = np.clip(np.log10(probability[rows]), found.bins[0], found.bins[-1])
        histograms.append(np.histogram(score, bins=np.array(found.bins), weights=weight)[0])
    assert pair.divergences["js"] == pytest.approx(jensenshannon(*histograms) ** 2)
    np.testing.assert_allclose(found.histograms[0]["tail"], histograms[1] / histograms[1].sum(), atol=1e-12)


def test_order_significant_first_then_by_the_chosen_divergence(schema, made, write):
    found = quick(scores=write(made(effect=0.3)), schema=schema, axes=AXES, divergence="wasserstein")
    keys = [(not pair.significant, -pair.divergences["wasserstein"]) for pair in found.pairs]
    assert keys == sorted(keys)
    assert 0 < sum(pair.significant for pair in found.pairs) < len(keys)
    # of two cohorts without a difference the divergence is not 0, but its excess over the null is near it
    noise = [pair for pair in found.pairs if pair.axis == "surface"]
    assert all(abs(pair.excess) < pair.divergences["wasserstein"] for pair in noise)


def test_a_difference_of_no_size_is_not_significant(schema, made, write):
    write_scores = write(made(effect=0.5))
    found = quick(scores=write_scores, schema=schema, axes=["revenue"], negligible=3.0)
    assert not any(pair.significant for pair in found.pairs)
    assert found.pairs[0].p_holm == least_shown(found.settings["num_permutations"])


def test_weights_count(schema, made, write):
    def of_extremes(columns: dict) -> float:
        pairs = quick(scores=write(columns), schema=schema, axes=["revenue"]).pairs
        extremes = {"top 10%", "bottom 10%"}
        return next(pair.divergences["js"] for pair in pairs if {pair.head.name, pair.tail.name} == extremes)

    columns = made(effect=0.5)
    plain = of_extremes(columns)
    # Every row once more, in the opposite cohort: top and bottom are alike, until these rows weigh next to nothing.
    twin = {name: np.concatenate([values, values]) for name, values in columns.items()}
    second = np.arange(len(twin["row"])) >= len(columns["row"])
    twin["cohort_revenue"][second] = 3 - twin["cohort_revenue"][second]
    assert of_extremes(twin) == pytest.approx(0, abs=1e-9)
    twin["weight"][second] *= 1e-6
    assert of_extremes(twin) == pytest.approx(plain, rel=1e-3)


def test_small_cohorts_are_left_out_and_listed(schema, made, write):
    columns = made()
    few_units = columns["cohort_age"] == 2
    columns["unit"][few_units] %= 4
    found = quick(scores=write(columns), schema=schema, axes=["revenue", "age"], min_rows=2000)
    why = {(left["axis"], left["cohort"]): left["why"] for left in found.left_out}
    assert set(why) == {("revenue", "bottom 10%"), ("age", "55+")}
    assert why["revenue", "bottom 10%"] == "fewer than 2,000 rows"
    assert "effective units, not 10" in why["age", "55+"]
    assert [pair.axis for pair in found.pairs].count("age") == 1
    with pytest.raises(DataError, match=r"1,000,000 rows.*Remedy: lower min_rows"):
        quick(scores=write(columns), schema=schema, axes=["revenue"], min_rows=1_000_000)


def test_the_seed_decides_and_other_axes_change_nothing_but_the_correction(schema, made, write):
    scores = write(made(seed=3, effect=0.1))
    alone = quick(scores=scores, schema=schema, axes=["age"])
    assert quick(scores=scores, schema=schema, axes=["age"]) == alone
    other = quick(scores=scores, schema=schema, axes=["age"], seed=1)
    assert [pair.p for pair in other.pairs] != [pair.p for pair in alone.pairs]
    among = quick(scores=scores, schema=schema, axes=["surface", "age", "age"])
    p = {(pair.head.name, pair.tail.name): pair.p for pair in among.pairs if pair.axis == "age"}
    assert p == {(pair.head.name, pair.tail.name): pair.p for pair in alone.pairs}


def test_rows_in_no_cohort_are_not_compared(schema, made, write):
    columns = made()
    columns["cohort_age"][columns["cohort_age"] == 1] = -1
    found = quick(scores=write(columns), schema=schema, axes=["age"])
    assert {found.pairs[0].head.name, found.pairs[0].tail.name} == {"18-34", "55+"}
    assert len(found.pairs) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"divergence": "jsd"}, "no such divergence"),
        ({"axes": ["agee"]}, "did you mean age"),
        ({"num_permutations": 5}, "num_permutations is out of range"),
        ({"num_bins": 1}, "num_bins is out of range"),
        ({"negligible": -0.1}, "negligible is out of range"),
        ({"alpha": 0.0}, "alpha is out of range"),
    ],
)
def test_bad_settings_are_refused_before_the_file_is_read(schema, setting, message):
    with pytest.raises(DataError, match=message):
        discover(**{"scores": "/nowhere", "schema": schema, "axes": ["age"], **setting})


def learned_schema(schema):
    words = ("more age=55+ (0.4 against 0.3 of all)", "no column sets it apart")
    return replace(
        schema, axes=(*schema.axes, CohortAxis("learned_kmeans", ("kmeans 1", "kmeans 2"), "learned", words=words))
    )


@pytest.mark.parametrize("real", [True, False])
def test_a_learned_pair_is_sure_only_where_labels_bear_it_out(schema, made, write, real):
    """Cohorts of units by their own predictions: they differ in these, whether or not the labels do."""
    columns = made(num_units=2000)
    mean = np.bincount(columns["unit"], columns["logit"], 2000) / np.bincount(columns["unit"], minlength=2000).clip(1)
    ids = (mean > np.median(mean))[columns["unit"]].astype(np.int16)
    if not real:
        columns["label"] = np.random.default_rng(0).permutation(columns["label"])
        columns["weight"] = np.where(columns["label"], 1.0, 4.0).astype(np.float32)
    find = partial(quick, scores=write(columns), schema=learned_schema(schema), axes=["age", "learned_kmeans"])
    found = find(learned={"learned_kmeans": ids})
    first = next(pair for pair in found.pairs if pair.axis == "learned_kmeans")
    assert first.p_holm == least_shown(found.settings["num_permutations"])
    assert first.interval[0] > found.settings["least"]
    assert first.significant == real
    share, least = first.borne_out
    assert share == pytest.approx(float(real), abs=0.25)
    assert least < share
    assert all(pair.borne_out is None for pair in found.pairs if pair.axis == "age")
    assert found.words["learned_kmeans"]["kmeans 1"].startswith("more age=55+")
    write(columns | {"cohort_learned_kmeans": ids})
    assert find() == found, "stored with the scores, as a run on a view writes them"


def test_learned_cohorts_of_other_rows_are_refused(schema, made, write):
    with pytest.raises(DataError, match="other rows than the learned cohorts"):
        quick(
            scores=write(made()),
            schema=learned_schema(schema),
            axes=["learned_kmeans"],
            learned={"learned_kmeans": np.zeros(7, np.int16)},
        )


def test_intervals_and_verdicts_of_pairs_agree(schema, made, write):
    """The interval starts at zero where the pair may be chance; it holds what is shown; all of it is over ``least``."""
    scores, axes = write(made(effect=0.7)), ["revenue", "age", "surface"]
    found = discover(scores=scores, schema=schema, axes=axes, min_rows=300, num_permutations=99)
    assert {pair.verdict for pair in found.pairs} >= {"sure", "may be chance"}
    for pair in found.pairs:
        low, high = pair.interval
        assert low <= pair.divergences["js"] <= high
        assert pair.significant == (low > pair.least) == (pair.verdict == "sure")
        assert (low == 0) == (pair.verdict == "may be chance")
        assert low == 0 or pair.p_holm <= 0.05
        assert min(pair.p, pair.p_holm) >= 1 / 100


@pytest.mark.parametrize(("spread", "center"), [(0.003, -7), (1, -60), (0.5, 12)])
def test_narrow_and_far_logits_diverge_as_they_stand_to_each_other(schema, made, write, spread, center):
    """Bins go by the quantiles of the predictions: how narrow or how far these are changes nothing of note."""

    def divergence(scale, shift):
        columns = made(effect=0.5)
        columns["logit"] = shift + scale * (columns["logit"].astype(np.float64) + 3)
        found = discover(scores=write(columns), schema=schema, axes=["revenue"], min_rows=300, num_permutations=19)
        return found.pairs[0].divergences["js"]

    assert divergence(spread, center) == pytest.approx(divergence(1.0, -9.0), rel=0.15)
