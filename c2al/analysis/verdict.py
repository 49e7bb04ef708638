"""A study's findings in words and, for the terminal, in one table."""

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from c2al.analysis.page import between, count, plain, signed
from c2al.analysis.significance import ALPHA, OVERALL, reach
from c2al.printable import p_text, printable

SHORT = {"cannot be told from zero": "cannot tell", "one seed: no interval": "one seed"}
STYLES = {"better": "bold cyan", "worse": "bold yellow"}
# What an interval is, wherever one is shown; c2al.analysis.significance says it at length.
HOW = (
    "Intervals are paired t over seeds, each at the level of its step in Holm's correction (95 % for all cohorts × "
    "arms together, and for the overall cells of all arms together): one excludes zero exactly where the verdict is "
    "better or worse. They cover other trainings on these rows; what other rows would add is the standard error over "
    "rows."
)
NUM_NAMED = 6  # cohorts that a sentence names before it counts the rest


def arms(study: dict[str, Any]) -> list[str]:
    """The arms that are compared with the reference, in the study's order."""
    return [arm for arm in study["arms"] if arm != study["reference"]]


def cells_of(study: dict[str, Any], arm: str) -> dict[tuple[str, str], dict[str, Any]]:
    """An arm's rows of ``compare`` by (axis, cohort)."""
    return {(row["axis"], row["cohort"]): row for row in study["cells"] if row["arm"] == arm}


def side(study: dict[str, Any], row: dict[str, Any]) -> str:
    """ "head" or "tail" for the two cohorts of the study's pair, else ""."""
    pair = study.get("pair") or {}
    if row["axis"] != pair.get("axis"):
        return ""
    return next((name for name in ("head", "tail") if pair[name] == row["cohort"]), "")


def sentences(study: dict[str, Any], arm: str) -> list[str]:
    """What the study says of one arm: overall, who was helped, who was hurt, what cannot be told, what could be."""
    cells = cells_of(study, arm)
    overall = cells.get(OVERALL)
    if overall is None or overall["difference"] is None:
        return [f"{arm} was not compared with {study['reference']}."]
    num_seeds = len(overall["per_seed"])
    seeds = f"{num_seeds} seed{'s' if num_seeds > 1 else ''}"
    change = f"{signed(overall['difference'], digits(overall))} % NE {interval_text(overall)}".rstrip()
    first = f"{arm} against {study['reference']} over {seeds}: overall {change}, {overall['verdict']}."
    cohorts = [row for cell, row in cells.items() if cell != OVERALL]
    if num_seeds < 2:
        return [first, "Intervals and verdicts need two seeds or more."]
    untold = sum(row["verdict"].startswith("cannot") for row in cohorts)
    out = [first, _named(cohorts, "better", "Helped"), _named(cohorts, "worse", "Hurt")]
    out.append(f"Cannot be told from zero: {untold} of {len(cohorts)} cohorts.")
    if overall["mde"] is not None:
        reach = plain(overall["mde"], digits(overall))
        out.append(f"An overall effect of {reach} % would have been found in four of five such studies.")
    return [*out, *_few_seeds(study, num_seeds)]


def _few_seeds(study: dict[str, Any], num_seeds: int) -> list[str]:
    """What two or three seeds can say at all."""
    tested = [row for row in study["cells"] if row["axis"] != OVERALL[0] and row["p"] is not None]
    if num_seeds > 3 or not tested:
        return []
    spreads = reach(num_seeds, ALPHA / len(tested))
    return [
        f"With {num_seeds} seeds the first of {len(tested)} cohorts is told from zero only where its mean is "
        f"{spreads:.3g} standard deviations over seeds away from it."
    ]


def digits(row: dict[str, Any], *, least: int = 2, low: str = "low", high: str = "high") -> int:
    """Decimals that the interval's width deserves; as many as it takes for an end beside zero not to read as zero."""
    ends = row[low], row[high]
    if ends[0] is None or ends[1] is None:
        return least
    wanted = max(least, 3 if ends[1] - ends[0] < 0.1 else 2)
    nearest = min(abs(end) for end in ends)
    return max(wanted, min(-math.floor(math.log10(nearest)), 15)) if ends[0] * ends[1] > 0 else wanted


def interval_text(row: dict[str, Any]) -> str:
    """The interval over seeds; nothing where there is none."""
    return between(row["low"], row["high"], digits(row))


def _named(cohorts: list[dict[str, Any]], verdict: str, word: str) -> str:
    found = sorted((row for row in cohorts if row["verdict"] == verdict), key=lambda row: -abs(row["difference"]))
    names = [f"{row['axis']} {row['cohort']} ({signed(row['difference'], digits(row))} %)" for row in found[:NUM_NAMED]]
    more = [f"{len(found) - NUM_NAMED} more"] if len(found) > NUM_NAMED else []
    return f"{word}: {', '.join(names + more) or 'none'}."


def terminal_table(study: dict[str, Any], *, num_others: int = 5) -> Table:
    """Overall, the pair's two cohorts, and the cohorts with the surest effects, for each arm; fits 80 columns."""
    title = f"{study['name']}: NE against {study['reference']} on the {study['split']} split"
    table = Table(title=Text(printable(title)), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption = Text("negative is better; [interval over seeds] and p by Holm; sure where 0 is outside")
    several = len(arms(study)) > 1
    table.add_column("arm · cohort" if several else "cohort", overflow="fold")
    for name in ("rows", "NE", "difference, %", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for arm in arms(study):
        for row in _chosen(study, arm, num_others):
            table.add_row(*_line(study, row, several=several))
        table.add_section()
    return table


def _chosen(study: dict[str, Any], arm: str, num_others: int) -> list[dict[str, Any]]:
    cells = cells_of(study, arm)
    first = [row for cell, row in cells.items() if cell == OVERALL]
    pair = sorted((row for row in cells.values() if side(study, row)), key=lambda row: side(study, row))
    others = [row for row in cells.values() if row not in first + pair and row["difference"] is not None]
    others.sort(key=lambda row: (2.0 if row["p"] is None else row["p"], -abs(row["difference"])))
    return first + pair + others[:num_others]


def _line(study: dict[str, Any], row: dict[str, Any], *, several: bool) -> list[str | Text]:
    mark = f" ({side(study, row)})" if side(study, row) else ""
    name = "all rows" if row["axis"] == OVERALL[0] else f"{row['axis']}: {row['cohort']}{mark}"
    style = STYLES.get(row["verdict"], "")
    change = f"{signed(row['difference'], digits(row))} {interval_text(row)}".rstrip()
    return [
        Text(printable(f"{row['arm']} · {name}" if several else name)),
        count(row["rows"]),
        plain(row["ne_reference"]),
        Text(change, style=style),
        p_text(row["p_holm"]),
        Text(SHORT.get(row["verdict"], row["verdict"].partition(":")[0]), style=style),
    ]
