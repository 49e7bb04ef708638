import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from c2al.cohorts.axes import apply, category, cross, quantile
from c2al.schema import CohortAxis, DataError, Schema


def names(ids: np.ndarray, axis: CohortAxis) -> list[str]:
    return [axis.cohorts[i] if i >= 0 else "-" for i in ids]


def test_category_names_follow_the_values_and_nulls_are_unknown():
    values = np.array(["tv", None, "web", "web", np.nan, "app", "web", "tv"], dtype=object)
    ids, axis = category(values, name="surface")
    assert axis.cohorts == ("web", "tv", "app", "unknown")
    assert ids.dtype == np.int16
    assert names(ids, axis) == ["tv", "unknown", "web", "web", "unknown", "app", "web", "tv"]


@pytest.mark.parametrize(
    ("values", "cohorts"),
    [
        ([10, 9, -3, 10], ("-3", "9", "10")),
        ([2.0, np.nan, 1.5, 2.0], ("1.5", "2", "unknown")),
        (["25-34", "Under 18", "56+", "18-24", "56+"], ("Under 18", "18-24", "25-34", "56+")),
        (["Under 15K", "250K+", "15-24K", "100-124K"], ("Under 15K", "15-24K", "100-124K", "250K+")),
        ([True, False, True], ("true", "false")),
        ([1e6, 2e5], ("200000", "1000000")),
    ],
)
def test_category_keeps_the_order_of_numbers(values, cohorts):
    assert category(np.array(values), name="a")[1].cohorts == cohorts


def test_category_puts_the_rarest_into_other():
    values = np.repeat(np.array(["a", "b", "c", "d", "e", None], dtype=object), [1, 5, 3, 2, 9, 4])
    ids, axis = category(values, name="a", max_cohorts=3)
    assert axis.cohorts == ("e", "b", "other", "unknown")
    assert np.bincount(ids).tolist() == [9, 5, 6, 4]
    # exactly as many values as there is room for: none is lumped
    assert "other" not in category(values, name="a", max_cohorts=5)[1].cohorts


def test_values_called_other_or_unknown_join_those():
    values = np.array(["x", "other", "unknown", None, "x", ""], dtype=object)
    ids, axis = category(values, name="a")
    assert axis.cohorts == ("x", "other", "unknown")
    assert ids.tolist() == [0, 1, 2, 2, 0, 2]


def test_category_refuses_mixed_types_and_no_rows():
    with pytest.raises(DataError, match=r"one type.*column mixed"):
        category(np.array(["a", 3, 2.5], dtype=object), name="mixed")
    with pytest.raises(DataError, match="no rows"):
        category(np.array([], dtype=object), name="a")


def test_apply_gives_new_rows_the_same_ids():
    values = np.array(["a", "b", "b", None, "c"], dtype=object)
    ids, axis = category(values, name="a", max_cohorts=2)
    np.testing.assert_array_equal(apply(axis, values), ids)
    assert names(apply(axis, np.array(["b", "never seen", None], dtype=object)), axis) == ["b", "other", "unknown"]
    strict = category(np.array([1, 2]), name="a")[1]
    assert names(apply(strict, np.array([2.0, 7.0, np.nan])), strict) == ["2", "-", "-"]


def test_quantiles_without_ties_hold_their_shares():
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    ids, axis = quantile(values, name="revenue")
    assert axis.cohorts == ("bottom 5%", "5-25%", "25-50%", "50-75%", "75-95%", "top 5%")
    assert np.bincount(ids).tolist() == [50, 200, 250, 250, 200, 50]
    assert (np.diff(ids[np.argsort(values)]) >= 0).all()
    assert axis.kind == "quantile"


def test_quantile_agrees_with_pandas_cut_on_its_edges():
    rng = np.random.default_rng(1)
    values, reference = rng.lognormal(size=500), rng.lognormal(size=3000)
    ids, axis = quantile(values, name="q", cuts=(0.1, 0.5, 0.9), reference=reference)
    assert axis.edges == tuple(np.quantile(reference, [0.1, 0.5, 0.9], method="inverted_cdf"))
    expected = pd.cut(values, [-np.inf, *axis.edges, np.inf], labels=False)
    np.testing.assert_array_equal(ids, expected)


def test_ties_collapse_cuts_and_never_part_equal_values():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], [60, 20, 14, 6])
    ids, axis = quantile(values, name="q")
    # 5, 25 and 50 % are all at 0; 95 % is at 3, the greatest value
    assert axis.cohorts == ("bottom 50%", "50-75%", "top 25%")
    assert axis.edges == (0.0, 1.0)
    assert np.bincount(ids).tolist() == [60, 20, 20]
    assert quantile(np.zeros(9), name="q")[1].cohorts == ("all",)


def test_quantile_nulls_infinities_and_new_rows():
    ids, axis = quantile(np.array([1.0, None, 2.0, np.inf, -np.inf, np.nan], dtype=object), name="q", cuts=(0.5,))
    assert names(ids, axis) == [
        "bottom 50%",
        "unknown",
        "top 50%",
        "top 50%",
        "bottom 50%",
        "unknown",
    ]
    strict = quantile(np.arange(10), name="q", cuts=(0.5,))[1]
    assert strict.cohorts == ("bottom 50%", "top 50%")
    assert apply(strict, np.array([-1e9, 4, 5, 1e9, np.nan])).tolist() == [0, 0, 1, 1, -1]


def test_integer_weights_are_repetitions():
    rng = np.random.default_rng(2)
    values, times = rng.normal(size=200).round(1), rng.integers(0, 5, 200)
    weighted = quantile(values, name="q", weights=times.astype(float))[1]
    assert weighted == quantile(values, name="q", reference=np.repeat(values, times))[1]


@pytest.mark.parametrize("cuts", [(), (0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_quantile_refuses_bad_cuts(cuts):
    with pytest.raises(DataError, match="between 0 and 1"):
        quantile(np.arange(10), name="q", cuts=cuts)


def test_quantile_refuses_text_and_emptiness():
    with pytest.raises(DataError, match="needs numbers"):
        quantile(np.array(["a", "b"]), name="q")
    with pytest.raises(DataError, match="nothing to take quantiles of"):
        quantile(np.array([np.nan, np.nan]), name="q")
    with pytest.raises(DataError, match="weights"):
        quantile(np.arange(3), name="q", weights=np.ones(2))


def test_cross_numbers_as_the_schema_does():
    ids_a, axis_a = category(np.array(["u", "v", "u", "v"]), name="age")
    ids_b, axis_b = category(np.array(["p", "q", "r", "p"]), name="surface")
    ids_a[3] = -1
    ids, axis = cross(ids_a, axis_a, ids_b, axis_b)
    schema = Schema(name="s", label="y", sparse=(), axes=(axis_a, axis_b))
    assert axis == schema.axis("age_x_surface")
    assert names(ids, axis) == ["u × p", "v × q", "u × r", "-"]
    with pytest.raises(DataError, match="no rule"):
        apply(axis, np.array(["u"]))


def test_cross_refuses_more_cohorts_than_the_ids_hold():
    many = CohortAxis("a", tuple(map(str, range(200))))
    with pytest.raises(DataError, match="int16"):
        cross(np.zeros(1), many, np.zeros(1), CohortAxis("b", many.cohorts))


def test_a_column_without_a_value_has_one_cohort():
    for values in (pa.nulls(3), pa.nulls(3, pa.string()), np.array([None, None, None])):
        ids, axis = category(values, name="x")
        assert (axis.cohorts, ids.tolist()) == (("unknown",), [0, 0, 0])
