"""Some raw rows of one file, in the types that they have over all files."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Chunk:
    """Rows of one file; ``first_row`` counts over all files, ``split`` is set where folders are named by split."""

    file: str
    first_row: int
    split: str | None
    table: pa.Table
    from_csv: bool = False

    @property
    def rows(self) -> np.ndarray:
        """The rows' numbers."""
        return np.arange(self.first_row, self.first_row + self.table.num_rows)
