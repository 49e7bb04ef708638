"""Do labels that the model has not seen bear out the difference that it predicts between two cohorts?

Cohorts that are learned from a model differ in its predictions by construction, also where it has fitted noise: on
synthetic rows without contrast, clusters of a DHEN's users lay 0.3 to 0.5 standard deviations apart, ten times what
cohorts by hand did. So the predicted difference is taken out and offered to the labels again. With l a row's logit and
m what the row of the same rank has in the two cohorts taken together (each cohort then has the same histogram),

    P(label = 1) = sigmoid(a + c m + b (l - m)),

fitted on held-out rows: b is 1 where the labels differ as predicted, 0 where they do not differ. Its standard error is
the sandwich one over units, whose rows are not independent (Liang and Zeger 1986); a and c are for a model whose
calibration is off, or that is too sure of itself in both cohorts alike (with c held at 1, labels without any relation
to the predictions gave a b of 0.55).
"""

import numpy as np


def borne_out(
    logit_R: np.ndarray, label_R: np.ndarray, weight_R: np.ndarray, unit_R: np.ndarray | None, is_head_R: np.ndarray
) -> tuple[float, float]:
    """(b, its standard error) for the rows of two cohorts."""
    weight_R = weight_R / weight_R.mean()
    pooled_R = _pooled(logit_R, weight_R, is_head_R)
    design_R3 = np.stack([np.ones_like(logit_R), pooled_R, logit_R - pooled_R], axis=1)
    coefficients_3 = np.array([0.0, 1.0, 0.0])
    for _ in range(25):
        p_R = 1 / (1 + np.exp(-(design_R3 @ coefficients_3)))
        score_R3 = design_R3 * (weight_R * (label_R - p_R))[:, None]
        curvature_33 = (design_R3 * (weight_R * p_R * (1 - p_R))[:, None]).T @ design_R3
        inverse_33 = np.linalg.pinv(curvature_33)
        step_3 = np.clip(inverse_33 @ score_R3.sum(0), -1.0, 1.0)
        coefficients_3 += step_3
        if np.abs(step_3).max() < 1e-6:
            break
    score_G3 = score_R3 if unit_R is None else _sums(score_R3, unit_R)
    variance_33 = inverse_33 @ (score_G3.T @ score_G3) @ inverse_33
    return float(coefficients_3[2]), float(np.sqrt(variance_33[2, 2]))


def _pooled(logit_R: np.ndarray, weight_R: np.ndarray, is_head_R: np.ndarray) -> np.ndarray:
    """Each row's logit replaced by the pooled one of the same (weighted) rank within its own cohort."""
    order = np.argsort(logit_R, kind="stable")
    ranks = _ranks(weight_R[order])
    pooled_R = np.empty_like(logit_R)
    for side in (is_head_R, ~is_head_R):
        rows = order[side[order]]
        pooled_R[rows] = np.interp(_ranks(weight_R[rows]), ranks, logit_R[order])
    return pooled_R


def _ranks(weight: np.ndarray) -> np.ndarray:
    return (np.cumsum(weight) - weight / 2) / max(weight.sum(), 1e-300)


def _sums(values_R3: np.ndarray, unit_R: np.ndarray) -> np.ndarray:
    _, group_R = np.unique(unit_R, return_inverse=True)
    return np.stack([np.bincount(group_R, values_R) for values_R in values_R3.T], axis=1)
