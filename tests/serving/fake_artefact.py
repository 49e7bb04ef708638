"""A model of the artefact's form without torch: a file of JSON, and a sum over ids and numbers for its logit."""

import json
import os
import signal
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.schema import DataError, DenseColumn, Schema, SparseColumn
from c2al.serving.inputs import Inputs
from c2al.serving.served import Columns

OPENED: list[str] = []


class FakeArtefact:
    """``logit = Σ weights · dense + Σ sin(id · place)``, which tells rows and columns apart."""

    def __init__(self, path: str) -> None:
        if not Path(path).exists():
            raise DataError("no model there", file=path, remedy="mend model=…")
        OPENED.append(path)
        raw = json.loads(Path(path).read_text())
        self.path, self.manifest, self._rows = path, raw["manifest"], raw["rows"]
        self._dies_at, self._fails_at, self._nan_at = (raw.get(key) for key in ("dies_at", "fails_at", "nan_at"))
        sparse = tuple(SparseColumn(**column) for column in self.manifest["schema"]["sparse"])
        dense = tuple(DenseColumn(**column) for column in self.manifest["schema"]["dense"])
        label, weight = self.manifest["schema"]["label"], self.manifest["schema"]["weight"]
        self.schema = Schema("fake", label, sparse, dense, weight=weight, unit=self.manifest["schema"]["unit"])
        single = tuple(column.name for column in sparse if not column.multi)
        bags = tuple(column.name for column in sparse if column.multi)
        self.columns = Columns(tuple(column.name for column in dense), single, bags)
        self._seen = 0

    def vocabulary(self, column: str) -> pa.Array:
        place = next(one.vocabulary for one in self.schema.sparse if one.name == column)
        return pq.read_table(f"{self._rows}/{place}")["value"].combine_chunks()

    def __call__(self, inputs: Inputs) -> np.ndarray:
        self._seen += len(inputs)
        if self._dies_at is not None and self._seen > self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fails_at is not None and self._seen > self._fails_at:
            raise ValueError("the model is broken")
        logit = np.full(len(inputs), -1.0)
        logit += inputs.dense_BN @ np.linspace(0.1, 0.5, inputs.dense_BN.shape[1])
        for place in range(inputs.ids_BS.shape[1]):
            logit += np.sin(inputs.ids_BS[:, place] * (place + 1)) / 4
        for name, bags in inputs.bags.items():
            row_V = np.repeat(np.arange(len(inputs)), bags.lengths_B)
            logit += np.bincount(row_V, np.cos(bags.values_V * len(name)) / 8, minlength=len(inputs))
        if self._nan_at is not None and self._seen > self._nan_at:
            logit[0] = np.nan
        return logit.astype(np.float32)


def open_fake(path: str, *, check: bool = True) -> FakeArtefact:
    """In the place of ``open_artefact``; can be pickled, for processes."""
    return FakeArtefact(path)


def fake_model(folder: Path, schema: Schema, rows: str, *, leave_out: Iterable[str] = (), **more: Any) -> str:
    """The file of a model that reads a prepared folder's columns; ``more`` is of the manifest, or how it fails."""
    faults = {key: more.pop(key) for key in ("dies_at", "fails_at", "nan_at") if key in more}
    columns = {
        kind: [asdict(column) for column in getattr(schema, kind) if column.name not in leave_out]
        for kind in ("sparse", "dense")
    }
    described = {"label": schema.label, "weight": schema.weight, "unit": schema.unit, **columns}
    path = folder / "model.json"
    path.write_text(json.dumps({"manifest": {"schema": described, **more}, "rows": rows, **faults}))
    return str(path)
