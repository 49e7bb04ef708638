"""Paired comparison of arms over seeds: how much, whom, how surely; and the smallest effect one could have seen.

Negative differences are better: they are relative changes of normalized entropy, in per cent. On the same rows the
entropy in the denominator cancels, so they are relative changes of log loss too, and the overall difference is the
log-loss-weighted mean of the differences over any partition of the rows; ``check_identity`` holds every table to that.

**One definition** of what is sure, for every table, picture and sentence. The cells of all cohorts and arms are one
family of m questions (that is where one would go looking for a winner), the overall cells of all arms another (one
planned question an arm). Within a family the paired t tests over seeds are taken up by Holm's procedure (S. Holm,
Scand. J. Statist. 6, 1979): the k-th smallest p is held to alpha / (m - k + 1), and the first that fails ends it. The
interval of a cell is the one at the level of its step (R. Serlin, J. Exp. Educ. 61, 1993); cells from the failing step
on share that step's level. So an interval excludes zero exactly where the verdict is "better" or "worse". At 95 %
together, the signs of the sure cells are right and the intervals of the others hold; the ends of a sure cell's interval
hold by themselves, at its level (O. Guilbaud, Biometrical Journal 50, 2008).

**What it covers**: the effect over seeds, that is of other trainings on these rows, judged on these rows. Other rows of
the same kind are another source of chance: ``row_error`` of a cell (``c2al.analysis.bootstrap``) is their standard
error of the same mean difference, and is in no interval.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from c2al.cohorts.resampling import holm
from c2al.schema import DataError

Metrics = dict[str, Any]  # report.json's metrics of one split
Cell = tuple[str, str]  # (axis, cohort)

OVERALL: Cell = ("overall", "all")
ALPHA = 0.05
POWER = 0.8
ONE_SEED = "one seed: no interval"
UNDEFINED = "not defined: labels all alike"
UNTOLD = "cannot be told from zero"


def compare(
    metrics_by_arm: dict[str, dict[str, Metrics]], *, reference: str, alpha: float = ALPHA
) -> list[dict[str, Any]]:
    """One row for every arm but the reference and every cell (all rows; each cohort of each axis), paired by seed.

    ``difference`` is the mean over seeds of ``100 (ne_arm / ne_ref - 1)``, kept in ``per_seed``, ``sd`` their standard
    deviation; ``conclude`` says what is made of them.

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
            rows.append({"arm": arm, "reference": reference, **_compare_cell(cell, pairs, seeds)})
    return conclude(rows, alpha=alpha)


def conclude(rows: Sequence[dict[str, Any]], *, alpha: float = ALPHA) -> list[dict[str, Any]]:
    """Return cells with what follows from their differences by seed: interval, p values and verdict, by one definition.

    ``low`` and ``high`` are the paired t interval at ``confidence``, the level of the cell's step in Holm's procedure;
    ``p`` the two-sided paired t test and ``p_holm`` its correction, ``mde`` the smallest difference that 80 % of
    studies with this ``sd`` and as many seeds would have found at that level. Whatever the cells held of these before
    is replaced, so that what an older version or another hand wrote is told by the same rule. ``auc_low`` and
    ``auc_high`` are made of the AUC differences in the same way, which are families of their own and get no verdict.
    """
    told = [dict(row) for row in rows]
    for overall in (True, False):
        family = [row for row in told if (row["axis"] == OVERALL[0]) is overall]
        _conclude_ne(family, alpha)
        _conclude_auc(family, alpha)
    return told


def levels(p_values: Sequence[float], *, alpha: float = ALPHA) -> list[float]:
    """The level of each test's step in Holm's procedure; from the first that fails on, that one's."""
    found, failed = [0.0] * len(p_values), None
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        level = alpha / (len(p_values) - step)
        if failed is None and p_values[i] >= level:
            failed = level
        found[i] = failed or level
    return found


def cells(metrics: Metrics) -> dict[Cell, dict[str, Any]]:
    """All rows first, then each cohort of each axis."""
    cohorts = {(axis, name): cell for axis, named in metrics["cohorts"].items() for name, cell in named.items()}
    return {OVERALL: metrics["overall"], **cohorts}


def reach(num_seeds: int, level: float) -> float:
    """How many standard deviations over seeds a mean must be off zero for its interval to exclude it."""
    return float(student.ppf(1 - level / 2, num_seeds - 1)) / math.sqrt(num_seeds)


def interval(values: Sequence[float], *, alpha: float = 0.05) -> dict[str, float | None]:
    """Mean, sd, t interval, two-sided p against zero and minimum detectable effect; one value gives the mean alone."""
    n, mean = len(values), float(np.mean(values))
    return {"mean": mean, **_interval(mean, float(np.std(values, ddof=1)) if n > 1 else None, n, alpha)}


