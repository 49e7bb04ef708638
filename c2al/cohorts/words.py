"""What sets a cohort apart, in words: the values that are more frequent there, the numbers that are greater or less.

Each is weighed by its part of the divergence KL(cohort ‖ all): s ln(s / a) of a value with share s in the cohort and a
of all, ½ d² of a number whose mean lies d standard deviations off.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from c2al.cohorts.attributes import Attribute

LEAST = 0.02  # nats: a mean 0.2 standard deviations off, or 0.25 against 0.23 of all


def describe(
    ids_R: np.ndarray,
    *,
    num_cohorts: int,
    attributes: Sequence[Attribute],
    values: Mapping[str, np.ndarray],
    most: int = 3,
) -> list[str]:
    """A line for each cohort, from the rows' ids (-1: none) and stored columns; the strongest words first.

    >>> describe(ids, num_cohorts=2, attributes=[region, spend], values=columns)
    ["more region=north (0.61 against 0.22 of all), spend 1.3 sd above", "no column sets it apart"]
    """
    there = ids_R >= 0
    ids_R = ids_R[there]
    said: list[list[tuple[float, str]]] = [[] for _ in range(num_cohorts)]
    for attribute in attributes:
        column_R = values[attribute.column][there]
        found = _number(ids_R, num_cohorts, attribute, column_R) if attribute.is_number else None
        for cohort, words in enumerate(found or _category(ids_R, num_cohorts, attribute, column_R)):
            said[cohort] += words
    return [
        ", ".join(text for _, text in sorted(words, reverse=True)[:most]) or "no column sets it apart" for words in said
    ]


def _category(ids_R: np.ndarray, num_cohorts: int, attribute: Attribute, ids: np.ndarray) -> list[list]:
    """At most two values of a column for each cohort."""
    num = len(attribute.labels)
    counts_CV = np.bincount(ids_R * num + (ids + 1), minlength=num_cohorts * num).reshape(num_cohorts, num)
    all_V = counts_CV.sum(0) / max(1, counts_CV.sum())
    words = []
    for counts_V in counts_CV:
        share_V = counts_V / max(1, counts_V.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            part_V = np.where(share_V > 0, share_V * np.log(share_V / all_V), 0.0)
        strongest = [v for v in np.argsort(-part_V, kind="stable")[:2] if part_V[v] >= LEAST]
        words.append(
            [
                (
                    float(part_V[v]),
                    f"more {attribute.name}={attribute.labels[v]} ({share_V[v]:.2f} against {all_V[v]:.2f} of all)",
                )
                for v in strongest
            ]
        )
    return words


def _number(ids_R: np.ndarray, num_cohorts: int, attribute: Attribute, values_R: np.ndarray) -> list[list]:
    values_R = values_R.astype(np.float64)
    std = float(values_R.std()) or 1.0
    counts_C = np.bincount(ids_R, minlength=num_cohorts).clip(1)
    means_C = np.bincount(ids_R, values_R, minlength=num_cohorts) / counts_C
    words = []
    for off in ((means_C - values_R.mean()) / std).tolist():
        text = f"{attribute.name} {abs(off):.1f} sd {'above' if off > 0 else 'below'}"
        words.append([(off**2 / 2, text)] if off**2 / 2 >= LEAST else [])
    return words
