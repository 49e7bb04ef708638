"""Small line charts as inline SVG: text stays text, and colours are the page's CSS variables, so they follow its theme.

A chart is 360 units wide: at that width on a phone, and beside others on a desk.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 36


class Chart:
    """One pair of axes, drawn onto in order; ``svg()`` gives the text of it."""

    def __init__(
        self,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str = "",
        width: int = 360,
        height: int = 220,
        log10_probability: bool = False,
    ) -> None:
        self.x, self.y = _widened(x), _widened(y)
        self.x_label, self.width, self.height = x_label, width, height
        self.log10_probability = log10_probability
        self._drawn: list[str] = []

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        colour: str,
        width: float = 2,
        faint: bool = False,
        dash: str = "",
    ) -> None:
        """A line; points that are not finite break nothing, they are left out."""
        style = f"stroke:{colour};stroke-width:{width};fill:none;stroke-linejoin:round"
        style += (";opacity:.35" if faint else "") + (f";stroke-dasharray:{dash}" if dash else "")
        self._drawn.append(f'<polyline points="{self._points(xs, ys)}" style="{style}"/>')

    def area(
        self, xs: Sequence[float], ys: Sequence[float], *, colour: str, dash: str = "", filled: bool = True
    ) -> None:
        """The outline of a distribution, filled down to zero."""
        if filled:
            points = self._points([xs[0], *xs, xs[-1]], [0, *ys, 0])
            self._drawn.append(f'<polygon points="{points}" style="fill:{colour};opacity:.16"/>')
        self.line(xs, ys, colour=colour, width=1.6, dash=dash)

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], *, colour: str) -> None:
        """What lies between two lines."""
        points = self._points([*xs, *reversed(xs)], [*lows, *reversed(highs)])
        self._drawn.append(f'<polygon points="{points}" style="fill:{colour};opacity:.16"/>')

    def level(self, y: float) -> None:
        """A horizontal line to compare with."""
        self.line(self.x, (y, y), colour="var(--soft)", width=1, dash="4 3")

    def svg(self, description: str) -> str:
        """The chart as an ``svg`` element; ``description`` is for those who cannot see it."""
        frame = f"{self.width - LEFT - RIGHT} {self.height - TOP - BOTTOM}"
        size = 'x="{}" y="{}" width="{}" height="{}"'.format(LEFT, TOP, *frame.split())  # an inner svg clips
        shown = f'<svg {size} viewBox="{LEFT} {TOP} {frame}">{"".join(self._drawn)}</svg>'
        label = escape(description, quote=True)
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{label}">'
            f"{self._grid()}{shown}</svg>"
        )

    def _grid(self) -> str:
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        out = []
        for value in ticks(*self.y, count=5):
            at = self._y(value)
            out.append(f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
            out.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
        for value in ticks(*self.x, count=6, whole=self.log10_probability):
            name = percent_of_log10(value) if self.log10_probability else short(value)
            out.append(f'<text x="{self._x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{name}</text>')
        out.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" class="base"/>')
        middle = (LEFT + right) / 2
        out.append(
            f'<text x="{middle}" y="{bottom + 31}" text-anchor="middle" class="label">{escape(self.x_label)}</text>'
        )
        return "".join(out)

    def _x(self, value: float) -> float:
        return LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return self.height - BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - TOP - BOTTOM)

    def _points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        finite = ((x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y))
        return " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in finite)


def ticks(low: float, high: float, *, count: int, whole: bool = False) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten apart) between two bounds."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A tick's text: 0.05, −2, 15k, 3M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def percent_of_log10(exponent: float) -> str:
    """-3 is "0.1 %": a probability's text on an axis of its decimal logarithm."""
    return f"{100 * 10.0**exponent:.4g} %"


def histogram(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """A density over bins: integrates to the share of the values that lie within the edges."""
    counts, _ = np.histogram(values, edges, weights=weights)
    total = len(values) if weights is None else float(weights.sum())
    return counts / max(total, 1e-300) / np.diff(edges)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """A centred moving mean; the ends use what there is."""
    window = min(window, len(values))
    if window < 2:
        return values
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def bounds(*series: Sequence[float], around: float | None = None) -> tuple[float, float]:
    """Least and greatest finite value of several series, with 4 % of air; ``around`` is made to lie within."""
    values = np.concatenate([np.asarray(one, dtype=float) for one in series])
    values = values[np.isfinite(values)]
    if around is not None:
        values = np.append(values, around)
    if not len(values):
        return 0.0, 1.0
    air = 0.04 * (values.max() - values.min())
    return float(values.min() - air), float(values.max() + air)


def short_layer(name: str) -> str:
    """A dotted path without what every path has."""
    skipped = ("interaction", "interactions", "ranker", "weight", "layers")
    parts = name.removesuffix(".attention").removesuffix(".fm").split(".")
    return ".".join(
        f"layer {part}" if parts[i - 1] == "layers" else part for i, part in enumerate(parts) if part not in skipped
    )


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    if high - low > 1e-12 * max(abs(low), abs(high), 1e-300):
        return low, high
    air = abs(low) * 0.1 or 1.0
    return low - air, high + air
