"""Normalized entropy, AUC, calibration and log loss, weighted, overall and per cohort of every axis.

Sums are float64 and streaming; ranks add them up (``all_reduce`` each of ``state()``). Rows are kept for AUC alone.

* log loss: weighted mean of ``softplus(logit) - y·logit``.
* NE: log loss over the entropy of the evaluated rows' own weighted mean label (He et al. 2014, "Practical Lessons from
  Predicting Clicks on Ads at Facebook").
* calibration: ``Σ w p / Σ w y``.
* AUC: exact (``c2al.auc``); where there are more rows than memory is given for, with what it may err by.

A value that is not defined is None: NE and AUC where the labels are all alike, NE also where the weights of one label
vanish beside those of the other in float64, calibration without positives, all of them where a logit is NaN.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from c2al.auc import AreaUnderCurve, Gather, alone
from c2al.schema import CohortAxis

NUM_SUMS = 6  # rows, positives, weight, positive weight, loss, prediction

Values = dict[str, float | int | None]


class Metrics:
    """Takes batches, gives values. Segments are all rows (segment 0), then every cohort of every axis in turn.

    Memory: 8 bytes a row and 2 a row and axis, up to 1 GiB (``c2al.auc``).
    """

    def __init__(self, axes: Sequence[CohortAxis], device: torch.device | str = "cpu") -> None:
        self.axes = list(axes)
        starts = [1]
        for axis in self.axes:
            starts.append(starts[-1] + len(axis.cohorts))
        self.num_segments = starts[-1]
        self._start_A = torch.tensor(starts[:-1], dtype=torch.long, device=device)
        self._sums = torch.zeros(NUM_SUMS, self.num_segments, dtype=torch.float64, device=device)
        self._area = AreaUnderCurve([len(axis.cohorts) for axis in self.axes])

    def state(self) -> list[torch.Tensor]:
        """The sums themselves: adding another rank's in place merges its rows. ``compute`` merges those of AUC."""
        return [self._sums]

    @torch.no_grad()
    def update(
        self, logit_B: torch.Tensor, label_B: torch.Tensor, weight_B: torch.Tensor, cohort_BA: torch.Tensor
    ) -> None:
        """Add a batch. Rows of weight 0 (fillers) count nowhere; a cohort id of -1 is no cohort of that axis."""
        logit, label, weight = logit_B.double(), label_B.double(), weight_B.double()
        present = (weight > 0).double()
        loss = weight * (functional.softplus(logit) - label * logit)
        prediction = weight * torch.sigmoid(logit)
        values_VB = torch.stack([present, present * label, weight, weight * label, loss, prediction])
        # Column 0 is segment 0, all rows. An id of -1 adds a zero there, so that no shape depends on the data.
        inside_BA = cohort_BA >= 0
        segment_BA = functional.pad((cohort_BA + self._start_A) * inside_BA, (1, 0))
        share_BA = functional.pad(inside_BA.double(), (1, 0), value=1.0)
        self._sums.index_add_(1, segment_BA.flatten(), (values_VB[:, :, None] * share_BA).flatten(1))
        ordered = logit_B if logit_B.dtype == torch.float64 else logit_B.float()  # NumPy has no bfloat16
        self._area.update(*(part.detach().cpu().numpy() for part in (ordered, label_B, weight_B, cohort_BA)))

    def compute(self, gather: Gather = alone) -> dict[str, dict]:
        """``{"overall": values, "cohorts": {axis: {cohort: values}}}``; a value that is not defined is None.

        Args:
            gather: A value to every rank's values, in the order of ranks; for AUC, whose rows ``state()`` has not.
                Collective with it: every rank computes, and has the same values.
        """
        area_S, error_S = (found.tolist() for found in self._area.compute(gather))
        rows = zip(self._sums.T.tolist(), area_S, error_S, strict=True)
        values = [_values(*sums, auc=auc, auc_error=error) for sums, auc, error in rows]
        cohorts = {}
        for axis, start in zip(self.axes, self._start_A.tolist(), strict=True):
            cohorts[axis.name] = dict(zip(axis.cohorts, values[start : start + len(axis.cohorts)], strict=True))
        return {"overall": values[0], "cohorts": cohorts}


def _values(
    rows: float,
    positives: float,
    weight: float,
    positive_weight: float,
    loss: float,
    prediction: float,
    *,
    auc: float,
    auc_error: float,
) -> Values:
    log_loss = loss / weight if weight else math.nan
    mean = positive_weight / weight if weight else math.nan
    both = 0 < positives < rows
    values: Values = {
        # Beside a weight of 1e38 all others round away: the mean label is then 0 or 1, and the entropy 0.
        "ne": _defined(log_loss / _entropy(mean)) if both and 0 < mean < 1 else None,
        "auc": _defined(auc) if both and not math.isnan(prediction) else None,
        "calibration": _defined(prediction / positive_weight) if positive_weight else None,
        "log_loss": _defined(log_loss),
        "rows": int(rows),
        "positives": int(positives),
        "weight": _defined(weight),
        "positive_weight": _defined(positive_weight),
    }
    return values | {"auc_error": auc_error} if auc_error > 0 and values["auc"] is not None else values


def _entropy(mean: float) -> float:
    return -(mean * math.log(mean) + (1 - mean) * math.log(1 - mean))


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
