"""Rows/s over ranks and threads as bars, weak and strong, c2al's beside those of TorchRec in a plain loop."""

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plan_bars import BEST, INK, STOCK

LOOPS = {"rows_per_s": (BEST, "c2al"), "stock_rows_per_s": (STOCK, "TorchRec in a plain loop")}


def draw(file: IO[bytes], found: Mapping[str, Any]) -> None:
    """Write a PNG."""
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("weak", "strong"), strict=True):
        cases = [case for case in found["cases"] if case["kind"] == kind]
        _bars(axes, sorted(cases, key=lambda case: (case["ranks"], case["threads"])))
        settings = found["settings"]
        each = "a rank" if kind == "weak" else "on all ranks together"
        axes.set_title(f"{kind}: {settings['batch_size']:,} rows a step {each}", loc="left", fontsize=9, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK)
    figure.axes[0].set_ylabel("rows/s over all ranks: median, range, every round", color=INK)
    figure.axes[0].yaxis.set_major_formatter(lambda value, _: f"{value / 1000:,g}k" if value else "0")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    tables = found["tables"]
    text = f"{found['name']}: {tables['count']} tables, {tables['rows']:,} rows, parallel={settings['sharding']}, "
    text += f"{found['cores']} cores"
    figure.suptitle(text, x=0.01, ha="left", color=INK, fontweight="bold", fontsize=11)
    figure.savefig(file, format="png", bbox_inches="tight", facecolor="white")


def _bars(axes: Axes, cases: list[Mapping[str, Any]]) -> None:
    places = np.arange(len(cases))
    loops = [loop for loop in LOOPS if all(loop in case for case in cases)]
    for index, loop in enumerate(loops):
        colour, name = LOOPS[loop]
        at = places + 0.4 * (index - (len(loops) - 1) / 2)
        medians = np.array([case[loop]["median"] for case in cases])
        low = medians - [case[loop]["low"] for case in cases]
        high = np.array([case[loop]["high"] for case in cases]) - medians
        axes.bar(at, medians, width=0.38, color=colour, label=name)
        axes.errorbar(at, medians, yerr=[low, high], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        for place, case in zip(at, cases, strict=True):
            axes.plot([place] * len(case[loop]["rounds"]), case[loop]["rounds"], ".", color=INK, markersize=3)
    names = [f"{case['ranks']} rank{'s' * (case['ranks'] > 1)}\n× {case['threads']}" for case in cases]
    marked = [f"{name}{' †' * case['oversubscribed']}" for name, case in zip(names, cases, strict=True)]
    axes.set_xticks(places, marked)
    more = "; † more than cores" if any(case["oversubscribed"] for case in cases) else ""
    axes.set_xlabel(f"ranks × threads{more}", color=INK)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
