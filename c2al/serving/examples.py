"""Does a model file encode raw rows as they were encoded for training? Examples kept by ``c2al prepare`` say so."""

from collections import Counter
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.data.examples import FOLDER
from c2al.data.vocabulary import Lookup
from c2al.schema import DataError, Schema
from c2al.serving.artefact import Artefact
from c2al.serving.encode import Encoder
from c2al.serving.inputs import Bags, Inputs

AGAIN = "prepare the data again and train on it; where it was prepared once more since the run, train again"
POLICY = {"unknown": "zero", "null": "zero", "missing": "error"}


def same_encoding(artefact: Artefact, folder: str, prepared: Schema) -> dict[str, Any]:
    """Encode the example rows of a prepared ``folder`` with the file's own encoder, and compare every number.

    Without examples (folders of before 2026-11-26, sources that keep none) the vocabularies alone are checked.

    Returns:
        What the manifest keeps: how many rows and columns were compared, how many vocabularies fit their tables.

    Raises:
        DataError: a value is encoded otherwise, or a vocabulary is not that of its column; with column and value.
    """
    raw, expected = (_read(f"{folder.rstrip('/')}/{FOLDER}/{name}.parquet") for name in ("raw", "prepared"))
    checked = _check_vocabularies(artefact, folder, prepared)
    if raw is None or expected is None:
        return {"rows": 0, "vocabularies": checked}
    encode = {
        alike: Encoder(artefact.schema, artefact.columns, artefact.vocabulary, POLICY, prepared=alike)
        for alike in (False, True)
    }
    file = f"{folder.rstrip('/')}/{FOLDER}/raw.parquet"
    if len(raw) != len(expected):
        problem = f"{len(raw)} raw rows beside {len(expected)} prepared ones"
        raise DataError(problem, file=file, remedy=AGAIN)
    ours, theirs = encode[False](raw, file=file), encode[True](expected, file=file.replace("raw.", "prepared."))
    _check_same(artefact, raw, ours, theirs, file)
    columns = [*artefact.columns.dense, *artefact.columns.single, *artefact.columns.bags]
    return {"rows": len(raw), "columns": len(columns), "vocabularies": checked}


def _read(path: str) -> pa.Table | None:
    try:
        with fsspec.open(path, "rb") as file:
            return pq.read_table(file)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        problem = f"the examples do not read: {(str(error).splitlines() or [''])[0]}"
        raise DataError(problem, file=path, remedy="prepare the data again, or remove the folder") from None


def _check_vocabularies(artefact: Artefact, folder: str, prepared: Schema) -> int:
    """Each vocabulary has a file of its own and gives its own values the ids 1, 2, 3, …; how many there are."""
    named = {column.name: column.vocabulary for column in prepared.sparse if column.vocabulary and not column.hashed}
    files, num = Counter(named.values()), 0
    for column in artefact.schema.sparse:
        if column.name not in named:
            continue
        file = f"{folder.rstrip('/')}/{named[column.name]}"
        if files[named[column.name]] > 1:
            problem = "two columns have one vocabulary file, so that one of them has the other's values"
            raise DataError(problem, file=file, column=column.name, remedy=AGAIN)
        try:
            values = artefact.vocabulary(column.name)
        except DataError as error:
            raise DataError(error.problem, file=file, column=column.name, remedy=AGAIN) from None
        ids = Lookup(values)(values)
        if not np.array_equal(ids, np.arange(1, column.num_rows)):
            at = int(np.argmax(np.asarray(ids) != np.arange(1, column.num_rows)))
            problem = f"the vocabulary gives a value id {ids[at]} that has id {at + 1}"
            raise DataError(problem, file=file, column=column.name, value=values[at].as_py(), remedy=AGAIN)
        num += 1
    return num


def _check_same(artefact: Artefact, raw: pa.Table, ours: Inputs, theirs: Inputs, file: str) -> None:
    columns, sparse = artefact.columns, {column.name: column.raw for column in artefact.schema.sparse}
    for place, name in enumerate(columns.dense):
        one_B, other_B = ours.dense_BN[:, place], theirs.dense_BN[:, place]
        _check_rows(raw, name, name, one_B.view(np.int32) != other_B.view(np.int32), one_B, other_B, file)
    for place, name in enumerate(columns.single):
        one_B, other_B = ours.ids_BS[:, place], theirs.ids_BS[:, place]
        _check_rows(raw, name, sparse[name], one_B != other_B, one_B, other_B, file)
    for name in columns.bags:
        one, other = _lists(ours.bags[name]), _lists(theirs.bags[name])
        differ = np.array([a != b for a, b in zip(one, other, strict=True)], bool)
        _check_rows(raw, name, sparse[name], differ, one, other, file)


def _check_rows(raw: pa.Table, name: str, source: str, differ_B: np.ndarray, one: Any, other: Any, file: str) -> None:
    if differ_B.any():
        row = int(differ_B.argmax())
        problem = f"raw row {row} is encoded as {one[row]}, in training it was {other[row]}"
        value = repr(raw.column(source)[row].as_py())[:80]
        raise DataError(problem, file=file, column=name, value=value, remedy=AGAIN)


def _lists(bags: Bags) -> list[list[int]]:
    ends = np.cumsum(bags.lengths_B)
    return [bags.values_V[end - num : end].tolist() for end, num in zip(ends, bags.lengths_B, strict=True)]
