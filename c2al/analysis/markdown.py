"""A study as a page of Markdown, for docs and reviews: what it says in words, and every cell of every arm."""

import re
from pathlib import Path
from typing import Any

from c2al.analysis.page import between, count, plain, signed
from c2al.analysis.significance import OVERALL
from c2al.analysis.tables import over_rows
from c2al.analysis.verdict import HOW, SHORT, arms, digits, sentences, side
from c2al.plain_files import write_whole
from c2al.printable import p_text, printable

HEAD = (
    "cohort",
    "rows",
    "positives",
    "NE {}",
    "difference, %",
    "interval over seeds",
    "s.e. over rows",
    "p",
    "p (Holm)",
    "detectable",
    "verdict",
)


def write_markdown(study: dict[str, Any], folder: str) -> str:
    """Write ``report.md`` into the study's folder; its path."""
    path = Path(folder, "report.md")
    write_whole(path, markdown(study))
    return str(path)


def markdown(study: dict[str, Any]) -> str:
    """The page."""
    data, pair, split = study["data"], study.get("pair"), study["split"]
    lines = [
        f"# {words(study['name'])}: NE against {words(study['reference'])} on the {words(split)} split",
        "",
        f"{count(data['rows'].get(split, 0))} rows with {count(data['positives'].get(split, 0))} positives "
        f"of {words(data['name'])}; c2al {words(study['c2al'])}, commit {words(study['commit'])}, "
        f"{words(study['created'])}.",
    ]
    if pair:
        sure = pair.get("significant", True)
        chance = "" if sure else ", not a sure one: it may be chance, or differ too little to matter"
        axis, head, tail = (words(pair[key]) for key in ("axis", "head", "tail"))
        lines.append(f"Pair of cohorts: {axis}, {head} (head) against {tail} (tail){chance}.")
    lines.append(f"Negative is better. {HOW}")
    for arm in arms(study):
        overrides = " ".join(study["arms"][arm].get("overrides", []))
        told = words(" ".join(sentences(study, arm)), most=5_000)
        lines += ["", f"## {words(arm)}", "", code(overrides), "", told, "", *_table(study, arm)]
    return "\n".join(lines) + "\n"


def words(text: object, *, most: int = 200) -> str:
    """Text as Markdown shows it, letter for letter: no HTML, links, pictures, code, emphasis or columns of its own."""
    shown = printable(text, most=most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|~$]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", shown)


def code(text: str) -> str:
    """Text as a span of code, in which nothing has a meaning but its end."""
    shown = printable(text, most=2_000)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if fence != "`" else ""
    return f"{fence}{space}{shown}{space}{fence}" if shown.strip() else ""


def _table(study: dict[str, Any], arm: str) -> list[str]:
    head = [name.format(words(study["reference"])) for name in HEAD]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for row in study["cells"]:
        if row["arm"] == arm:
            lines.append("| " + " | ".join(_cells(study, row)) + " |")
    return lines


def _cells(study: dict[str, Any], row: dict[str, Any]) -> list[str]:
    mark = f" ({side(study, row)})" if side(study, row) else ""
    name = "**all rows**" if row["axis"] == OVERALL[0] else f"{words(row['axis'])}: {words(row['cohort'])}{mark}"
    return [
        name,
        count(row["rows"]),
        count(row["positives"]),
        plain(row["ne_reference"]),
        signed(row["difference"], digits(row, least=3)),
        between(row["low"], row["high"], digits(row, least=3)),
        over_rows(row),
        p_text(row["p"]),
        p_text(row["p_holm"]),
        plain(row["mde"], 3),
        SHORT.get(row["verdict"], row["verdict"].partition(":")[0]),
    ]
