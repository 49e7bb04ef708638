"""Paired comparison of arms over seeds: how much, whom, how surely; and the smallest effect one could have seen.

Negative differences are better: they are relative changes of normalized entropy, in per cent. On the same rows the
entropy in the denominator cancels, so they are relative changes of log loss too, and the overall difference is the
log-loss-weighted mean of the differences over any partition of the rows; ``check_identity`` holds every table to that.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from c2al.schema import DataError

Metrics = dict[str, Any]  # report.json's metrics of one split
Cell = tuple[str, str]  # (axis, cohort)

OVERALL: Cell = ("overall", "all")
POWER = 0.8
ONE_SEED = "one seed: no interval"
UNDEFINED = "not defined: labels all alike"
UNTOLD = "cannot be told from zero"


def compare(
    metrics_by_arm: dict[str, dict[str, Metrics]], *, reference: str, alpha: float = 0.05
) -> list[dict[str, Any]]:
    """One row for every arm but the reference and every cell (all rows; each cohort of each axis), paired by seed.

    ``difference`` is the mean over seeds of ``100 (ne_arm / ne_ref - 1)``, ``low`` and ``high`` its paired-t interval
    at ``1 - alpha``, ``p`` the two-sided paired t test, ``sd`` the standard deviation over seeds, ``mde`` the smallest
    difference that 80 % of studies with this ``sd`` and as many seeds would have found at ``alpha``, uncorrected.

    ``p_holm`` corrects within two families: all cohorts × arms together (that is where one would go looking for a
    winner), and the overall cells of all arms (one planned question an arm). The verdict is judged on it.
    Seeds that one of the two arms lacks are left out. A DataError says where two runs saw different rows.
    """
    if reference not in metrics_by_arm:
        known = ", ".join(metrics_by_arm) or "none"
        raise DataError("no such arm to compare with", value=reference, remedy=f"reference must be one of: {known}")
    rows: list[dict[str, Any]] = []
    for arm, runs in metrics_by_arm.items():
        if arm == reference:
            continue
        seeds = [seed for seed in metrics_by_arm[reference] if seed in runs]
        if not seeds:
            raise DataError(f"arms {reference} and {arm} share no seed", remedy="train both arms with the same seeds")
        pairs = [(metrics_by_arm[reference][seed], runs[seed]) for seed in seeds]
        for ref, other in pairs:
            check_identity(ref, other)
        for cell in cells(pairs[0][0]):
            rows.append({"arm": arm, "reference": reference, **_compare_cell(cell, pairs, seeds, alpha)})
    _correct([row for row in rows if row["axis"] != OVERALL[0]], alpha)
    _correct([row for row in rows if row["axis"] == OVERALL[0]], alpha)
    return rows


def cells(metrics: Metrics) -> dict[Cell, dict[str, Any]]:
    """All rows first, then each cohort of each axis."""
    cohorts = {(axis, name): cell for axis, named in metrics["cohorts"].items() for name, cell in named.items()}
    return {OVERALL: metrics["overall"], **cohorts}


def interval(values: Sequence[float], *, alpha: float = 0.05) -> dict[str, float | None]:
    """Mean, sd, t interval, two-sided p against zero and minimum detectable effect; one value gives the mean alone."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None, "p": None, "mde": None}
    sd = float(np.std(values, ddof=1))
    error = sd / math.sqrt(n)
    width = float(student.ppf(1 - alpha / 2, n - 1)) * error
    p = float(2 * student.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    mde = width + float(student.ppf(POWER, n - 1)) * error
    return {"mean": mean, "sd": sd, "low": mean - width, "high": mean + width, "p": p, "mde": mde}


def check_identity(ref: Metrics, arm: Metrics, *, tolerance: float = 1e-6) -> dict[str, float]:
    """Hold two runs' metrics to the identity, axis by axis; returns the share of the weight that each axis covers.

    Where an axis leaves rows out, what is left counts as one more cohort, whose log loss may not be negative.
    ``tolerance`` is in percentage points. Raises DataError.
    """
    _check_rows(ref, arm)
    overall = _relative(ref["overall"]["log_loss"], arm["overall"]["log_loss"])
    totals = np.array([_loss(ref["overall"]), _loss(arm["overall"])])
    covered = {}
    for axis, cohorts in ref["cohorts"].items():
        pairs = [(cell, arm["cohorts"][axis][name]) for name, cell in cohorts.items() if cell["weight"]]
        losses = np.array([(_loss(one), _loss(other)) for one, other in pairs]).reshape(-1, 2)
        differences = np.array([_difference(one, other) for one, other in pairs])
        covered[axis] = sum(one["weight"] for one, _ in pairs) / ref["overall"]["weight"]
        rest = 100 * (1 - losses.sum(axis=0) / totals)
        errors = [-rest.min(), abs(_difference(ref["overall"], arm["overall"]) - overall)]
        if covered[axis] > 1 - 1e-9:
            errors += [rest.max(), abs(losses[:, 0] @ differences / losses[:, 0].sum() - overall)]
        if max(errors) > tolerance:
            raise DataError(
                f"the overall difference is not the log-loss-weighted mean of its cohorts' (by {max(errors):.3g} %)",
                column=f"axis {axis}",
                remedy="evaluate both runs again on the same split with the same version",
            )
    return covered


def _check_rows(ref: Metrics, arm: Metrics) -> None:
    ref_cells, arm_cells = cells(ref), cells(arm)
    if ref_cells.keys() != arm_cells.keys():
        (axis, cohort), *_ = ref_cells.keys() ^ arm_cells.keys()
        raise DataError(
            "two runs to be compared were evaluated on different cohorts",
            column=f"axis {axis}",
            value=cohort,
            remedy="evaluate both with the same axes",
        )
    for (axis, cohort), cell in ref_cells.items():
        for count in ("rows", "positives"):
            if cell[count] != arm_cells[axis, cohort][count]:
                raise DataError(
                    f"two runs to be compared saw different {count} in cohort {cohort}",
                    column=f"axis {axis}",
                    value=f"{cell[count]} and {arm_cells[axis, cohort][count]}",
                    remedy="evaluate both on the same split of the same data",
                )


def _loss(cell: dict[str, Any]) -> float:
    return cell["log_loss"] * cell["weight"]


def _relative(ref: float, arm: float) -> float:
    return 100 * (arm / ref - 1)


def _difference(ref: dict[str, Any], arm: dict[str, Any]) -> float:
    """Relative NE difference in per cent; of the log loss where a cohort's labels are all alike and NE has no value."""
    key = "log_loss" if ref["ne"] is None or arm["ne"] is None else "ne"
    return _relative(ref[key], arm[key]) if ref[key] else 0.0


def _compare_cell(cell: Cell, pairs: list[tuple[Metrics, Metrics]], seeds: list[str], alpha: float) -> dict[str, Any]:
    refs = [cells(ref)[cell] for ref, _ in pairs]
    arms = [cells(arm)[cell] for _, arm in pairs]
    row: dict[str, Any] = {"axis": cell[0], "cohort": cell[1], "seeds": seeds}
    row |= {key: refs[0][key] for key in ("rows", "positives", "weight", "positive_weight")}
    defined = all(side["ne"] is not None for side in refs + arms)
    differences = [_difference(ref, arm) for ref, arm in zip(refs, arms, strict=True)] if defined else []
    found: dict[str, float | None] = interval(differences, alpha=alpha) if defined else {}
    row["difference"] = found.get("mean")
    row |= {key: found.get(key) for key in ("low", "high", "sd", "p")} | {"p_holm": None, "mde": found.get("mde")}
    row["verdict"] = UNDEFINED if not defined else ONE_SEED if len(seeds) < 2 else UNTOLD
    row["per_seed"] = dict(zip(seeds, differences, strict=True)) if defined else {}
    for key in ("ne", "calibration"):
        row[f"{key}_reference"], row[f"{key}_arm"] = _mean(refs, key), _mean(arms, key)
    row["auc_reference"] = _mean(refs, "auc")
    ranked = row["auc_reference"] is not None and _mean(arms, "auc") is not None
    auc = interval([arm["auc"] - ref["auc"] for ref, arm in zip(refs, arms, strict=True)]) if ranked else {}
    return row | {f"auc_{key}": auc.get(of) for key, of in (("difference", "mean"), ("low", "low"), ("high", "high"))}


def _mean(side: list[dict[str, Any]], key: str) -> float | None:
    values = [cell[key] for cell in side]
    return None if any(value is None for value in values) else float(np.mean(values))


def _correct(family: list[dict[str, Any]], alpha: float) -> None:
    """Holm's correction within a family, and the verdicts that follow from it."""
    tested = [row for row in family if row["p"] is not None]
    if not tested:
        return
    for row, p in zip(tested, multipletests([row["p"] for row in tested], method="holm")[1], strict=True):
        row["p_holm"] = float(p)
        row["verdict"] = UNTOLD if p >= alpha else "better" if row["difference"] < 0 else "worse"
