"""How far two histograms over the same bins lie apart: Kullback-Leibler, Jensen-Shannon, Wasserstein-1, cosine.

Histograms are counts or weights, ``[..., num_bins]``, and are brought to sum 1 here; leading dimensions broadcast, so
that thousands of resamples go in one call. All in float64; an empty histogram gives NaN. The paper (arXiv 2510.02215)
names these four measures of the distance between two cohorts' predictions and does not say which it used.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from c2al.schema import DataError

DIVERGENCES = ("js", "kl", "wasserstein", "cosine")
SMOOTHING = 1e-3


def kl(p: np.ndarray, q: np.ndarray, *, smoothing: float = SMOOTHING) -> np.ndarray:
    """KL(p ‖ q) = Σ p ln(p / q), in nats; not symmetric.

    ``smoothing`` is added to every bin's share of both before they are brought to sum 1 again; without it (0), mass of
    p in an empty bin of q makes the divergence infinite, and with much less of it (1e-6) empty bins decide alone: the
    interval of a pair 0.77 apart reached down to 0.
    """
    p, q = _shares(_shares(p) + smoothing), _shares(_shares(q) + smoothing)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), _nan_of(p)).sum(-1)


def js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q), in nats: from 0 to ln 2. Symmetric.

    It is the square of SciPy's Jensen-Shannon distance. Computed as H(m) - ½ H(p) - ½ H(q).
    """
    p, q = _shares(p), _shares(q)
    return np.maximum(_entropy(0.5 * (p + q)) - 0.5 * (_entropy(p) + _entropy(q)), 0.0)


def wasserstein(p: np.ndarray, q: np.ndarray, *, centres: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance ∫ |F_p - F_q|, each bin's mass at its centre, in the unit of the bin axis."""
    ahead = np.cumsum(_shares(p) - _shares(q), axis=-1)[..., :-1]
    return np.abs(ahead) @ np.diff(np.asarray(centres, dtype=np.float64))


def cosine(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """1 - p·q / (|p| |q|): from 0 to 1. Blind to how far mass has moved, and least moved by sparse bins."""
    p, q = _shares(p), _shares(q)
    norms = np.linalg.norm(p, axis=-1) * np.linalg.norm(q, axis=-1)
    return np.maximum(1.0 - np.einsum("...k,...k->...", p, q) / norms, 0.0)


def named(name: str, *, centres: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """One of ``DIVERGENCES`` by name, for bins of these centres."""
    functions: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "js": js,
        "kl": kl,
        "wasserstein": partial(wasserstein, centres=centres),
        "cosine": cosine,
    }
    if name not in functions:
        raise DataError("no such divergence", value=name, remedy=f"one of {', '.join(DIVERGENCES)}")
    return functions[name]


def of_shift(name: str, *, shift: float, std: float) -> float:
    """What a measure gives for two normal distributions, alike but for a small shift in standard deviations.

    js shift²/8 (to leading order), kl shift²/2, cosine 1 - exp(-shift²/4), wasserstein shift · std.
    """
    return {
        "js": shift**2 / 8,
        "kl": shift**2 / 2,
        "wasserstein": shift * std,
        "cosine": 1.0 - float(np.exp(-(shift**2) / 4)),
    }[name]


def _shares(histogram: np.ndarray) -> np.ndarray:
    histogram = np.asarray(histogram, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return histogram / histogram.sum(-1, keepdims=True)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.einsum("...k,...k->...", p, np.log(np.where(p > 0, p, _nan_of(p) + 1.0)))


def _nan_of(p: np.ndarray) -> np.ndarray:
    """0 where there is a number, NaN where there is none: an empty histogram must not pass for one at distance 0."""
    return np.where(np.isnan(p), np.nan, 0.0)
