"""What ``benchmarks.sharding_plans`` found, in the terminal and as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from benchmarks.parts import PARTS
from benchmarks.plan_findings import NOISE, WANTED_OVERHEAD, rank_correlation, upper_quartile

Plan = Mapping[str, Any]
MIB = 2**20


def _part_ms(plan: Mapping[str, Any], part: str) -> str:
    return f"{plan['parts_ms'][part]:.1f}"


Column = Callable[[Plan], str]
SPEED: dict[str, Column] = {
    "rows/s": lambda plan: f"{plan['rows_per_s']['median']:,.0f}",
    "± %": lambda plan: f"{_half_width(plan['rows_per_s']):.1f}",
    "p50 ms": lambda plan: f"{plan['step_ms']['p50']:.1f}",
    "p95 ms": lambda plan: f"{plan['step_ms']['p95']:.1f}",
    "c2al : stock": lambda plan: _ratio(plan.get("to_stock")),
    "overhead": lambda plan: f"{plan['overhead']['median']:.1%}",
    "loss": lambda plan: f"{plan['loss']:.7f}{'' if plan['equal'] else ' ≠'}",
    "final loss": lambda plan: f"{plan['final_loss']:.4f}",
}
COST: dict[str, Column] = {
    "tables MiB": lambda plan: _by_rank(plan, "tables", "table_optimizer"),
    "peak MiB": lambda plan: _by_rank(plan, "peak_added"),
    "plan's MiB": lambda plan: f"{max(plan['estimated_bytes']) / MIB:,.0f}",
    "sent KiB": lambda plan: f"{sum(plan['sent_bytes'].values()) / 1024:,.0f}" if "sent_bytes" in plan else "",
    "tables ms": lambda plan: f"{plan['tables_ms']:.1f}" if "tables_ms" in plan else "",
    "planner ms": lambda plan: f"{plan['estimated_ms']:.2f}",
    "lookup GB/s": lambda plan: _rate(plan, "lookup_bytes_per_s"),
    "of copy": lambda plan: _share(plan, "lookup_share_of_copy"),
    "dense Gflop/s": lambda plan: _rate(plan, "dense_flops_per_s"),
    "of product": lambda plan: _share(plan, "dense_share_of_product"),
}
TIME: dict[str, Column] = {part: partial(_part_ms, part=part) for part in PARTS}


def plan_tables(found: Mapping[str, Any]) -> Group:
    """A line a plan, the fastest on top: its speed, what it costs, the parts of its step."""
    timed = all("parts_ms" in plan for plan in found["plans"].values())
    kinds = {title(found): SPEED, "what a plan holds, sends and reaches": COST}
    kinds |= {"ms of an instrumented step, mean over ranks": TIME} if timed else {}
    return Group(*(_table(found, name, columns) for name, columns in kinds.items()))


def _table(found: Mapping[str, Any], name: str, columns: Mapping[str, Column]) -> Table:
    table = Table(title=name, title_justify="left", box=SIMPLE_HEAD)
    for column in ("plan", *columns):
        table.add_column(column, justify="left" if column == "plan" else "right", no_wrap=column == "plan")
    for plan_name, plan in found["plans"].items():
        mark = " *" if plan_name == found["recommended"]["plan"] else ""
        table.add_row(plan_name + mark, *(show(plan) for show in columns.values()))
    return table


def title(found: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    settings, tables = found["settings"], found["tables"]
    ranks = f"{settings['world_size']} ranks × {settings['threads']} threads"
    shapes = f"{found['name']}: {tables['count']} tables, {tables['rows']:,} rows"
    return f"{shapes}; {ranks}, {settings['batch_size']:,} rows each"


def words(found: Mapping[str, Any]) -> list[str]:
    """What the table says, in words: refusals, targets, the recommended plan."""
    lines = [f"{name}: not measured: {reason}" for name, reason in found["refused"].items()]
    settings, losses = found["settings"], found["losses"]
    unequal = [name for name, plan in found["plans"].items() if not plan["equal"]]
    plans = found["plans"].values()
    farthest = max(max(plan["distance"], plan["stock_distance"] or 0.0) for plan in plans)
    beside = ", the plain loop's too" if settings["stock"] else ""
    finals = [plan["final_loss"] for plan in plans]
    lines.append(
        f"losses of the first {losses['compared']} steps within {farthest:.1e}{beside} "
        f"({losses['tolerance']:.0e} allowed): "
        + (f"{', '.join(unequal)} did NOT train what the others did" if unequal else "all plans train the same thing")
        + f"; final losses, after {losses['steps']} steps, within {max(finals) / min(finals) - 1:.1e}"
    )
    overheads = [plan["overhead"]["median"] for plan in found["plans"].values()]
    lines.append(
        f"overhead of c2al's loop, log and pulse: {min(overheads):.1%} to {max(overheads):.1%} of a step "
        f"(wanted under {WANTED_OVERHEAD:.0%}: {_verdict(max(overheads) < WANTED_OVERHEAD)})"
    )
    if settings["stock"]:
        ratios = {name: plan["to_stock"] for name, plan in found["plans"].items()}
        slow = [name for name, ratio in ratios.items() if ratio["median"] < 1 - NOISE and upper_quartile(ratio) < 1]
        least, most = (pick(ratio["median"] for ratio in ratios.values()) for pick in (min, max))
        lines.append(
            f"rows/s to those of the plain TorchRec loop: {least:.3f} to {most:.3f} (wanted: no plan slower: "
            + (f"MISSED by {', '.join(slow)})" if slow else "met)")
        )
    if (correlation := rank_correlation(found["plans"])) is not None:
        lines.append(
            f"TorchRec's planner on the tables' share of a step: rank correlation {correlation:.2f} over plans"
        )
    chosen = found["recommended"]
    named = f"parallel={chosen['plan']}" if chosen["plan"] else "none"
    return [*lines, f"recommended: {named}: {chosen['reason']}"]


def markdown(found: Mapping[str, Any]) -> str:
    """The same for docs/benchmarks.md, with the parts of a step below."""
    kinds = {"": SPEED, "\n\n": COST}
    if all("parts_ms" in plan for plan in found["plans"].values()):
        kinds["\n\nParts of an instrumented step, ms, mean over ranks:\n\n"] = TIME
    text = f"{title(found)}. {about(found)}\n\n"
    for before, columns in kinds.items():
        rows = [[name, *(show(plan) for show in columns.values())] for name, plan in found["plans"].items()]
        text += before + grid(["plan", *columns], rows)
    return text + "\n\n" + "\n".join(f"* {line}" for line in words(found)) + "\n"


def about(found: Mapping[str, Any]) -> str:
    """Rounds, machine, versions, day."""
    hardware, rounds = found["hardware"], found["settings"]["rounds"]
    machine = f"{hardware.get('gpu', hardware['processor'])}, {hardware['cores']} cores"
    return f"{rounds} rounds; {machine}, torch {found['versions']['torch']}, {found['date'][:10]}."


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_rank(plan: Plan, *keys: str) -> str:
    """The heaviest rank, and the lightest where it differs."""
    held = [[each[key] for key in keys] for each in plan["memory"]]
    if any(value is None for each in held for value in each):
        return ""
    sums = sorted(round(sum(each) / MIB) for each in held)
    return f"{sums[-1]:,}" if sums[0] == sums[-1] else f"{sums[-1]:,} ({sums[0]:,})"


def _half_width(found: Mapping[str, Any]) -> float:
    return 50 * (found["high"] - found["low"]) / found["median"]


def _ratio(found: Mapping[str, Any] | None) -> str:
    return f"{found['median']:.3f} ({found['low']:.2f} to {found['high']:.2f})" if found else ""


def _share(plan: Plan, key: str) -> str:
    return f"{plan[key]:.0%}" if plan.get(key) is not None else ""


def _rate(plan: Plan, key: str) -> str:
    return f"{plan[key] / 1e9:,.1f}" if plan.get(key) is not None else ""


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
