from dataclasses import replace

import numpy as np
import pytest

from c2al.cohorts.scores import read_scores
from c2al.schema import DataError


def test_rows_are_binned_by_log10_probability_over_the_pooled_range(schema, made, write):
    columns = made()
    columns["logit"][0] = -40.0  # an outlier stretches nothing
    read = read_scores(write(columns), schema=schema, axes=[schema.axis("age")], num_bins=50)
    probability = 1 / (1 + np.exp(-columns["logit"].astype(np.float64)))
    np.testing.assert_allclose(read.probability, probability, rtol=1e-9)
    low, high = read.edges[[0, -1]]
    assert low > -4
    np.testing.assert_allclose(np.diff(read.edges), (high - low) / 50)
    score = np.log10(probability)
    expected, _ = np.histogram(np.clip(score, low, high), bins=50, range=(low, high), weights=columns["weight"])
    np.testing.assert_allclose(np.bincount(read.bin, read.weight, 50), expected)
    outside = columns["weight"][(score < low) | (score > high)].sum() / columns["weight"].sum()
    assert outside <= 0.0011  # 0.05 % at either end, and the outlier
    assert read.std == pytest.approx(np.sqrt(np.cov(score, aweights=columns["weight"], ddof=0)))


def test_crossed_axes_are_put_together_from_the_stored_ones(schema, made, write):
    columns = made()
    columns["cohort_age"][:5] = -1
    axis = schema.axis("age_x_surface")
    read = read_scores(write(columns), schema=schema, axes=[axis], num_bins=50)
    assert (read.ids["age_x_surface"][:5] == -1).all()
    for row in (10, 11, 12):
        age, surface = (schema.axis(a).cohorts[columns[f"cohort_{a}"][row]] for a in ("age", "surface"))
        assert axis.cohorts[read.ids["age_x_surface"][row]] == f"{age} × {surface}"


@pytest.mark.parametrize("column", ["label", "weight", "logit", "unit", "cohort_age"])
def test_a_missing_column_is_named(schema, made, write, column):
    columns = made()
    del columns[column]
    with pytest.raises(DataError, match=f"lack a column.*column {column}.*Remedy"):
        read_scores(write(columns), schema=schema, axes=[schema.axis("age_x_surface")], num_bins=50)


def test_without_a_unit_in_the_schema_none_is_needed(schema, made, write):
    columns = made()
    del columns["unit"]
    free = replace(schema, unit=None)
    assert read_scores(write(columns), schema=free, axes=[free.axis("age")], num_bins=50).unit is None


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("logit", np.nan, "column logit, value nan"),
        ("logit", np.inf, "column logit, value inf"),
        ("weight", -1.0, r"column weight, value -1\.0"),
        ("weight", 0.0, r"column weight, value 0\.0"),
        ("label", 2, "column label, value 2"),
        ("cohort_age", 3, "column cohort_age, value 3.*has 3 cohorts"),
        ("cohort_age", -2, "column cohort_age, value -2"),
    ],
)
def test_a_bad_value_is_named(schema, made, write, column, value, message):
    columns = made()
    columns[column][17] = value
    with pytest.raises(DataError, match=message):
        read_scores(write(columns), schema=schema, axes=[schema.axis("age")], num_bins=50)


def test_files_that_are_none_nulls_and_constant_predictions(schema, made, write, tmp_path):
    axes = [schema.axis("age")]
    with pytest.raises(DataError, match=r"no scores there.*Remedy"):
        read_scores(str(tmp_path / "none.parquet"), schema=schema, axes=axes, num_bins=50)
    (tmp_path / "text.parquet").write_text("this is no parquet file")
    with pytest.raises(DataError, match="do not read"):
        read_scores(str(tmp_path / "text.parquet"), schema=schema, axes=axes, num_bins=50)
    columns = made()
    with pytest.raises(DataError, match="no rows"):
        read_scores(write({k: v[:0] for k, v in columns.items()}), schema=schema, axes=axes, num_bins=50)
    nulls = {**columns, "unit": [None, *columns["unit"].tolist()[1:]]}
    with pytest.raises(DataError, match=r"nulls.*column unit"):
        read_scores(write(nulls), schema=schema, axes=axes, num_bins=50)
    columns["logit"][:] = -3
    with pytest.raises(DataError, match="all predictions are the same"):
        read_scores(write(columns), schema=schema, axes=axes, num_bins=50)
