"""Find columns that hold what is known only when the label is: a click beside a purchase, the dwell time, a copy.

All figures are of all rows (``column_facts``). A column is named where one of these holds:

    copy       its values tell the label: guessing by them is wrong for less than 1 % of the rarer label's rows
    implied    nearly all positives have one property (a value, being above 0, being there) that less than half of the
               negatives have
    only       nearly all rows with that property are positive, at least 20 of them; of a single value among many only
               where it holds nearly all positives
    ranked     the number ranks positives above negatives, or below them, with an AUC of 0.99 or more
"""

from collections.abc import Iterator

import numpy as np

from c2al.data.column_facts import MAX_TALLIED, ColumnFacts

NEARLY = 0.99
MOST, HALF = 0.9, 0.5
LEAST_ROWS = 20
CHANCE = 1e-9  # a property of rows that are positive by chance all alike is no leak


def leak(facts: ColumnFacts) -> str | None:
    """Return what gives a column away as a consequence of the label, with the figure; None where nothing does."""
    negatives, positives = facts.rows_L.tolist()
    if negatives < LEAST_ROWS or positives < LEAST_ROWS:
        return None
    few = facts.tally_is_whole and facts.distinct is not None and facts.distinct <= MAX_TALLIED
    if few and facts.tally:
        groups = [*facts.tally.values(), facts.rows_L - facts.known_L]
        wrong = int(sum(rows_L.min() for rows_L in groups))
        if wrong <= (1 - NEARLY) * min(negatives, positives):
            share = 1 - wrong / (negatives + positives)
            return f"its value tells the label of {share:.2%} of the rows"
    for words, with_L in _properties(facts, few=few):
        if said := _told(words, with_L, facts.rows_L, single=words.startswith("value") and not few):
            return said
    if facts.num_finite and (facts.auc >= NEARLY or facts.auc <= 1 - NEARLY):
        return f"its number ranks the label with an AUC of {max(facts.auc, 1 - facts.auc):.4f}"
    return None


def _properties(facts: ColumnFacts, *, few: bool) -> Iterator[tuple[str, np.ndarray]]:
    """What a row may have in a column, and how many rows of each label have it."""
    yield "there", facts.known_L
    yield "missing", facts.rows_L - facts.known_L
    if facts.num_finite:
        yield "above 0", facts.above_L
        yield "not above 0", facts.rows_L - facts.above_L
    for value, with_L in facts.tally.items():
        if few or with_L[1] >= HALF * facts.rows_L[1]:
            yield f"value {value!r}", with_L


def _told(words: str, with_L: np.ndarray, rows_L: np.ndarray, *, single: bool) -> str | None:
    of_positives = with_L[1] / rows_L[1]
    of_negatives = with_L[0] / rows_L[0]
    rate = with_L[1] / max(with_L.sum(), 1)
    figures = f"{of_positives:.2%} of the positives and {of_negatives:.2%} of the negatives"
    has = f"it is {words} in" if not words.startswith("value") else f"it has {words} in"
    implied = of_positives >= NEARLY and of_negatives < HALF
    chance = (rows_L[1] / rows_L.sum()) ** min(int(with_L[1]), 1_000)
    only = rate >= NEARLY and with_L.sum() >= LEAST_ROWS and chance < CHANCE
    return f"{has} {figures}" if implied or (only and (not single or of_positives >= MOST)) else None
