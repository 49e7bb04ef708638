"""A previewed sharding plan in the terminal: its tables, the load of every rank in bars, and the verdict in words."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from c2al.parallel.plan import span

PARTS = ("weights", "optimizer", "dense", "activations")
MARKS = {"weights": "█", "optimizer": "▓", "dense": "▒", "activations": "░"}
BAR = 16
MOST_LINES = 24  # of ranks
UNITS = {"GiB": 2**30, "MiB": 2**20}


def plan_tables(report: dict[str, Any]) -> Group:
    """Of ``Preview.report()``: a table of the tables, one of the ranks."""
    return Group(_tables(report), _ranks(report))


def plan_words(report: dict[str, Any]) -> list[str]:
    """The verdict, a line each: why tables lie where they do, balance, cost, and whether it fits."""
    lines = [f"{reason}: {', '.join(names)}" for reason, names in _reasons(report["tables"]).items()]
    lines += [
        f"heaviest over mean: {report['balance']:.2f} in bytes, {report['cost_balance']:.2f} in cost",
        f"the tables' step: {report['step_ms']:.3g} ms by TorchRec's model of the hardware, not measured",
    ]
    if host := max(rank.get("host_bytes", 0) for rank in report["ranks"]):
        lines.append(f"tables in unified memory: up to {_size(host)} of a rank in its host's memory")
    limit, heaviest = report["limit_bytes"], report["heaviest_bytes"]
    if limit is None:
        return [*lines, f"the heaviest rank holds {_size(heaviest)}; parallel.memory_gib=… says whether that fits"]
    if report["first_over"] is None:
        return [*lines, f"fits: the heaviest rank holds {_size(heaviest)} of {_size(limit)}"]
    total = sum(report["ranks"][report["first_over"]][f"{part}_bytes"] for part in PARTS)
    over = f"rank {report['first_over']} would hold {_size(total)}, its device has {_size(limit)} to give"
    return [*lines, f"does not fit: {over}; {report['remedy']}"]


def comparison_table(comparison: dict[str, Any]) -> Table:
    """Of ``Planner.compare()``: one line a sharding, best first."""
    table = _new(_where(comparison), "sharding", ("fits", "heaviest rank", "balance", "ms"))
    for line in comparison["plans"]:
        if "refused" in line:
            table.add_row(line["sharding"], "refused", "–", "–", "–")
        else:
            size, ms = _size(line["heaviest_bytes"]), f"{line['step_ms']:.3g}"
            table.add_row(line["sharding"], "yes" if line["fits"] else "no", size, f"{line['balance']:.2f}", ms)
    return table


def comparison_words(comparison: dict[str, Any]) -> list[str]:
    """Why plans were refused, a line each; each names its sharding."""
    return [line["refused"].split(". Remedy")[0] for line in comparison["plans"] if "refused" in line]


def _tables(report: dict[str, Any]) -> Table:
    unit, scale = _unit(max(_heaviest(each, "weight_bytes") for each in report["tables"]))
    table = _new(
        f"parallel={report['sharding']}, {_where(report)}; the heaviest shard of each table",
        "table",
        ("rows × dim", "sharding", "ranks", f"weights\n{unit}", f"optimizer\n{unit}", "compute\nms", "comms\nms"),
    )
    for each in report["tables"]:
        slowest = max((shard["ms"] for shard in each["shards"]), key=lambda ms: ms["total"])
        compute = slowest["forward_compute"] + slowest["backward_compute"]
        kernel = each.get("kernel")
        table.add_row(
            each["table"],
            f"{each['num_rows']:,} × {each['dim']}",
            each["sharding"] if kernel in (None, "fused", "dense") else f"{each['sharding']}\n{kernel}",
            span(each["ranks"]),
            *(f"{_heaviest(each, name) / scale:,.2f}" for name in ("weight_bytes", "optimizer_bytes")),
            f"{compute:.3f}",
            f"{slowest['total'] - compute:.3f}",
        )
    return table


def _ranks(report: dict[str, Any]) -> Table:
    unit, scale = _unit(report["heaviest_bytes"])
    marks = ", ".join(f"{mark} {part}" for part, mark in MARKS.items())
    limit = report["limit_bytes"]
    names = ("weights", "optim.", "dense", "activ.", "total", *(["limit"] if limit else []), "ms")
    table = _new(f"load by rank in {unit}: {marks}", "rank", names)
    table.add_column("", min_width=BAR, no_wrap=True)
    lines = []
    for number, rank in enumerate(report["ranks"]):
        total = _total(rank)
        cells = [f"{rank[f'{part}_bytes'] / scale:,.2f}" for part in PARTS]
        cells += [f"{total / scale:,.2f}", *([f"{total / limit:.0%}"] if limit else []), f"{rank['ms']['total']:.3g}"]
        lines.append((cells, number, rank))
    groups = [list(group) for _, group in groupby(lines, key=lambda line: line[0])]  # neighbours that look alike as one
    shown = sorted(groups, key=lambda group: -_total(group[0][2]))[:MOST_LINES]
    for group in sorted(shown, key=lambda group: group[0][1]):
        cells, _, rank = group[0]
        table.add_row(span([number for _, number, _ in group]), *cells, _bar(rank, report["heaviest_bytes"]))
    if len(shown) < len(groups):
        table.caption = f"the {MOST_LINES} heaviest of {len(groups)} different loads; to=plan.json holds all"
    return table


def _where(report: dict[str, Any]) -> str:
    hosts = -(-report["world_size"] // report["ranks_per_host"])
    return f"{report['world_size']} ranks on {hosts} host{'s' if hosts > 1 else ''}, {report['device']}"


def _new(title: str, first: str, others: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        text = name in ("sharding", "fits")
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=name == "rows × dim")
    return table


def _bar(rank: dict[str, Any], heaviest: int) -> str:
    """Its parts one after another; ends are rounded, so that the whole is as long as the total says."""
    bar, done = "", 0
    for part in PARTS:
        done += rank[f"{part}_bytes"]
        bar += MARKS[part] * (round(BAR * done / max(1, heaviest)) - len(bar))
    return bar


def _reasons(tables: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in tables:
        if each.get("reason"):
            found.setdefault(f"{each['sharding']} ({each['reason']})", []).append(each["table"])
    return found


def _heaviest(table: dict[str, Any], name: str) -> int:
    return max(shard[name] for shard in table["shards"])


def _total(rank: dict[str, Any]) -> int:
    return sum(rank[f"{part}_bytes"] for part in PARTS)


def _unit(largest: float) -> tuple[str, int]:
    return ("GiB", UNITS["GiB"]) if largest >= 10 * UNITS["GiB"] else ("MiB", UNITS["MiB"])


def _size(number: float) -> str:
    unit, scale = _unit(number)
    return f"{number / scale:,.1f} {unit}"
