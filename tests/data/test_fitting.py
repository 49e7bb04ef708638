import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import skew

from c2al.data import fitting
from c2al.data.fitting import AxisFit, Moments, Scale
from tests.data.raw_rows import prepared, write


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_moments_of_a_stream_are_those_of_the_whole(shift):
    values = np.random.default_rng(0).gamma(0.5, size=10_000) + shift
    moments = Moments()
    for part in np.array_split(values, [1, 2, 50, 51, 7_000]):
        moments.update(part)
    assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
    assert moments.std == pytest.approx(values.std(), rel=1e-8)
    assert moments.skewness == pytest.approx(skew(values), rel=1e-6)


def scaled(*parts: np.ndarray) -> Scale:
    scale = Scale("x")
    for part in parts:
        scale.update(np.asarray(part, dtype=np.float64))
    return scale


def test_skewed_columns_without_negatives_are_logged_and_others_are_not():
    heavy = np.random.default_rng(0).lognormal(0, 2, 5_000)
    assert scaled(heavy[:10], heavy[10:]).column.transform == "log1p"
    assert scaled(heavy, [-0.1]).column.transform == "none"
    assert scaled([-0.1], heavy).column.transform == "none"
    assert scaled(np.random.default_rng(0).normal(10, 1, 5_000)).column.transform == "none"


def test_encoded_training_values_have_mean_zero_and_deviation_one_and_missing_is_the_mean():
    heavy = np.r_[np.random.default_rng(0).lognormal(0, 2, 5_000), np.nan, np.inf]
    scale = scaled(heavy)
    encoded = scale.encode(heavy)
    assert encoded.dtype == np.float32
    assert encoded[-2:].tolist() == [0, 0]
    assert encoded[:-2].mean() == pytest.approx(0, abs=1e-5)
    assert encoded[:-2].std() == pytest.approx(1, abs=1e-5)
    assert np.isfinite(scale.encode(np.array([-1e300, -1.0, 1e300, -np.inf]))).all()


@pytest.mark.parametrize("values", [[], [np.nan, np.inf], [3.0, 3.0], [1e9] * 100])
def test_a_column_without_spread_keeps_deviation_one(values):
    scale = scaled(values)
    assert scale.column.std == 1.0
    assert np.all(scale.encode(np.asarray(values, dtype=np.float64)) == 0)


def test_an_axis_of_many_rows_is_made_from_a_subsample(monkeypatch):
    monkeypatch.setattr(fitting, "AXIS_ROWS", 2_000)
    values = np.random.default_rng(0).normal(size=40_000)
    fit = AxisFit("x", "quantile")
    for rows in np.array_split(np.arange(len(values)), 30):
        fit.update(pa.array(values[rows]), rows)
        assert sum(len(draws) for _, draws in fit._kept) <= 2_000
    assert fit.axis.cohorts[0] == "bottom 5%"
    shares = np.bincount(fit.encode(pa.array(values))) / len(values)
    assert shares == pytest.approx([0.05, 0.2, 0.25, 0.25, 0.2, 0.05], abs=0.03)


@pytest.mark.parametrize(
    ("values", "cohorts"),
    [
        (pa.array(["b", "a", "b", None]), ("b", "a", "unknown")),
        (pa.array([True, False, None]), ("false", "true", "unknown")),
        (pa.array([3, 1, None]), ("1", "3", "unknown")),
        (pa.array([10, 9, 10], pa.int8()), ("9", "10")),
    ],
)
def test_categories_of_any_type(values, cohorts):
    fit = AxisFit("x", "category")
    fit.update(values, np.arange(len(values)))
    assert fit.axis.cohorts == cohorts
    assert sorted(set(fit.encode(values))) == list(range(len(cohorts)))


