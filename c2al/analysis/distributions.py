"""Charts of distributions, from run folders: predictions of the pair's two cohorts, Y, and the weights around it.

Each function returns (caption, svg) pairs, and none where the runs hold nothing to draw.
"""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from c2al.analysis.attention import attention_of, gives_weights, role, snapshots
from c2al.analysis.bootstrap import AGAIN, read_scores, score_columns
from c2al.analysis.page import colour
from c2al.analysis.plots import Chart, histogram, short_layer
from c2al.analysis.study_file import load_arrays
from c2al.data.columns import axis_ids
from c2al.schema import DataError, Schema

Figure = tuple[str, str]

HEAD, TAIL = "var(--head)", "var(--tail)"


def found_histogram(pairs: dict[str, Any], pair: dict[str, str]) -> list[Figure]:
    """The two histograms that discovery compared, of the study's pair, where ``pairs.json`` kept them."""
    edges = np.array(pairs["bins"])
    for ranked, shares in zip(pairs["pairs"], pairs["histograms"], strict=False):
        if all(ranked[key] == pair[key] for key in ("axis", "head", "tail")):
            densities = {side: np.array(shares[side]) / np.diff(edges) for side in ("head", "tail")}
            return [("Baseline <span class=soft>as discovery saw it</span>", _pair_chart(edges, densities))]
    return []


def score_histograms(
    runs: dict[str, dict[str, Path]], *, split: str, pair: dict[str, str], schema: Schema
) -> list[Figure]:
    """Predictions of head and tail on a split, one chart for each arm, from the arm's first seed.

    The rows' cohorts are taken from any arm whose scores have them: of a learned axis, a baseline's have not.
    """
    axis = schema.axis(pair["axis"])
    stored = [schema.axis(name).column for name in axis.crosses] or [axis.column]
    firsts = {
        arm: next(iter(by_seed.values()), Path()) / "scores" / f"{split}.parquet" for arm, by_seed in runs.items()
    }
    paths = {arm: path for arm, path in firsts.items() if path.is_file()}
    source = next((path for path in paths.values() if set(stored) <= score_columns(str(path))), None)
    if source is None:
        return []
    ids = axis_ids(schema, axis, read_scores(str(source), stored))
    inside = {side: ids == axis.id_of(pair[side]) for side in ("head", "tail")}
    edges, densities = np.array([]), {}
    for arm, path in paths.items():
        scores = read_scores(str(path), ["logit", "weight"])
        weight = scores["weight"]
        log10_p = -np.logaddexp(0, -scores["logit"].astype(np.float64)) / np.log(10)
        if len(log10_p) != len(ids):
            raise DataError("two score files do not hold the same rows", file=str(path), remedy=AGAIN)
        if not len(edges):
            low, high = float(np.quantile(log10_p, 0.0005)), float(np.quantile(log10_p, 0.9995))
            edges = np.linspace(low, high if high > low else low + 1e-6 * max(1.0, abs(low)), num=51)
        densities[arm] = {side: histogram(log10_p[rows], edges, weight[rows]) for side, rows in inside.items()}
    top = max((density.max() for sides in densities.values() for density in sides.values()), default=1.0)
    name = f"{split} split, one seed"
    return [
        (f"{escape(arm)} <span class=soft>{name}</span>", _pair_chart(edges, sides, top))
        for arm, sides in densities.items()
    ]


def _pair_chart(edges: np.ndarray, densities: dict[str, np.ndarray], top: float | None = None) -> str:
    top = top or max(density.max() for density in densities.values())
    chart = Chart(x=(edges[0], edges[-1]), y=(0, 1.05 * top), x_label="predicted probability", log10_probability=True)
    middle = ((edges[:-1] + edges[1:]) / 2).tolist()
    for side, c, dash in (("tail", TAIL, "5 3"), ("head", HEAD, "")):
        chart.area(middle, densities[side].tolist(), colour=c, dash=dash)
    return chart.svg("Density of the predicted probability in the head and in the tail cohort")


def y_distributions(runs: dict[str, dict[str, Path]]) -> dict[str, list[Figure]]:
    """Y of each FM attention, or the weights of another, at the start and at the end of training, seeds together.

    All arms are over one another; weights that the mask makes zero are left out.
    """
    start, end = ({arm: _arrays(by_seed, which) for arm, by_seed in runs.items()} for which in (0, -1))
    names = next(iter(end.values()), {})
    figures: dict[str, list[Figure]] = {}
    for name in names:
        layer = name.removeprefix("activation.")
        if attention_of(layer) is None or not (name.startswith("activation.") or name.endswith("y_FK")):
            continue
        for when, arrays in (("start", start), ("end", end)):
            what, masked = ("Attention weights", True) if gives_weights(layer) else ("Y", False)
            caption = f"{what} at the {when} <span class=soft>{escape(short_layer(layer))}</span>"
            values = {arm: by[name][by[name] > 0] if masked else by[name] for arm, by in arrays.items() if name in by}
            overlay = _overlay(values, list(runs), x_label="entry")
            figures.setdefault(layer, []).append((caption, overlay))
    return figures


def weight_distributions(runs: dict[str, dict[str, Path]]) -> list[Figure]:
    """Weights of the matrices in, after and beside attention at the end of training, all arms, seeds together."""
    end = {arm: _arrays(by_seed, -1) for arm, by_seed in runs.items()}
    names = [name for name in next(iter(end.values()), {}) if not name.startswith(("activation.", "input."))]
    figures = []
    for name in names:
        place = role(name, names)
        if place in ("attention", "after", "beside", "before") and not name.endswith("y_FK"):
            overlay = _overlay({arm: by[name] for arm, by in end.items() if name in by}, list(runs), height=170)
            figures.append((f"{escape(short_layer(name))} <span class=soft>{place}</span>", overlay))
    return figures


def _arrays(by_seed: dict[str, Path], which: int) -> dict[str, np.ndarray]:
    """All matrices of an arm's first or last snapshots, flat, seeds one after the other."""
    out: dict[str, list[np.ndarray]] = {}
    for run in by_seed.values():
        steps = list(snapshots(str(run)).values())
        if len(steps) < 2:
            continue
        for name, array in load_arrays(steps[which]).items():
            if not name.startswith("input.") and array.ndim > 1 and array.size:
                out.setdefault(name, []).append(array.ravel())
    return {name: np.concatenate(parts) for name, parts in out.items()}


def _overlay(values: dict[str, np.ndarray], order: list[str], *, height: int = 220, x_label: str = "") -> str:
    reach = max(np.quantile(np.abs(v), 0.995) for v in values.values()) or 1.0
    edges = np.linspace(-reach, reach, 62)
    densities = {arm: histogram(v, edges) for arm, v in values.items()}
    top = max(density.max() for density in densities.values())
    chart = Chart(x=(-reach, reach), y=(0, 1.05 * top), height=height, x_label=x_label)
    middle = ((edges[:-1] + edges[1:]) / 2).tolist()
    for arm, density in densities.items():
        chart.area(middle, density.tolist(), colour=colour(order.index(arm)), filled=len(densities) < 4)
    return chart.svg("Distribution of the entries in each arm")
