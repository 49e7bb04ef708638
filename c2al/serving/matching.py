"""Whether prepared rows were encoded as those that a model was trained on: columns, tables, scales, vocabularies."""

from collections.abc import Callable
from dataclasses import asdict

import fsspec
import pyarrow as pa

from c2al.schema import DataError, DenseColumn, Schema, SparseColumn, _nearest
from c2al.serving.vocabulary_file import NoVocabularyError, read_vocabulary

Either = SparseColumn | DenseColumn
ENCODING = ("num_rows", "multi", "hashed", "transform", "mean", "std")
REMEDY = "score with a model that was trained on this data, or score the raw rows, which the model encodes by itself"


def check_same(data: str, found: Schema, model: Schema, vocabulary: Callable[[str], pa.Array]) -> None:
    """A DataError that names the first column of a ``model`` which the prepared folder ``data`` has otherwise.

    Vocabularies are compared by their values, which a model must have for each column that has a vocabulary.
    """
    there: dict[str, Either] = {column.name: column for column in found.sparse}
    there |= {column.name: column for column in found.dense}
    read: list[Either] = [*model.sparse, *model.dense]
    for column in read:
        _check_column(data, column, there)
    root = (found.view.rows if found.view else data).rstrip("/")
    for sparse in (column for column in model.sparse if column.vocabulary and not column.hashed):
        own = vocabulary(sparse.name)
        other = there[sparse.name]
        if not isinstance(other, SparseColumn) or not other.vocabulary:
            problem = "the column has no vocabulary, the model's has one"
            raise DataError(problem, file=f"{data.rstrip('/')}/schema.yaml", column=sparse.name, remedy=REMEDY)
        if not len(own) and sparse.num_rows > 1:
            remedy = "export the model again: c2al export run=… to=…"
            raise DataError("the model lacks the column's vocabulary", file=data, column=sparse.name, remedy=remedy)
        _check_vocabulary(f"{root}/{other.vocabulary}", sparse.name, own)


def _check_column(data: str, column: SparseColumn | DenseColumn, there: dict[str, SparseColumn | DenseColumn]) -> None:
    file = f"{data.rstrip('/')}/schema.yaml"
    other = there.get(column.name)
    if other is None:
        remedy = f"{_nearest(column.name, tuple(there))}; {REMEDY}"
        raise DataError("the data lacks a column that the model reads", file=file, column=column.name, remedy=remedy)
    if type(other) is not type(column):
        kinds = ["sparse" if isinstance(each, SparseColumn) else "dense" for each in (column, other)]
        problem = f"the column is {kinds[1]}, the model's is {kinds[0]}"
        raise DataError(problem, file=file, column=column.name, remedy=REMEDY)
    own, its = asdict(column), asdict(other)
    for key in ENCODING:
        if own.get(key) != its.get(key):
            problem = f"the column has {key} {its[key]}, the model's {own[key]}"
            raise DataError(problem, file=file, column=column.name, remedy=REMEDY)


def _check_vocabulary(path: str, name: str, own: pa.Array) -> None:
    try:
        with fsspec.open(path, "rb") as file:
            values, _ = read_vocabulary(file)
    except (OSError, KeyError, NoVocabularyError, pa.ArrowException) as error:
        problem = f"the vocabulary does not read: {(str(error).splitlines() or [''])[0][:200]}"
        raise DataError(problem, file=path, column=name, remedy="bring it back, or prepare the data again") from None
    if len(values) != len(own) or not values.cast(pa.string()).equals(own.cast(pa.string())):
        first = next(
            (i for i, (a, b) in enumerate(zip(own, values, strict=False)) if a != b), min(len(own), len(values))
        )
        problem = f"the vocabulary is another one than the model's, from id {first + 1} on"
        raise DataError(problem, file=path, column=name, remedy=REMEDY)
