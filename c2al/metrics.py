"""Normalized entropy, AUC, calibration and log loss, weighted, overall and per cohort of every axis.

Streaming and in float64: the state is two tensors of sums, which ranks add up (``all_reduce`` each of ``state()``).

* log loss: weighted mean of ``softplus(logit) - y·logit``.
* NE: log loss over the entropy of the evaluated rows' own weighted mean label (He et al. 2014, "Practical Lessons from
  Predicting Clicks on Ads at Facebook").
* calibration: ``Σ w p / Σ w y``.
* AUC: from histograms of the logit, equal bins on [-20, 20]; pairs within one bin count half. So it errs by at most
  half the share of (positive, negative) pairs that fall into one bin together, ``Σ_i P_i N_i / (2 P N)``. Within so
  narrow a bin the order is all but even, and what is left is far less. Measured with 8,192 bins: 1e-6 on 200,000 rows
  whose logits spread by 1.5, 1e-5 where they spread by 0.3, 2e-5 on 2,000 rows with 200 positives.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from c2al.schema import CohortAxis

LOGIT_LIMIT = 20.0
NUM_SUMS = 6  # rows, positives, weight, positive weight, loss, prediction

Values = dict[str, float | int | None]


class Metrics:
    """Takes batches, gives values. Segments are all rows (segment 0), then every cohort of every axis in turn.

    Memory: 16 bytes a bin and segment, 128 KiB a cohort with the default bins.
    """

    def __init__(self, axes: Sequence[CohortAxis], bins: int = 8192, device: torch.device | str = "cpu") -> None:
        self.axes, self.bins = list(axes), bins
        starts = [1]
        for axis in self.axes:
            starts.append(starts[-1] + len(axis.cohorts))
        self.num_segments = starts[-1]
        self._start_A = torch.tensor(starts[:-1], dtype=torch.long, device=device)
        self._sums = torch.zeros(NUM_SUMS, self.num_segments, dtype=torch.float64, device=device)
        self._histogram = torch.zeros(self.num_segments, 2, bins, dtype=torch.float64, device=device)

    def state(self) -> list[torch.Tensor]:
        """The tensors themselves: adding another rank's in place merges its rows."""
        return [self._sums, self._histogram]

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
        cell_BA = (2 * segment_BA + label.long()[:, None]) * self.bins + self._bin(logit)[:, None]
        self._histogram.view(-1).index_add_(0, cell_BA.flatten(), (weight[:, None] * share_BA).flatten())

    def compute(self) -> dict[str, dict]:
        """``{"overall": values, "cohorts": {axis: {cohort: values}}}``; a value that is not defined is None."""
        rows = zip(self._sums.T.tolist(), _auc(self._histogram).tolist(), strict=True)
        values = [_values(*sums, auc=auc) for sums, auc in rows]
        cohorts = {}
        for axis, start in zip(self.axes, self._start_A.tolist(), strict=True):
            cohorts[axis.name] = dict(zip(axis.cohorts, values[start : start + len(axis.cohorts)], strict=True))
        return {"overall": values[0], "cohorts": cohorts}

    def _bin(self, logit_B: torch.Tensor) -> torch.Tensor:
        scaled = (torch.nan_to_num(logit_B) + LOGIT_LIMIT) * (self.bins / (2 * LOGIT_LIMIT))
        return scaled.clamp(0, self.bins - 1).long()


def _auc(histogram: torch.Tensor) -> torch.Tensor:
    """From ``[segment, label, bin]``; NaN where there are no positives or no negatives."""
    negative, positive = histogram.unbind(1)
    below = negative.cumsum(1) - negative / 2
    return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def _values(
    rows: float,
    positives: float,
    weight: float,
    positive_weight: float,
    loss: float,
    prediction: float,
    *,
    auc: float,
) -> Values:
    log_loss = loss / weight if rows else math.nan
    both = 0 < positives < rows and math.isfinite(log_loss)
    return {
        "ne": _defined(log_loss / _entropy(positive_weight / weight)) if both else None,
        "auc": _defined(auc) if both else None,
        "calibration": _defined(prediction / positive_weight) if positives else None,
        "log_loss": _defined(log_loss),
        "rows": int(rows),
        "positives": int(positives),
        "weight": weight,
        "positive_weight": positive_weight,
    }


def _entropy(mean: float) -> float:
    return -(mean * math.log(mean) + (1 - mean) * math.log(1 - mean))


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