def _interval(mean: float, sd: float | None, n: int, alpha: float) -> dict[str, float | None]:
    if sd is None:
        return dict.fromkeys(("sd", "low", "high", "p", "mde"))
    error = sd / math.sqrt(n)
    width = float(student.ppf(1 - alpha / 2, n - 1)) * error
    p = float(2 * student.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    mde = width + float(student.ppf(POWER, n - 1)) * error
    return {"sd": sd, "low": mean - width, "high": mean + width, "p": p, "mde": mde}


def check_identity(ref: Metrics, arm: Metrics, *, tolerance: float = 1e-6) -> dict[str, float]:
    """Hold two runs' metrics to the identity, axis by axis; returns the share of the weight that each axis covers.

    Where an axis leaves rows out, what is left counts as one more cohort, whose log loss may not be negative.
    ``tolerance`` is in percentage points. Raises DataError.
    """
    _check_rows(ref, arm)
    if not (ref["overall"]["log_loss"] and arm["overall"]["log_loss"] and ref["overall"]["weight"]):
        raise DataError(
            "two runs cannot be compared where the log loss of all rows is not defined, or zero",
            value=f"{ref['overall']['log_loss']} and {arm['overall']['log_loss']}",
            remedy="check the rows' labels and weights, and whether a run has diverged",
        )
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


def _compare_cell(cell: Cell, pairs: list[tuple[Metrics, Metrics]], seeds: list[str]) -> dict[str, Any]:
    refs = [cells(ref)[cell] for ref, _ in pairs]
    arms = [cells(arm)[cell] for _, arm in pairs]
    row: dict[str, Any] = {"axis": cell[0], "cohort": cell[1], "seeds": seeds}
    row |= {key: refs[0][key] for key in ("rows", "positives", "weight", "positive_weight")}
    defined = all(side["ne"] is not None for side in refs + arms)
    differences = [_difference(ref, arm) for ref, arm in zip(refs, arms, strict=True)] if defined else []
    row["per_seed"] = dict(zip(seeds, differences, strict=True)) if defined else {}
    for key in ("ne", "calibration"):
        row[f"{key}_reference"], row[f"{key}_arm"] = _mean(refs, key), _mean(arms, key)
    row["auc_reference"] = _mean(refs, "auc")
    ranked = row["auc_reference"] is not None and _mean(arms, "auc") is not None
    auc = interval([arm["auc"] - ref["auc"] for ref, arm in zip(refs, arms, strict=True)]) if ranked else {}
    return row | {"auc_difference": auc.get("mean"), "auc_sd": auc.get("sd")}


def _mean(side: list[dict[str, Any]], key: str) -> float | None:
    values = [cell[key] for cell in side]
    return None if any(value is None for value in values) else float(np.mean(values))


def _conclude_ne(family: list[dict[str, Any]], alpha: float) -> None:
    for row in family:
        found = interval(list(row["per_seed"].values())) if row["per_seed"] else {}
        row |= {"difference": found.get("mean"), "sd": found.get("sd"), "p": found.get("p")}
        row |= dict.fromkeys(("low", "high", "confidence", "p_holm", "mde"))
        row["verdict"] = UNDEFINED if not row["per_seed"] else ONE_SEED
    tested = [row for row in family if row["p"] is not None]
    p_values = [row["p"] for row in tested]
    for row, level, p in zip(tested, levels(p_values, alpha=alpha), holm(np.array(p_values)).tolist(), strict=True):
        found = _interval(row["difference"], row["sd"], len(row["per_seed"]), level)
        row |= {"p_holm": p, "confidence": 1 - level, **{key: found[key] for key in ("low", "high", "mde")}}
        row["verdict"] = "better" if row["high"] < 0 else "worse" if row["low"] > 0 else UNTOLD


def _conclude_auc(family: list[dict[str, Any]], alpha: float) -> None:
    tested = []
    for row in family:
        n, difference, sd = len(row["per_seed"]), row.get("auc_difference"), row.get("auc_sd")
        if sd is None and n > 1 and row.get("auc_low") is not None:  # written before there was ``auc_sd``: 95 % each
            sd = (row["auc_high"] - row["auc_low"]) / 2 / float(student.ppf(0.975, n - 1)) * math.sqrt(n)
        row |= {"auc_sd": sd, "auc_low": None, "auc_high": None}
        if difference is not None and sd is not None and n > 1:
            tested.append((row, _interval(difference, sd, n, alpha)["p"]))
    for (row, _), level in zip(tested, levels([p or 0.0 for _, p in tested], alpha=alpha), strict=True):
        found = _interval(row["auc_difference"], row["auc_sd"], len(row["per_seed"]), level)
        row |= {"auc_low": found["low"], "auc_high": found["high"]}
