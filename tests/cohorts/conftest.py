"""A scores file with two unit-level axes and one row-level axis, correlated within units."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import CohortAxis, Schema

REVENUE = CohortAxis("revenue", ("bottom 10%", "10-50%", "50-90%", "top 10%"), "quantile")
AGE = CohortAxis("age", ("18-34", "35-54", "55+"))
SURFACE = CohortAxis("surface", ("shelf", "mailer", "endcap"))
SCHEMA = Schema(name="made", label="y", sparse=(), axes=(REVENUE, AGE, SURFACE), weight="w", unit="household")


def columns(*, seed: int = 0, effect: float = 0.0, num_rows: int = 30_000, num_units: int = 500) -> dict:
    """``effect`` lowers the logits of the bottom tenth by revenue and raises those of the top tenth."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(sigma=0.8, size=num_units)
    unit = rng.choice(num_units, num_rows, p=size / size.sum())
    revenue = np.searchsorted([0.1, 0.5, 0.9], size.argsort().argsort() / num_units, side="right")[unit]
    logit = -2 + 0.5 * rng.normal(size=num_units)[unit] + 0.8 * rng.normal(size=num_rows)
    logit += effect * ((revenue == 3).astype(float) - (revenue == 0))
    label = rng.random(num_rows) < 1 / (1 + np.exp(-logit))
    return {
        "row": np.arange(num_rows),
        "label": label.astype(np.int8),
        "weight": np.where(label, 1.0, 4.0).astype(np.float32),
        "logit": logit.astype(np.float32),
        "unit": unit.astype(np.int32),
        "cohort_revenue": revenue.astype(np.int16),
        "cohort_age": rng.choice(3, num_units)[unit].astype(np.int16),
        "cohort_surface": rng.choice(3, num_rows, p=(0.6, 0.3, 0.1)).astype(np.int16),
    }


@pytest.fixture
def schema() -> Schema:
    return SCHEMA


@pytest.fixture
def made() -> Callable[..., dict]:
    return columns


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict], str]:
    def to_file(columns: dict) -> str:
        path = str(tmp_path / "scores.parquet")
        pq.write_table(pa.table(columns), path)
        return path

    return to_file
