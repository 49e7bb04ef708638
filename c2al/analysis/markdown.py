"""A study as a page of Markdown, for docs and reviews: what it says in words, and every cell of every arm."""

import os
from pathlib import Path
from typing import Any

from c2al.analysis.page import between, count, p_value, plain, signed
from c2al.analysis.significance import OVERALL
from c2al.analysis.verdict import SHORT, arms, sentences, side

HEAD = (
    "cohort",
    "rows",
    "positives",
    "NE {}",
    "difference, %",
    "95 % over seeds",
    "p",
    "p (Holm)",
    "detectable",
    "verdict",
)


def write_markdown(study: dict[str, Any], folder: str) -> str:
    """Write ``report.md`` into the study's folder; its path."""
    path = Path(folder, "report.md")
    partial = path.with_suffix(f".partial{os.getpid()}")
    partial.write_text(markdown(study), encoding="utf-8")
    partial.replace(path)
    return str(path)


def markdown(study: dict[str, Any]) -> str:
    """The page."""
    data, pair = study["data"], study.get("pair")
    lines = [
        f"# {study['name']}: NE against {study['reference']} on the {study['split']} split",
        "",
        f"{count(data['rows'].get(study['split']))} rows with {count(data['positives'].get(study['split']))} positives "
        f"of {data['name']}; c2al {study['c2al']}, commit {study['commit']}, {study['created']}.",
    ]
    if pair:
        sure = pair.get("significant", True)
        chance = "" if sure else ", not a sure one: it may be chance, or differ too little to matter"
        lines.append(f"Pair of cohorts: {pair['axis']}, {pair['head']} (head) against {pair['tail']} (tail){chance}.")
    lines.append(
        "Negative is better. Intervals are paired t over seeds; p is corrected by Holm over all cohorts and arms."
    )
    for arm in arms(study):
        overrides = " ".join(study["arms"][arm].get("overrides", []))
        lines += ["", f"## {arm}", "", f"`{overrides}`", "", " ".join(sentences(study, arm)), "", *_table(study, arm)]
    return "\n".join(lines) + "\n"


def _table(study: dict[str, Any], arm: str) -> list[str]:
    head = [name.format(study["reference"]) for name in HEAD]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for row in study["cells"]:
        if row["arm"] == arm:
            lines.append("| " + " | ".join(_cells(study, row)) + " |")
    return lines


def _cells(study: dict[str, Any], row: dict[str, Any]) -> list[str]:
    mark = f" ({side(study, row)})" if side(study, row) else ""
    name = "**all rows**" if row["axis"] == OVERALL[0] else f"{row['axis']}: {row['cohort']}{mark}"
    return [
        name,
        count(row["rows"]),
        count(row["positives"]),
        plain(row["ne_reference"]),
        signed(row["difference"], 3),
        between(row["low"], row["high"], 3),
        p_value(row["p"]).replace("&lt;", "<"),
        p_value(row["p_holm"]).replace("&lt;", "<"),
        plain(row["mde"], 3),
        SHORT.get(row["verdict"], row["verdict"].partition(":")[0]),
    ]
