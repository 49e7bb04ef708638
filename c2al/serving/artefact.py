"""A served file, open: encoded rows in, the primary head's logits out.

Nothing in it is unpickled, and neither TorchRec nor FBGEMM nor what trains is imported. A file of ``format=aoti`` holds
machine code, which opening runs: open only what comes from people you trust, whatever its checksums say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from c2al.names import file_names
from c2al.schema import DataError, DenseColumn, Schema, SparseColumn
from c2al.serving import programs
from c2al.serving.archive import OWN, Archive
from c2al.serving.inputs import Inputs
from c2al.serving.quantized import PARTS
from c2al.serving.served import Columns, SparseInput, widths_of

MOST_ROWS = 16_384  # that go through the model at once


class Artefact:
    """A model from its file. Called with ``Inputs`` it gives ``logit_B`` float32."""

    def __init__(self, archive: Archive, *, device: str | None = None) -> None:
        self.path, self._archive, self.manifest = archive.path, archive, archive.manifest
        self.device = torch.device(device or self.manifest["device"])
        self.sparse = [SparseInput(**column) for column in self.manifest["inputs"]["sparse"]]
        self.schema = _schema(self.manifest["schema"])
        self.columns = Columns(
            dense=tuple(column.name for column in self.schema.dense),
            single=tuple(column.name for column in self.sparse if not column.multi),
            bags=tuple(column.name for column in self.sparse if column.multi),
        )
        self.tables = matrices(archive, self.sparse, self.manifest["dtype"], self.device)
        self._program = programs.load(archive, self.manifest, self.device)
        self._rows_S = np.array([column.num_rows for column in self.sparse if not column.multi], np.int64)
        self._rows_of = {column.name: column.num_rows for column in self.sparse if column.multi}

    def vocabulary(self, column: str) -> pa.Array:
        """The values of a column's ids, as text: the value at place i has id i + 1. Empty where it has none."""
        file = file_names(each.name for each in self.schema.sparse).get(column, column)
        known = (f"{OWN}vocabularies/{name}.parquet" for name in (file, column))  # the second one: in older files
        name = next((name for name in known if name in self._archive.names()), None)
        if name is None:
            return pa.array([], pa.string())
        return pq.read_table(pa.BufferReader(self._archive.read(name))).sort_by("id")["value"].combine_chunks()

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """``logit_B``; DataError where an id is none of its table's."""
        self._check(inputs)
        starts = range(0, len(inputs), MOST_ROWS)
        parts = [self._logits(inputs.rows(start, min(start + MOST_ROWS, len(inputs)))) for start in starts]
        return np.concatenate([np.empty(0, np.float32), *parts])

    @torch.inference_mode()
    def _logits(self, inputs: Inputs) -> np.ndarray:
        bags = [inputs.bags[name] for name in self.columns.bags]
        arguments = (
            self.tables,
            self._tensor(inputs.dense_BN),
            self._tensor(inputs.ids_BS),
            [self._tensor(bag.values_V) for bag in bags],
            [self._tensor(bag.lengths_B) for bag in bags],
        )
        return self._program(*arguments).float().cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _check(self, inputs: Inputs) -> None:
        """An id beyond its table would read another's row, so none is let through."""
        ids = inputs.ids_BS
        if ids.size and ((ids < 0) | (ids >= self._rows_S)).any():
            row, place = np.argwhere((ids < 0) | (ids >= self._rows_S))[0]
            raise _no_such_id(self.columns.single[place], int(ids[row, place]), int(self._rows_S[place]), self.path)
        for name, bag in inputs.bags.items():
            values = bag.values_V
            if values.size and (values.min() < 0 or values.max() >= self._rows_of[name]):
                bad = values[(values < 0) | (values >= self._rows_of[name])][0]
                raise _no_such_id(name, int(bad), self._rows_of[name], self.path)


def matrices(
    archive: Archive, sparse: Sequence[SparseInput], dtype: str, device: str | torch.device
) -> list[torch.Tensor]:
    """Of every width, ascending, its parts; on a CPU in the file's own pages."""
    made = []
    for width in widths_of(sparse):
        for part, (kind, columns) in enumerate(PARTS[dtype](width)):
            mapped = archive.mapped(table_record(width, part), kind, columns)
            made.append(torch.from_numpy(mapped).to(device))
    return made


def open_artefact(path: str, *, check: bool = True, device: str | None = None) -> Artefact:
    """Open what ``c2al export`` wrote. ``check`` reads the file once, for its checksums.

    DataError: no file, not a model, cut short, of another version, not as it was written, not for this machine.
    """
    return Artefact(Archive(path, check=check), device=device)


def table_record(width: int, part: int) -> str:
    """Where the rows of all tables of a width lie, or a part of them."""
    return f"{OWN}tables/{width}.{part}"


def _no_such_id(column: str, value: int, num_rows: int, file: str) -> DataError:
    remedy = "encode raw rows with this model's own vocabularies, or give 0 for what is unknown"
    return DataError(f"id outside [0, {num_rows})", file=file, column=column, value=value, remedy=remedy)


def _schema(raw: Mapping[str, Any]) -> Schema:
    sparse = tuple(SparseColumn(**column) for column in raw["sparse"])
    dense = tuple(DenseColumn(**column) for column in raw["dense"])
    more = {key: raw[key] for key in ("weight", "unit", "csv") if key in raw}
    return Schema(raw["name"], raw["label"], sparse, dense, **more)
