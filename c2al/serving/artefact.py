"""A served file, open: encoded rows in, the primary head's logits out.

Nothing in it is unpickled or evaluated, and neither TorchRec nor FBGEMM nor what trains is imported. A file of
``format=aoti`` holds machine code, which opening runs: it opens only with ``trust_code``. docs/security.md
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from c2al.schema import DataError
from c2al.serving import programs
from c2al.serving.archive import ANEW, Archive
from c2al.serving.inputs import Bags, Inputs
from c2al.serving.manifest import FORGED, Described, table_record
from c2al.serving.quantized import PARTS
from c2al.serving.served import Columns, SparseInput, widths_of
from c2al.serving.vocabulary_file import NoVocabularyError, read_vocabulary

MOST_ROWS = 16_384  # that go through the model at once


class Artefact:
    """A model from its file. Called with ``Inputs`` it gives ``logit_B`` float32."""

    def __init__(
        self, archive: Archive, described: Described, *, device: str | None = None, trust_code: bool = False
    ) -> None:
        self.path, self._archive, self.manifest = archive.path, archive, archive.manifest
        self.device = _device(device or described.device, archive.path)
        self.sparse, self.schema, self._described = described.sparse, described.schema, described
        self.columns = Columns(
            dense=tuple(column.name for column in self.schema.dense),
            single=tuple(column.name for column in self.sparse if not column.multi),
            bags=tuple(column.name for column in self.sparse if column.multi),
        )
        self.tables = matrices(archive, self.sparse, described.dtype, self.device)
        num_inputs = len(self.tables) + 2 + 2 * len(self.columns.bags)
        self._program = programs.load(archive, described, self.device, num_inputs=num_inputs, trust_code=trust_code)
        self._rows_S = np.array([column.num_rows for column in self.sparse if not column.multi], np.int64)
        self._rows_of = {column.name: column.num_rows for column in self.sparse if column.multi}

    def vocabulary(self, column: str) -> pa.Array:
        """Return the values of a column's ids, as text: the value at place i has id i + 1. Empty where it has none.

        Raises:
            DataError: it is no vocabulary, or has not one value for each row of its table but the first.
        """
        names = self._described.vocabularies.get(column, ())
        name = next((name for name in names if name in self._archive.names()), None)
        if name is None:
            return pa.array([], pa.string())
        num_rows = next(each.num_rows for each in self.schema.sparse if each.name == column)
        try:
            values, ids = read_vocabulary(pa.BufferReader(self._archive.read(name)), num_rows - 1)
        except NoVocabularyError as error:
            raise DataError(str(error), file=self.path, column=column, remedy=FORGED) from None
        except (pa.ArrowException, KeyError, OSError) as error:
            problem = f"a vocabulary does not read: {(str(error).splitlines() or [''])[0][:200]}"
            raise DataError(problem, file=self.path, column=column, remedy=FORGED) from None
        if not np.array_equal(ids.to_numpy(zero_copy_only=False), np.arange(1, num_rows)):
            raise DataError("a vocabulary whose ids are not 1, 2, 3, …", file=self.path, column=column, remedy=ANEW)
        if pc.count_distinct(values, mode="all").as_py() != len(values):
            raise DataError("a vocabulary that has a value twice", file=self.path, column=column, remedy=ANEW)
        return values

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
        try:
            logit_B = self._program(*arguments)
        except Exception as error:  # a graph that somebody made up can fail at any number of rows
            raise _does_not_run(error, self.path, value=f"{len(inputs)} rows") from error
        if not isinstance(logit_B, torch.Tensor) or logit_B.shape != (len(inputs),) or not logit_B.is_floating_point():
            problem = f"the model does not give one number for each of {len(inputs)} rows"
            raise DataError(problem, file=self.path, remedy=FORGED)
        return logit_B.float().cpu().numpy()

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


def open_artefact(path: str, *, check: bool = True, device: str | None = None, trust_code: bool = False) -> Artefact:
    """Open what ``c2al export`` wrote, and score two rows with it.

    Args:
        path: the file.
        check: read all of it once, for its checksums.
        device: ``cpu`` or ``cuda``; None is where it was exported to run.
        trust_code: open a file of ``format=aoti`` too, which runs the machine code in it.

    Raises:
        DataError: no file, not a model, cut short, of another version, not as it was written, not for this machine,
            code that is not trusted, or records, sizes and operators that no model of c2al's has.
    """
    archive = Archive(path, check=False)
    described = Described(archive.manifest, path)
    described.check_records(archive)
    if check:
        archive.check_contents()
    return opened(archive, described, device=device, trust_code=trust_code)


def opened(archive: Archive, described: Described, *, device: str | None = None, trust_code: bool = False) -> Artefact:
    """Make the model of a checked archive, and try it; whatever fails there is the file's fault."""
    try:
        artefact = Artefact(archive, described, device=device, trust_code=trust_code)
        for lengths in ([0, 0], [1, 2]):
            artefact(_trial(artefact, lengths))
    except DataError:
        raise
    except Exception as error:  # a graph or modules that somebody made up can fail in any way
        raise _does_not_run(error, archive.path) from error
    return artefact


def _does_not_run(error: Exception, path: str, value: str | None = None) -> DataError:
    problem = f"the model does not run: {type(error).__name__} {(str(error).splitlines() or [''])[0][:200]}"
    return DataError(problem, file=path, value=value, remedy=FORGED)


def _trial(artefact: Artefact, lengths: Sequence[int]) -> Inputs:
    """Rows of unknown values, with as many in each bag."""
    columns, num = artefact.columns, len(lengths)
    bag = Bags(np.zeros(sum(lengths), np.int64), np.array(lengths, np.int64))
    dense_BN = np.zeros((num, len(columns.dense)), np.float32)
    return Inputs(dense_BN, np.zeros((num, len(columns.single)), np.int64), dict.fromkeys(columns.bags, bag))


def _device(name: str, path: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        remedy = "open it where there is a GPU, or export it again with device=cpu"
        raise DataError("the model was exported for a GPU, and there is none here", file=path, remedy=remedy)
    return torch.device(name)


def _no_such_id(column: str, value: int, num_rows: int, file: str) -> DataError:
    remedy = "encode raw rows with this model's own vocabularies, or give 0 for what is unknown"
    return DataError(f"id outside [0, {num_rows})", file=file, column=column, value=value, remedy=remedy)
