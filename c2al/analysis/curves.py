"""Charts along training, from run folders: learning curves, and the width of Y.

Each function returns (caption, svg) pairs, and none where the runs hold nothing to draw.
"""

import json
import re
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np

from c2al.analysis.attention import gives_weights
from c2al.analysis.page import colour
from c2al.analysis.plots import Chart, bounds, short_layer, smooth
from c2al.analysis.study_file import MOST
from c2al.plain_files import read_regular
from c2al.printable import printable
from c2al.schema import DataError

Figure = tuple[str, str]
Curve = tuple[np.ndarray, np.ndarray]

NUM_POINTS = 160


def run_paths(study: dict[str, Any], folder: str) -> dict[str, dict[str, Path]]:
    """Run folders by arm and seed, the reference first."""
    order = sorted(study["arms"], key=lambda arm: arm != study["reference"])
    return {arm: {str(s): Path(folder, run) for s, run in study["arms"][arm]["runs"].items()} for arm in order}


def learning_curves(runs: dict[str, dict[str, Path]], reference: str) -> list[Figure]:
    """Training loss of the primary head, validation NE, and its difference from the same seed's reference run."""
    train = _curves(runs, _primary_loss, window=0.03)
    valid = _curves(runs, lambda line: line.get("ne") if line.get("split") == "validation" else None)
    differences = {
        arm: {s: _against(curve, valid[reference][s]) for s, curve in by_seed.items() if s in valid[reference]}
        for arm, by_seed in valid.items()
        if arm != reference
    }
    figures = [
        ("Training loss <span class=soft>primary head, moving mean</span>", train, None),
        ("Validation NE", valid, None),
        (
            f"NE against {escape(reference)}, % <span class=soft>validation, same seed</span>",
            differences,
            0.0,
        ),
    ]
    return [
        (caption, _curve_chart(curves, list(runs), level).svg(re.sub("<.*?>", "", unescape(caption))))
        for caption, curves, level in figures
        if any(len(curve[0]) > 1 for by_seed in curves.values() for curve in by_seed.values())
    ]


def _primary_loss(line: dict[str, Any]) -> float | None:
    if line.get("split") != "train":
        return None
    losses = line.get("losses")
    return losses[0] if isinstance(losses, list) and losses else line.get("loss")


def _curves(
    runs: dict[str, dict[str, Path]], value: Callable[[dict[str, Any]], float | None], *, window: float = 0.0
) -> dict[str, dict[str, Curve]]:
    out: dict[str, dict[str, Curve]] = {}
    for arm, by_seed in runs.items():
        out[arm] = {}
        for seed, run in by_seed.items():
            lines = _lines(run)
            points = [(line["step"], found) for line in lines if (found := _drawn(value(line))) is not None]
            if points:
                steps, values = np.array(points, dtype=float).T
                out[arm][seed] = steps, smooth(values, int(window * len(values)))
    return out


def _lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a kill may have cut the last one short, and no other."""
    path = run / "metrics.jsonl"
    texts = _content(path).split(b"\n") if path.exists() else []
    out: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not (isinstance(line["step"], int) and isinstance(line["split"], str) and 0 <= line["step"] <= MOST):
                raise TypeError
            out.append(line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number < len(texts):
                raise DataError(
                    f"line {number} is no line of metrics",
                    file=str(path),
                    value=printable(text.decode("utf-8", "replace"), most=80),
                    remedy="delete this line, or the run's folder and start the study again",
                ) from error
    return out


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        problem = f"a run's metrics do not open: {error.strerror}"
        raise DataError(problem, file=str(path), remedy="remove the file: the report is then made without it") from None


def _drawn(found: Any) -> float | None:
    """A number that can be drawn, or None."""
    known = isinstance(found, int | float) and not isinstance(found, bool) and abs(found) <= MOST
    return float(found) if known else None


def _against(curve: Curve, ref: Curve) -> Curve:
    steps, at, at_ref = np.intersect1d(curve[0], ref[0], return_indices=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # a point that is not finite is not drawn
        return steps, 100 * (curve[1][at] / ref[1][at_ref] - 1)


def _curve_chart(curves: dict[str, dict[str, Curve]], order: list[str], level: float | None) -> Chart:
    """All seeds thin, their mean thick. The first tenth of training is left out of the scale, where all curves fall."""
    last = max(steps[-1] for by_seed in curves.values() for steps, _ in by_seed.values() if len(steps))
    late = [values[steps >= 0.1 * last] for by_seed in curves.values() for steps, values in by_seed.values()]
    chart = Chart(x=(0, last), y=bounds(*late, around=level), x_label="step")
    if level is not None:
        chart.level(level)
    for arm, by_seed in curves.items():
        c = colour(order.index(arm))
        shown = [(steps, values) for steps, values in by_seed.values() if len(steps) > 1]
        for steps, values in shown if len(shown) > 1 else []:
            keep = np.unique(np.linspace(0, len(steps) - 1, NUM_POINTS).astype(int))
            chart.line(steps[keep].tolist(), values[keep].tolist(), colour=c, width=1, faint=True)
        if shown:
            end = min(steps[-1] for steps, _ in shown)
            at = np.unique(np.concatenate([steps[steps <= end] for steps, _ in shown]))
            at = at[np.unique(np.linspace(0, len(at) - 1, NUM_POINTS).astype(int))]
            mean = np.mean([np.interp(at, steps, values) for steps, values in shown], axis=0)
            chart.line(at.tolist(), mean.tolist(), colour=c, width=2.2)
    return chart


def width_along_training(density: list[dict[str, Any]], order: list[str]) -> dict[str, Figure]:
    """The standard deviation of Y or of attention weights along training: arm over reference, interval over seeds."""
    layers = dict.fromkeys(row["layer"] for row in density if "row_entropy" in row["measures"])
    figures: dict[str, Figure] = {}
    for layer in layers:
        points = {}
        for arm in order[1:]:
            rows = [row for row in density if (row["arm"], row["layer"]) == (arm, layer) and "std" in row["measures"]]
            stds = [(row["step"], row["measures"]["std"]) for row in sorted(rows, key=lambda row: row["step"])]
            points[arm] = [(step, std) for step, std in stds if std["ratio"] is not None]
        if all(len(of_arm) < 2 for of_arm in points.values()):
            continue
        ends = [
            std[key] for found in points.values() for _, std in found for key in ("ratio", "low", "high") if std[key]
        ]
        last = max(step for found in points.values() for step, _ in found)
        chart = Chart(x=(0, last), y=bounds(ends, around=1.0), x_label="step")
        chart.level(1.0)
        for arm, found in points.items():
            steps, c = [step for step, _ in found], colour(order.index(arm))
            if found and found[0][1]["low"] is not None:
                sides = ([std[key] for _, std in found] for key in ("low", "high"))
                chart.band(steps, *sides, colour=c)
            chart.line(steps, [std["ratio"] for _, std in found], colour=c)
        what = "attention weights" if gives_weights(layer) else "Y"
        caption = f"Width of {what}, ratio <span class=soft>{escape(short_layer(layer))}</span>"
        figures[layer] = caption, chart.svg(f"Ratio of the standard deviations of {what} along training")
    return figures
