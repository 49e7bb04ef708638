"""Bodies for ``serving_load``: rows drawn at random from what the model knows, as JSON and as Arrow streams."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from c2al.data.raw_types import arrow_type
from c2al.serving.bodies import ARROW, JSON

LONGEST_BAG = 10
OLDEST_S, NEWEST_S = 1_600_000_000, 1_800_000_000  # of times


class Rows:
    """Rows of a model, by its manifest's schema. ``vocabulary`` gives the values of a column where they are at hand:
    rows are then raw, else prepared."""

    def __init__(self, schema: Mapping[str, Any], vocabulary: Any = None, *, seed: int = 0) -> None:
        self._schema, self._random, self.prepared = schema, np.random.default_rng(seed), vocabulary is None
        known = [column for column in schema["sparse"] if column.get("vocabulary") and vocabulary is not None]
        self._values = {column["name"]: vocabulary(column["name"]).to_pylist() for column in known}

    def table(self, num: int) -> pa.Table:
        """Rows as a table: JSON's types alone."""
        columns = {column["name"]: self._numbers(column, num) for column in self._schema["dense"]}
        for column in self._schema["sparse"]:
            name = column["name"] if self.prepared else column.get("source") or column["name"]
            if name in columns:
                continue  # two columns of one raw one
            if not column.get("multi"):
                columns[name] = pa.array(self._ids(column, num))
                continue
            lengths = self._random.integers(0, LONGEST_BAG + 1, num)
            offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(self._ids(column, int(offsets[-1]))))
        return pa.table(columns)

    def _numbers(self, column: Mapping[str, Any], num: int) -> pa.Array:
        drawn = self._random.normal(size=num)
        if not self.prepared:
            drawn = drawn * column["std"] + column["mean"]
            drawn = np.expm1(np.abs(drawn)) if column["transform"] == "log1p" else drawn
        return pa.array(np.round(drawn, 4))

    def _ids(self, column: Mapping[str, Any], num: int) -> Any:
        if column["name"] in self._values and not self.prepared:
            values = self._values[column["name"]] or [None]
            return pa.array([values[place] for place in self._random.integers(0, len(values), num)], pa.string())
        if column.get("part") and not self.prepared:
            return self._random.integers(OLDEST_S, NEWEST_S, num)
        drawn = self._random.integers(0, column["num_rows"], num)
        trained = arrow_type(column.get("raw_type"))
        return drawn.astype(str) if trained == pa.string() and column.get("hashed") and not self.prepared else drawn


def body(table: pa.Table, form: str) -> tuple[bytes, str]:
    """The rows as a request has them, and their content type."""
    if form == "json":
        return json.dumps({"rows": table.to_pylist()}).encode(), JSON
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue()), ARROW
