"""The forest: every cohort's difference with its interval, the seeds behind it, and what could have been detected."""

from collections.abc import Iterable
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from c2al.analysis.page import colour, count, key, signed
from c2al.analysis.plots import short, ticks
from c2al.analysis.significance import OVERALL
from c2al.analysis.verdict import arms, digits, interval_text, side


def forest(study: dict[str, Any]) -> str:
    """All cells of all arms by axis, the pair's axis first; one lane for each arm."""
    low, high = limits(study["cells"])
    by_cell: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in study["cells"]:
        by_cell.setdefault((row["axis"], row["cohort"]), []).append(row)
    pair_axis = (study.get("pair") or {}).get("axis")
    order = sorted(by_cell, key=lambda cell: (cell != OVERALL, cell[0] != pair_axis))  # stable: else as they came
    out = [_legend(study), '<div class="forest">', _ticks(low, high)]
    for axis, cells in groupby(order, key=lambda cell: cell[0]):
        if axis != OVERALL[0]:
            out.append(f'<div class="axis">{escape(axis)}</div>')
        out += [_row(study, by_cell[cell], low, high) for cell in cells]
    return "".join([*out, _ticks(low, high), "</div>"])


def limits(cells: Iterable[dict[str, Any]]) -> tuple[float, float]:
    """A common scale that shows every mean and most intervals whole; the few widest are cut and marked."""
    rows = [row for row in cells if row["difference"] is not None]
    if not rows:
        return -1.0, 1.0
    means = [row["difference"] for row in rows]
    ends = {end: [row[end] for row in rows if row[end] is not None] or means for end in ("low", "high")}
    low = 1.5 * min(*means, np.quantile(ends["low"], 0.1), 0.0)
    high = 1.5 * max(*means, np.quantile(ends["high"], 0.9), 0.0)
    low, high = max(low, min(*ends["low"], 0.0)), min(high, max(*ends["high"], 0.0))
    air = 0.05 * (high - low) or 1.0
    return float(low - air), float(high + air)


def _row(study: dict[str, Any], rows: list[dict[str, Any]], low: float, high: float) -> str:
    first = rows[0]
    mark = side(study, first)
    tag = f'<span class="tag {mark}">{mark}</span>' if mark else ""
    name = "<b>All rows</b>" if first["axis"] == OVERALL[0] else escape(first["cohort"])
    sizes = f"<small>{count(first['rows'])} rows, {count(first['positives'])} positive</small>"
    numbers = {arm: i for i, arm in enumerate(arms(study), start=1)}
    colours = [colour(numbers[row["arm"]]) if len(numbers) > 1 else _verdict_colour(row) for row in rows]
    lanes = "".join(_lane(row, c, low, high) for row, c in zip(rows, colours, strict=True))
    values = "".join(_values(row) for row in rows)
    return (
        f'<div class="row{" pair" if mark else ""}"><div class="name">{name}{tag}{sizes}</div>'
        f'<div class="lanes">{lanes}</div><div class="values">{values}</div></div>'
    )


def _verdict_colour(row: dict[str, Any]) -> str:
    return f"var(--{row['verdict']})" if row["verdict"] in ("better", "worse") else "var(--soft)"


def _lane(row: dict[str, Any], c: str, low: float, high: float) -> str:
    def at(value: float) -> float:
        return float(np.clip(100 * (value - low) / (high - low), 0, 100))

    def span(name: str, start: float, end: float) -> str:
        return f'<span class="{name}" style="left:{at(start):.2f}%;width:{at(end) - at(start):.2f}%"></span>'

    out = []
    if row["mde"] is not None:
        out.append(span("mde", -row["mde"], row["mde"]))
    out.append(f'<span class="zero" style="left:{at(0):.2f}%"></span>')
    if row["low"] is not None:
        out.append(span("ci", row["low"], row["high"]))
        out += ['<span class="more" style="left:-9px">‹</span>'] * (row["low"] < low)
        out += ['<span class="more" style="right:-9px">›</span>'] * (row["high"] > high)
    seeds = [value for value in row["per_seed"].values() if low <= value <= high]
    out += [f'<span class="seed" style="left:{at(value):.2f}%"></span>' for value in seeds if len(row["per_seed"]) > 1]
    if row["difference"] is not None:
        told = " full" if row["verdict"] in ("better", "worse") else ""
        out.append(f'<span class="dot{told}" style="left:{at(row["difference"]):.2f}%"></span>')
    return f'<div class="lane" style="--c:{c}" title="{escape(_title(row), quote=True)}">{"".join(out)}</div>'


def _title(row: dict[str, Any]) -> str:
    seeds = ", ".join(f"seed {seed}: {signed(value)}" for seed, value in row["per_seed"].items())
    return f"{row['arm']}, {row['axis']} {row['cohort']}: {row['verdict']}. {seeds}"


def _values(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return f"<div>{escape(row['verdict'].partition(':')[0])}</div>"
    told = row["verdict"] if row["verdict"] in ("better", "worse") else ""
    return f'<div><b class="{told}">{signed(row["difference"], digits(row))}</b> {interval_text(row)}</div>'


def _ticks(low: float, high: float) -> str:
    marks = "".join(
        f'<span style="left:{100 * (value - low) / (high - low):.2f}%">{short(value)}</span>'
        for value in ticks(low, high, count=6)
    )
    unit = '<div class="values soft">%, interval</div>'
    return f'<div class="row head"><div></div><div class="ticks">{marks}</div>{unit}</div>'


def _legend(study: dict[str, Any]) -> str:
    missed = ("effects that this study could have missed", "var(--band)", "band")
    untold = ("hollow: cannot be told from zero", "var(--soft)", "dot")
    if len(arms(study)) < 2:
        return key(("better", "var(--better)", "dot full"), ("worse", "var(--worse)", "dot full"), untold, missed)
    named = [(arm, colour(i), "dot full") for i, arm in enumerate(arms(study), start=1)]
    return key(*named, untold, missed)
