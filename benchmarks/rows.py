"""Random prepared rows of any schema, and cohort pairs that no discovery found."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from c2al.data.writer import write_splits
from c2al.schema import Schema

ROWS_AT_A_TIME = 262_144


@dataclass(frozen=True)
class Ids:
    """How ids are drawn, and how many of them a multi-valued column has.

    A bag holds 0 to ``longest_bag`` ids, evenly, or where ``mean`` names its column one and a Poisson number more, with
    that mean. ``exponent`` 0 draws all ids alike; above it, an id's frequency falls with that power of its rank, and
    ranks are scattered over the table as hashing scatters them.
    """

    longest_bag: int = 3
    mean: Mapping[str, float] = field(default_factory=dict)
    exponent: float = 0.0

    def lengths(self, random: np.random.Generator, column: str, num_bags: int) -> np.ndarray:
        """Ids of each bag."""
        if column in self.mean:
            return 1 + random.poisson(self.mean[column] - 1, num_bags)
        return random.integers(0, self.longest_bag + 1, num_bags)

    def draw(self, random: np.random.Generator, num_rows: int, count: int) -> np.ndarray:
        """``count`` ids of a table with ``num_rows`` rows, int32."""
        if not self.exponent:
            return random.integers(0, num_rows, count).astype(np.int32)
        power = 1 - self.exponent
        ends = np.log(num_rows) if not power else ((num_rows + 1.0) ** power - 1) / power
        spread = random.random(count) * ends
        ranks = np.exp(spread) if not power else (1 + power * spread) ** (1 / power)
        ranks = np.minimum(ranks.astype(np.int64) - 1, num_rows - 1)
        return (ranks * _coprime(num_rows) % num_rows).astype(np.int32)


def write_rows(folder: str, schema: Schema, num_rows: Mapping[str, int], ids: Ids) -> None:
    """A prepared folder with so many rows in each split; the schema must have a weight, and gets the splits' counts."""
    tables = ((split, table) for split, rows in num_rows.items() for table in _tables(schema, rows, ids))
    schema.splits.update(write_splits(folder, tables, label=schema.label, weight=schema.weight))
    schema.save(folder)


def write_pairs(path: str, axis: str, pair: Sequence[str], least: Sequence[str]) -> str:
    """A pairs file of that pair and a less divergent one of the same axis, which ``method=c2al_least`` takes."""
    pairs = [
        {"axis": axis, "head": head, "tail": tail, "divergences": {"js": js}}
        for (head, tail), js in ((pair, 0.4), (least, 0.1))
    ]
    Path(path).write_text(json.dumps({"divergence": "js", "pairs": pairs}))
    return path


def _tables(schema: Schema, num_rows: int, ids: Ids) -> Iterator[pa.Table]:
    random = np.random.default_rng(0)
    for first in range(0, num_rows, ROWS_AT_A_TIME):
        size = min(ROWS_AT_A_TIME, num_rows - first)
        columns: dict[str, pa.Array] = {}
        for column in schema.sparse:
            if column.multi:
                offsets = np.concatenate([[0], np.cumsum(ids.lengths(random, column.name, size))])
                values = ids.draw(random, column.num_rows, int(offsets[-1]))
                columns[column.name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
            else:
                columns[column.name] = ids.draw(random, column.num_rows, size)
        columns |= {column.name: random.normal(size=size).astype(np.float32) for column in schema.dense}
        columns |= {axis.column: random.integers(-1, len(axis.cohorts), size).astype(np.int16) for axis in schema.axes}
        columns[schema.label] = (random.random(size) < 0.1).astype(np.int8)
        columns[str(schema.weight)] = random.uniform(0.5, 2, size).astype(np.float32)
        yield pa.table(columns)


def _coprime(num_rows: int) -> int:
    """A step that visits every row of a table before it comes back, near the golden section of its size."""
    step = max(1, round(0.618 * num_rows))
    while math.gcd(step, num_rows) > 1:
        step += 1
    return step
