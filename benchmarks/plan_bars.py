"""Plans as bars: rows/s with every round's value beside the plain TorchRec loop's, and the parts of a step."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import parts
from benchmarks.plan_lines import title

INK, OWN, BEST, STOCK = "#333333", "#56B4E9", "#0072B2", "#E69F00"  # Okabe and Ito
COLOURS = {  # dense parts in greens, tables' computing in blues, what travels in oranges
    parts.INPUT: "#F0B060",
    parts.LOOKUP: "#56B4E9",
    parts.OUTPUT: "#D55E00",
    parts.FORWARD: "#66C2A5",
    parts.BACKWARD: "#1B7F5F",
    parts.GRADIENTS: "#A63603",
    parts.UPDATE: "#0072B2",
    parts.OPTIMIZER: "#CC79A7",
    parts.WAITING: "#DDDDDD",
    parts.REST: "#AAAAAA",
}


def draw(file: IO[bytes], found: Mapping[str, Any]) -> None:
    """Write a PNG."""
    plans = found["plans"]
    timed = all("parts_ms" in plan for plan in plans.values())
    figure = Figure(figsize=(12 if timed else 7.5, 1.8 + 0.55 * len(plans)), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    _speeds(axes[0], plans, found["recommended"]["plan"])
    if timed:
        _parts(axes[1], plans)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="x", alpha=0.25)
        each.set_axisbelow(True)
        each.tick_params(colors=INK)
    figure.suptitle(title(found), x=0.01, ha="left", color=INK, fontweight="bold", fontsize=11)
    figure.savefig(file, format="png", bbox_inches="tight", facecolor="white")


def _speeds(axes: Axes, plans: Mapping[str, Any], chosen: str | None) -> None:
    places = np.arange(len(plans))[::-1]
    with_stock = all("stock_rows_per_s" in plan for plan in plans.values())
    height = 0.38 if with_stock else 0.7
    own = [plan["rows_per_s"] for plan in plans.values()]
    colours = [BEST if name == chosen else OWN for name in plans]
    _bars(axes, places + (height / 2 if with_stock else 0), own, height, colours)
    if with_stock:
        stock = [plan["stock_rows_per_s"] for plan in plans.values()]
        _bars(axes, places - height / 2, stock, height, [STOCK] * len(stock))
    axes.set_yticks(places, [f"{name} *" if name == chosen else name for name in plans], color=INK)
    axes.set_xlabel("rows/s over all ranks: median, range and every round", color=INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,g}k" if value else "0")
    handles = [axes.barh([0], [0], color=colour) for colour in (BEST, OWN, *([STOCK] if with_stock else []))]
    names = ["c2al, recommended *", "c2al", "TorchRec in a plain loop"][: len(handles)]
    axes.legend(handles, names, frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _bars(
    axes: Axes, places: np.ndarray, speeds: Sequence[Mapping[str, Any]], height: float, colours: Sequence[str]
) -> None:
    medians = np.array([each["median"] for each in speeds])
    ranges = [medians - [each["low"] for each in speeds], np.array([each["high"] for each in speeds]) - medians]
    axes.barh(places, medians, height=height * 0.92, color=colours)
    axes.errorbar(medians, places, xerr=ranges, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    for place, each in zip(places, speeds, strict=True):
        axes.plot(each["rounds"], [place] * len(each["rounds"]), ".", color=INK, markersize=3, alpha=0.6)


def _parts(axes: Axes, plans: Mapping[str, Any]) -> None:
    places = np.arange(len(plans))[::-1]
    left = np.zeros(len(plans))
    for part, colour in COLOURS.items():
        values = np.array([plan["parts_ms"][part] for plan in plans.values()])
        axes.barh(places, values, left=left, height=0.7, color=colour, label=part)
        left = left + values
    axes.set_xlabel("ms of an instrumented step, by part, mean over ranks", color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
