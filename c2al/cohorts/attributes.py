"""What may be said of a row's cohort in words: columns with named values, and numbers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Attribute:
    """A stored column and how to speak of its values.

    A category's ``labels[id + 1]`` names an id from -1 on (which is "none"); a number has no labels, and stands in the
    files as ``(transform(raw) - mean) / std``.
    """

    name: str
    column: str
    labels: tuple[str, ...] = ()
    transform: str = "none"
    mean: float = 0.0
    std: float = 1.0

    @property
    def is_number(self) -> bool:
        """Whether values have an order and a size."""
        return not self.labels

    def raw(self, stored: float) -> str:
        """A stored number as the user knows it."""
        value = stored * self.std + self.mean
        return f"{np.expm1(value) if self.transform == 'log1p' else value:.4g}"
