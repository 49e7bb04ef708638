"""Logits -> calibrated probabilities: as they are, corrected for sampled negatives, or along an isotonic curve.

A calibration is a plain dict, as manifests hold it: ``{"kind": "none"}``, ``{"kind": "sampling", "kept": 0.01}`` or
``{"kind": "isotonic", "logit": [...], "probability": [...]}``.

* Sampling: a model that was trained on all positives and a share ``kept`` of the negatives, unweighted, predicts odds
  that are 1 / kept times too high. ``p' = kept·p / (1 - p + kept·p)``, which is ``logit + log(kept)`` (He et al. 2014,
  "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD, section 6.3; Dal Pozzolo et al. 2015,
  "Calibrating Probability with Undersampling for Unbalanced Classification", SSCI). Exact where negatives were dropped
  at random. A model trained on negatives that weigh 1 / kept each needs none.
* Isotonic: the rising curve nearest to the labels by weighted squares (Zadrozny and Elkan 2002, KDD), linear between
  its knots and constant beyond them.
"""

import math
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from c2al.schema import DataError

NONE: dict[str, Any] = {"kind": "none"}
KINDS = ("none", "sampling", "isotonic")
MOST_KNOTS = 1000


def probabilities(logit_B: np.ndarray, calibration: Mapping[str, Any]) -> np.ndarray:
    """Float64, in the order of the logits."""
    return sigmoid(calibrated_logits(logit_B, calibration))


def calibrated_logits(logit_B: np.ndarray, calibration: Mapping[str, Any]) -> np.ndarray:
    """Log-odds of the calibrated probabilities, float64."""
    logit_B = np.asarray(logit_B, np.float64)
    kind = calibration.get("kind")
    if kind == "none":
        return logit_B
    if kind == "sampling":
        return logit_B + math.log(checked_kept(calibration["kept"]))
    if kind == "isotonic":
        p = np.interp(logit_B, calibration["logit"], calibration["probability"])
        return np.where(np.isnan(logit_B), np.nan, np.log(p) - np.log1p(-p))
    raise DataError("no such calibration", value=kind, remedy=f"one of {', '.join(KINDS)}")


def sigmoid(logit_B: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow."""
    smaller = np.exp(-np.abs(logit_B))
    return np.where(logit_B >= 0, 1.0, smaller) / (1.0 + smaller)


def chosen(kind: str, *, kept: float | None = None, scores: str | None = None) -> dict[str, Any]:
    """The calibration of that kind: ``kept`` is for sampling, ``scores`` (a run's scores of a split) for isotonic."""
    if kind == "none":
        return dict(NONE)
    if kind == "sampling":
        return {"kind": "sampling", "kept": checked_kept(kept)}
    if kind == "isotonic":
        if scores is None:
            raise DataError("nothing to fit the calibration to", remedy="name a run's scores/validation.parquet")
        return fit_isotonic(scores)
    raise DataError("no such calibration", value=kind, remedy=f"one of {', '.join(KINDS)}")


def check_used(kind: str | None, *, kept: Any = None, scores: Any = None) -> None:
    """Raise a DataError where ``kept`` or ``scores`` is given to a kind of calibration that does not use it."""
    for key, value, of in (("kept", kept, "sampling"), ("scores", scores, "isotonic")):
        if value is not None and kind != of:
            raise DataError(f"{key} is of calibration={of}", value=value, remedy=f"say calibration={of} too")


def checked_kept(kept: Any) -> float:
    """The share of negatives that were kept, a DataError unless it is above 0 and at most 1."""
    if not isinstance(kept, int | float) or isinstance(kept, bool) or not 0 < kept <= 1:
        remedy = "say which share of the negatives the model was trained on: above 0, at most 1"
        raise DataError("calibration by sampling needs the share that was kept", value=kept, remedy=remedy)
    return float(kept)


def fit_isotonic(scores: str) -> dict[str, Any]:
    """Fit to a file of scores with columns label, weight and logit, such as a run's ``scores/validation.parquet``.

    Raises:
        DataError: there are none, or they hold other than numbers, labels 0 and 1, weights from 0 on, finite logits.
    """
    named = "name a run's scores/validation.parquet"
    try:
        with fsspec.open(scores, "rb") as file:
            table = pq.read_table(file, columns=["label", "weight", "logit"])
        label, weight, logit = (_numbers(table, name, scores) for name in ("label", "weight", "logit"))
    except FileNotFoundError:
        remedy = "evaluate the run on validation first: c2al evaluate run=… split=validation"
        raise DataError("no scores to fit the calibration to", file=scores, remedy=remedy) from None
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        problem = f"not a file of scores: {(str(error).splitlines() or [''])[0][:200]}"
        raise DataError(problem, file=scores, remedy=named) from error
    _check_scores(label, weight, logit, scores)
    return isotonic(logit, label, weight)


def _numbers(table: pa.Table, name: str, file: str) -> np.ndarray:
    kind = table[name].type
    if not (pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind)):
        remedy = "name a run's scores/validation.parquet"
        raise DataError(f"scores of type {kind}, numbers expected", file=file, column=name, remedy=remedy)
    return table[name].to_numpy().astype(np.float64)


def _check_scores(label: np.ndarray, weight: np.ndarray, logit: np.ndarray, file: str) -> None:
    again = "evaluate the run again, or name a run's scores/validation.parquet"
    usable = {
        "label": (np.isin(label, (0, 1)), "a label other than 0 and 1"),
        "weight": (np.isfinite(weight) & (weight >= 0), "a weight that is below 0 or not finite"),
        "logit": (np.isfinite(logit), "a logit that is not finite"),
    }
    values = {"label": label, "weight": weight, "logit": logit}
    for name, (fits, problem) in usable.items():
        if not fits.all():
            raise DataError(problem, file=file, column=name, value=values[name][~fits][0], remedy=again)
    if not (weight[label == 1].sum() > 0 and weight[label == 0].sum() > 0):
        remedy = "take scores of a split that has both, with weights above 0"
        raise DataError("a calibration needs positives and negatives", file=file, remedy=remedy)


def isotonic(logit_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray, knots: int = MOST_KNOTS) -> dict[str, Any]:
    """The fit, at most ``knots`` points of it.

    No probability is 0 or 1, on which one wrong label would cost all: they keep half a mean row away from both.
    """
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(out_of_bounds="clip").fit(logit_B, label_B, sample_weight=weight_B)
    least = 0.5 / (len(logit_B) + 1)
    x, y = fit.X_thresholds_.astype(np.float64), np.clip(fit.y_thresholds_.astype(np.float64), least, 1 - least)
    kept = _thinned(x, y, logit_B, weight_B, knots)
    return {"kind": "isotonic", "logit": x[kept].tolist(), "probability": y[kept].tolist()}


def _thinned(x: np.ndarray, y: np.ndarray, logit_B: np.ndarray, weight_B: np.ndarray, knots: int) -> np.ndarray:
    """Which points to keep: even steps of rows passed and of log-odds risen together, so that neither jumps."""
    if len(x) <= knots:
        return np.arange(len(x))
    order = np.argsort(logit_B, kind="stable")
    passed = np.concatenate([[0.0], np.cumsum(weight_B[order])])[np.searchsorted(logit_B[order], x, side="right")]
    odds = np.log(y) - np.log1p(-y)
    way = (passed - passed[0]) / (passed[-1] - passed[0]) + (odds - odds[0]) / max(odds[-1] - odds[0], 1e-12)
    return np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], knots)).clip(0, len(x) - 1))
