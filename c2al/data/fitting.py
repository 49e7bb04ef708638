"""What training rows fix before anything is written: a dense column's scale, a sample of values for cohort axes."""

import numpy as np
import pyarrow as pa

from c2al.cohorts import axes
from c2al.data.draws import uniform
from c2al.data.raw_values import numbers_of, texts_of
from c2al.schema import CohortAxis, DenseColumn

SKEWED = 2.0  # a column without negative values is log1p-transformed from this skewness on
FARTHEST = 1e6  # standard deviations from the mean: new values may be absurd, and float32 must hold them
ABSURD = 1e30  # beyond it a number says nothing of the column, as DBL_MAX where a log has no value
LEAST_STD = 1e-100  # below it squares vanish, and quotients overflow
AXIS_ROWS = 1_000_000


class Scale:
    """Mean and standard deviation of a dense column, as it is and under log1p; nulls, NaN and infinities left out.

    The column is stored as ``(transform(x) - mean) / std``; missing values as 0, which is the mean. Numbers beyond
    ±``ABSURD`` do not count for mean and standard deviation; they are stored as ±``FARTHEST``, as at serving, and
    ``note`` says so.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.num, self.least = 0, np.inf
        self.num_absurd, self.absurd = 0, 0.0
        self.num_infinite = 0
        self._plain, self._log = Moments(), Moments()
        self._finished: DenseColumn | None = None

    def update(self, values: np.ndarray) -> None:
        """Take in some training rows."""
        self.num_infinite += int(np.isinf(values).sum())
        known = values[np.isfinite(values)]
        absurd = np.abs(known) > ABSURD
        if absurd.any():
            self.num_absurd += int(absurd.sum())
            self.absurd = float(known[absurd][0])
            known = known[~absurd]
        if not len(known):
            return
        self.num += len(known)
        self.least = min(self.least, float(known.min()))
        self._plain.update(known)
        if self.least >= 0:
            self._log.update(np.log1p(known))

    @property
    def column(self) -> DenseColumn:
        """Transform, mean and standard deviation (1 for a constant)."""
        if self._finished is None:
            logged = self.least >= 0 and self._plain.skewness > SKEWED
            moments = self._log if logged else self._plain
            std = moments.std if moments.std > max(1e-12 * abs(moments.mean), LEAST_STD) else 1.0
            transform = "log1p" if logged else "none"
            self._finished = DenseColumn(self.name, transform, mean=float(moments.mean), std=float(std))
        return self._finished

    @property
    def note(self) -> str:
        """What of the training rows was not taken as it is."""
        notes = []
        if self.num_absurd:
            notes.append(
                f"{self.num_absurd:,} beyond ±{ABSURD:.0e} such as {self.absurd:.4g}: clipped, not in the scale"
            )
        if self.num_infinite:
            notes.append(f"{self.num_infinite:,} infinite: missing")
        return "; ".join(notes)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The stored values, float32."""
        return normalized(values, self.column)


def normalized(values: np.ndarray, column: DenseColumn) -> np.ndarray:
    """Numbers as they are stored, float32, at most ±``FARTHEST``; log1p takes anything below -1 + 1e-6 as that."""
    values = np.where(np.isfinite(values), values, np.nan)
    if column.transform == "log1p":
        values = np.log1p(np.maximum(values, -1 + 1e-6))
    with np.errstate(over="ignore", under="ignore"):
        return np.nan_to_num(np.clip((values - column.mean) / column.std, -FARTHEST, FARTHEST)).astype(np.float32)


class Moments:
    """Mean, standard deviation and skewness of a stream (pairwise update of central moments: Pébay, SAND2008-6212)."""

    def __init__(self) -> None:
        self.num, self.mean, self.m2, self.m3 = 0, 0.0, 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Take in some values."""
        num, mean = len(values), float(values.mean())
        centred = values - mean
        with np.errstate(under="ignore"):
            m2, m3 = float((centred**2).sum()), float((centred**3).sum())
        total, delta = self.num + num, mean - self.mean
        self.m3 += m3 + delta**3 * self.num * num * (self.num - num) / total**2
        self.m3 += 3 * delta * (self.num * m2 - num * self.m2) / total
        self.m2 += m2 + delta**2 * self.num * num / total
        self.mean += delta * num / total
        self.num = total

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return float(np.sqrt(self.m2 / self.num)) if self.num else 0.0

    @property
    def skewness(self) -> float:
        """Third standardised moment; 0 for a constant."""
        return float(self.m3 / self.num / self.std**3) if self.std > LEAST_STD else 0.0


class AxisFit:
    """Makes an axis from training rows: all of them up to ``AXIS_ROWS``, then an even subsample.

    Categories are the texts that ids are made of, with all their digits; quantiles are of numbers.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self._kept: list[tuple[pa.Array, np.ndarray]] = []
        self._share = 1.0
        self._axis: CohortAxis | None = None

    def update(self, values: pa.Array, rows: np.ndarray) -> None:
        """Take in some training rows, given with their numbers."""
        self._keep(values if self.kind == "quantile" else texts_of(values), uniform(0, rows))
        if sum(len(draws) for _, draws in self._kept) > AXIS_ROWS:
            self._share /= 2
            kept, self._kept = self._kept, []
            for old, draws in kept:
                self._keep(old, draws)

    def _keep(self, values: pa.Array, drawn: np.ndarray) -> None:
        chosen = drawn < self._share
        self._kept.append((values.filter(pa.array(chosen)), drawn[chosen]))

    @property
    def axis(self) -> CohortAxis:
        """The axis, made at the first call."""
        if self._axis is None:
            values = pa.chunked_array([values for values, _ in self._kept])
            if self.kind == "quantile":
                self._axis = axes.quantile(numbers_of(values), name=self.name)[1]
            else:
                self._axis = axes.category(values, name=self.name)[1]
            self._kept = []
        return self._axis

    def encode(self, values: pa.Array) -> np.ndarray:
        """Cohort ids, int16."""
        return axes.apply(self.axis, numbers_of(values) if self.kind == "quantile" else texts_of(values))
