"""The picture of a pair: two cohorts' histograms of log-scaled predictions over one another, as in the paper."""

from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2al.printable import p_text, printable

HEAD, TAIL, INK = "#0072B2", "#D55E00", "#333333"  # Okabe and Ito: told apart by colour-blind readers and in grey


def draw(file: IO[bytes], found: dict[str, Any]) -> None:
    """Write a PNG of the first pair of ``pairs.json``'s content."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")  # no pyplot: no global state, no display
    pair, histogram = found["pairs"][0], found["histograms"][0]
    axes = figure.subplots()
    highest = 100 * max(max(histogram["head"]), max(histogram["tail"]))
    for side, colour, style in (("head", HEAD, "-"), ("tail", TAIL, "--")):
        sizes = f"{pair[f'{side}_rows']:,} rows, {pair[f'{side}_positive_rate']:.3%} positive"
        label = f"{_plain(pair[side])} ({side}): {sizes}"
        shares = 100 * np.asarray(histogram[side])
        axes.stairs(shares, found["bins"], fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, found["bins"], color=colour, linewidth=1.8, linestyle=style, label=label)
        mean = np.log10(max(pair[f"{side}_mean_prediction"], 1e-300))
        axes.axvline(mean, ymax=0.8, color=colour, linestyle=style, linewidth=1)
    _dress(axes, found["bins"], highest)
    name, (low, high) = found["divergence"], pair["interval"]
    share = f"{100 * (1 - found['settings']['alpha']):g} %"
    title = f"{_plain(pair['axis'])}: {_plain(pair['head'])} against {_plain(pair['tail'])}"
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    figure.text(
        0.01,
        0.0,
        f"{name} {pair['divergences'][name]:.4f}; {share} interval, of all pairs at once: {low:.4f} to {high:.4f}; "
        f"Holm p {p_text(pair['p_holm'])}: {pair['verdict']}. Vertical lines: mean predictions",
        fontsize=8,
        color=INK,
        va="top",
    )
    figure.savefig(file, format="png", bbox_inches="tight", facecolor="white")


def _dress(axes: Axes, bins: list[float], highest: float) -> None:
    decades = np.arange(np.floor(bins[0]), np.ceil(bins[-1]) + 1)
    marks = (1, 2, 5) if bins[-1] - bins[0] < 1.5 else (1,)  # a narrow range may hold no power of ten
    ticks = np.log10(np.outer(10.0**decades, marks).ravel())
    axes.set_xticks(ticks, [f"{10**tick:.10f}".rstrip("0").rstrip(".") for tick in ticks])
    minor = np.log10(np.outer(10**decades, np.arange(2, 10)).ravel())
    axes.set_xticks(minor, minor=True)
    axes.set_xlim(bins[0], bins[-1])
    axes.set_ylim(0, 1.25 * highest)  # room for the legend
    axes.set_xlabel("predicted probability (log scale)", color=INK)
    axes.set_ylabel("share of the cohort, %", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0, 1.0))


def _plain(name: object) -> str:
    """A name on one line, without matplotlib's own markup (``$``)."""
    return printable(name, most=60).replace("$", r"\$")