@pytest.mark.parametrize("absurd", [1.7976931348623157e308, -1.7976931348623157e308, 1e110, 3.4e38])
def test_an_absurd_value_does_not_move_the_scale_and_is_clipped_and_noted(absurd):
    values = np.random.default_rng(0).normal(5, 2, 2_000)
    with np.errstate(all="raise"):
        scale = scaled(values[:1_000], [absurd], values[1_000:])
        assert scale.column == scaled(values).column
        encoded = scale.encode(np.array([absurd, 5.0, np.nan]))
    assert encoded[0] == np.sign(absurd) * fitting.FARTHEST
    assert abs(encoded[1]) < 0.1
    assert encoded[2] == 0
    assert f"{absurd:.4g}" in scale.note


@pytest.mark.parametrize(
    "values",
    [
        [1.7e308, -1.7e308],
        [np.inf, -np.inf, np.nan],
        [np.inf, 1.0, 2.0],
        [5e-324, 1e-323, 0.0],
        [1e-200, 2e-200, 3e-200],
        [1e30, -1e30, 0.0],
        [2.0**53, 2.0**53 + 2],
        [],
    ],
)
def test_extreme_values_are_stored_as_finite_numbers_without_a_warning(values):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scale = scaled(values, values)
        assert np.isfinite(scale.encode(np.array(values))).all()
    assert np.isfinite([scale.column.mean, scale.column.std]).all()
    assert scale.column.std > 0


def test_small_numbers_keep_their_differences():
    values = np.random.default_rng(0).normal(0, 1e-20, 1_000)
    assert scaled(values).encode(values).std() == pytest.approx(1, rel=1e-3)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [1.7976931348623157e308, -1e110, float("inf"), float("nan"), 5e-324, 3.4e38])
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_rows_with_extreme_values_are_prepared_without_a_warning(tmp_path, value, share):
    rng = np.random.default_rng(0)
    x = np.where(rng.random(500) < share, value, rng.normal(size=500))
    x[1::250] = -x[0]
    folder = write(tmp_path, pa.table({"x": x, "user": rng.integers(0, 9, 500), "clicked": np.arange(500) % 2}))
    schema, tables = prepared(folder, sparse=["user"], dense=["x"], axes=["x"] if share < 1 else [])
    for table in tables.values():
        assert np.isfinite(table["x"].to_numpy()).all()
    [line] = [found for found in schema.notes["found"] if found["column"] == "x"]
    assert ("clipped" in line["note"]) == (1e30 < abs(value) < float("inf"))


BIG = 900_000_000_000_000_000


@pytest.mark.parametrize(
    ("values", "cohorts"),
    [
        (pa.array([BIG + 1, BIG + 2, None]), (str(BIG + 1), str(BIG + 2), "unknown")),
        (pa.array([10**30, 10**30 + 1], pa.decimal128(38, 0)), (str(10**30), str(10**30 + 1))),
        (pa.array([b"g0", b"g1"]), ("g0", "g1")),
        (pa.array([0.1, 1.5, 2.0], pa.float32()), ("0.1", "1.5", "2")),
        (pa.array([10, 9, None, -1]), ("-1", "9", "10", "unknown")),
        (pa.array([10.0, 9.5, float("nan")]), ("9.5", "10", "unknown")),
        (pa.array([True, False, False, None]), ("false", "true", "unknown")),
        (pa.array([" b", "a", "a", ""]), ("a", "b", "unknown")),
        (pa.nulls(3, pa.string()), ("unknown",)),
        (pa.nulls(3, pa.int64()), ("unknown",)),
    ],
)
def test_cohorts_are_named_by_all_digits_of_their_values(values, cohorts):
    fit = AxisFit("x", "category")
    for row in range(len(values)):  # a chunk may have nulls, or none
        fit.update(values.slice(row, 1), np.array([row]))
    assert fit.axis.cohorts == cohorts
    ids = np.concatenate([fit.encode(values.slice(row, 1)) for row in range(len(values))])
    assert set(ids) == set(range(len(cohorts)))
