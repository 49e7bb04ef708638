"""Raw rows beside what preparing them gave: by these an exported model's own encoding is checked.

A prepared folder holds two files of the same rows in the same order::

    DIR/examples/raw.parquet        the raw columns that sparse and dense features are made of, as they were read
    DIR/examples/prepared.parquet   these features as the splits hold them: ids, lists of ids, scaled numbers
"""

from collections.abc import Sequence

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c2al.data.draws import uniform

FOLDER = "examples"
MOST = 256
AT_RANDOM = MOST // 2  # the others hold rare values: the highest ids, column by column


class Examples:
    """Keep up to ``MOST`` rows of a stream: some at random, and for each column some with the highest ids."""

    def __init__(self, raw_columns: Sequence[str], sparse: Sequence[str], dense: Sequence[str]) -> None:
        self._raw_columns = list(dict.fromkeys(raw_columns))
        self._sparse, self._dense = list(sparse), list(dense)
        self._rare_each = -(-(MOST - AT_RANDOM) // max(len(self._sparse), 1))
        self._raw: pa.Table | None = None
        self._prepared: pa.Table | None = None
        self._rows = np.empty(0, np.int64)

    def update(self, raw: pa.Table, prepared: pa.Table, rows: np.ndarray) -> None:
        """Take in a chunk: raw and prepared rows, with the rows' numbers."""
        if not len(rows):
            return
        raw, prepared = raw.select(self._raw_columns), prepared.select([*self._sparse, *self._dense])
        new = self._chosen(prepared, rows)
        raw, prepared, rows = raw.take(new), prepared.take(new), rows[new]
        if self._raw is not None and self._prepared is not None:
            raw, prepared = pa.concat_tables([self._raw, raw]), pa.concat_tables([self._prepared, prepared])
            rows = np.concatenate([self._rows, rows])
            kept = self._chosen(prepared, rows)
            raw, prepared, rows = raw.take(kept), prepared.take(kept), rows[kept]
        self._raw, self._prepared, self._rows = raw, prepared, rows

    def _chosen(self, prepared: pa.Table, rows: np.ndarray) -> np.ndarray:
        """Indices of the rows to keep, in their order, at most ``MOST``."""
        drawn = uniform(0, rows)
        order = np.argsort(drawn, kind="stable")
        chosen = set(order[:AT_RANDOM].tolist())
        for name in self._sparse:
            highest = np.lexsort((drawn, -_highest_ids(prepared.column(name))))
            chosen.update(highest[: min(self._rare_each, MOST - len(chosen))].tolist())
        for row in order[AT_RANDOM:].tolist():
            if len(chosen) >= MOST:
                break
            chosen.add(row)
        return np.array(sorted(chosen), np.int64)

    def save(self, folder: str) -> None:
        """Write both files below ``folder``."""
        for name, table in (("raw", self._raw), ("prepared", self._prepared)):
            if table is not None:
                with fsspec.open(f"{folder.rstrip('/')}/{FOLDER}/{name}.parquet", "wb", auto_mkdir=True) as file:
                    pq.write_table(table, file, compression="zstd")


def _highest_ids(values: pa.ChunkedArray) -> np.ndarray:
    """The highest id of each row, of bags too; 0 for an empty bag."""
    if not pa.types.is_list(values.type):
        return np.asarray(values.to_numpy())
    highest = np.zeros(len(values), np.int64)
    np.maximum.at(highest, pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values).to_numpy())
    return highest
