"""The load of every rank as a picture: what it holds against what its device has, and its tables' cost in a step."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#333333"
MEMORY = {  # Okabe and Ito: told apart by colour-blind readers and in grey
    "weights": ("#0072B2", "tables: weights"),
    "optimizer": ("#56B4E9", "tables: optimizer state"),
    "dense": ("#009E73", "dense part: parameters, gradients, Adam"),
    "activations": ("#E69F00", "a step: ids, pooled rows, saved for backward"),
}
COST = {
    "compute": ("#0072B2", "look up, forward and back"),
    "comms": ("#D55E00", "ids, pooled rows and gradients between ranks"),
}
LIMIT = "#CC0000"
FAR = 4  # times what the heaviest rank holds: a limit beyond is told in words, else the bars could not be seen


def draw(file: IO[bytes], report: dict[str, Any]) -> None:
    """Write a PNG of ``Preview.report()``."""
    figure = Figure(figsize=(9, 6.5), dpi=150, layout="constrained")  # no pyplot: no global state, no display
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    ranks = report["ranks"]
    scale, unit = _unit(report["heaviest_bytes"])
    held = {part: [rank[f"{part}_bytes"] / scale for rank in ranks] for part in MEMORY}
    _stack(above, held, MEMORY)
    if report["limit_bytes"] is not None:
        far = report["limit_bytes"] > FAR * report["heaviest_bytes"]
        _limit(above, report["limit_bytes"] / scale, _to_give(report["limit_bytes"]), far=far)
    compute = [rank["ms"]["forward_compute"] + rank["ms"]["backward_compute"] for rank in ranks]
    comms = [rank["ms"]["total"] - part for rank, part in zip(ranks, compute, strict=True)]
    _stack(below, {"compute": compute, "comms": comms}, COST)
    _title(figure, f"parallel={report['sharding']}", report)
    below.set_xlim(-0.6, len(ranks) - 0.4)
    above.set_ylabel(f"{unit} on a {report['device']} device", color=INK)
    below.set_ylabel("ms a step, estimated", color=INK)
    below.set_xlabel("rank", color=INK)
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.text(
        0.01,
        -0.01,
        f"heaviest over mean: {report['balance']:.2f} in bytes, {report['cost_balance']:.2f} in cost. Times are of "
        "TorchRec's model of the hardware, for the tables alone, not measured.",
        fontsize=8,
        color=INK,
        va="top",
    )
    figure.savefig(file, format="png", bbox_inches="tight", facecolor="white")


def draw_comparison(file: IO[bytes], comparison: dict[str, Any]) -> None:
    """Write a PNG of ``Planner.compare()``: the heaviest rank's bytes and the estimated cost under each sharding."""
    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    lines = [line for line in comparison["plans"] if "refused" not in line][::-1]  # barh draws upwards
    limit_bytes = comparison["limit_bytes"]
    _title(figure, "sharding plans", comparison)
    held, cost = figure.subplots(1, 2, sharey=True)
    heaviest = max(line["heaviest_bytes"] for line in lines)
    scale, unit = _unit(heaviest)
    names = [line["sharding"] for line in lines]
    colours = ["#0072B2" if line["fits"] else "#BBBBBB" for line in lines]
    held.barh(names, [line["heaviest_bytes"] / scale for line in lines], color=colours)
    cost.barh(names, [line["step_ms"] for line in lines], color=colours)
    far = limit_bytes is not None and limit_bytes > FAR * heaviest
    if limit_bytes is not None and not far:
        held.axvline(limit_bytes / scale, color=LIMIT, linewidth=1.4, linestyle="--")
    what = _to_give(limit_bytes) if far else "grey does not fit"
    held.set_xlabel(f"{unit} on the heaviest rank; {what}", color=INK)
    cost.set_xlabel("ms a step for the tables, estimated", color=INK)
    for axes in (held, cost):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
    figure.savefig(file, format="png", bbox_inches="tight", facecolor="white")


def _title(figure: Figure, what: str, where: dict[str, Any]) -> None:
    hosts = -(-where["world_size"] // where["ranks_per_host"])
    text = f"{what}: {where['world_size']} ranks on {hosts} host{'s' if hosts > 1 else ''}, {where['device']}"
    figure.suptitle(text, x=0.01, ha="left", color=INK, fontweight="bold")


def _stack(axes: Axes, parts: Mapping[str, Sequence[float]], styles: Mapping[str, tuple[str, str]]) -> None:
    bottom = np.zeros(len(next(iter(parts.values()))))
    for part, values in parts.items():
        colour, label = styles[part]
        axes.bar(np.arange(len(bottom)), values, bottom=bottom, width=0.85, color=colour, label=label)
        bottom = bottom + np.asarray(values)
    axes.set_ylim(0, 1.05 * max(bottom.max(), 1e-9))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)


def _unit(size_bytes: float) -> tuple[int, str]:
    return (2**30, "GiB") if size_bytes >= 2**30 else (2**20, "MiB")


def _to_give(limit_bytes: int) -> str:
    scale, unit = _unit(limit_bytes)
    return f"{limit_bytes / scale:,.4g} {unit} to give"


def _limit(axes: Axes, limit: float, words: str, *, far: bool) -> None:
    if not far:
        axes.axhline(limit, color=LIMIT, linewidth=1.4, linestyle="--")
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * limit))
    axes.annotate(
        words,
        (1, 1 if far else limit),
        xycoords=("axes fraction", "axes fraction" if far else "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=LIMIT,
    )
