"""What a served model reads: encoded rows as arrays, which can be cut, joined and told by shape."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bags:
    """A multi-valued column: ``values_V`` int64 one row after another, ``lengths_B`` int64 how many each row has."""

    values_V: np.ndarray
    lengths_B: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """Rows as a served model takes them, in the order of the manifest's columns.

    ``dense_BN`` float32 (N may be 0), ``ids_BS`` int64 of the S single-valued sparse columns (S may be 0), ``bags`` of
    the multi-valued ones by name.
    """

    dense_BN: np.ndarray
    ids_BS: np.ndarray
    bags: dict[str, Bags]

    def __len__(self) -> int:
        return len(self.ids_BS)

    def rows(self, start: int, stop: int) -> "Inputs":
        """Rows ``[start, stop)``."""
        return Inputs(
            self.dense_BN[start:stop], self.ids_BS[start:stop], {n: _cut(b, start, stop) for n, b in self.bags.items()}
        )

    @classmethod
    def joined(cls, parts: Sequence["Inputs"]) -> "Inputs":
        """The rows of all parts (one at least), one after another."""
        return cls(
            np.concatenate([part.dense_BN for part in parts]),
            np.concatenate([part.ids_BS for part in parts]),
            {name: _joined([part.bags[name] for part in parts]) for name in parts[0].bags},
        )


def _cut(bags: Bags, start: int, stop: int) -> Bags:
    first, last = int(bags.lengths_B[:start].sum()), int(bags.lengths_B[:stop].sum())
    return Bags(bags.values_V[first:last], bags.lengths_B[start:stop])


def _joined(parts: Sequence[Bags]) -> Bags:
    return Bags(np.concatenate([part.values_V for part in parts]), np.concatenate([part.lengths_B for part in parts]))
