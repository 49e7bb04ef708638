"""What the ids and numbers of prepared data mean, as a checkpoint keeps it: vocabularies' digests, scales, cohorts.

Tables of equal size say nothing about whether row 17 is the same item. A checkpoint therefore keeps for each column
what it was trained with, and refuses data that mean something else by the same ids.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn

TOGETHER = (
    "go on with the data that the run was trained on; prepare the old and the new rows together, so that ids mean the "
    "same, and start anew with overwrite=true"
)


def describe(
    folder: str, schema: Schema, *, columns: Collection[str], axes: Iterable[CohortAxis | None] = ()
) -> dict[str, Any]:
    """Return in plain JSON what the ids of ``columns``, the numbers of dense ones and the cohorts of ``axes`` mean.

    Reads the vocabularies whole. Raises DataError where one is gone or does not read.
    """
    root = (schema.view.rows if schema.view else folder).rstrip("/")
    return {
        "sparse": {each.name: _ids(each, _values(root, each)) for each in schema.sparse if each.name in columns},
        "dense": {each.name: _scale(each) for each in schema.dense if each.name in columns},
        "axes": {axis.name: _cohorts(axis) for axis in axes if axis},
    }


def check(
    saved: Mapping[str, Any], folder: str, schema: Schema, *, axes: Iterable[CohortAxis | None] = (), file: str
) -> None:
    """Raise a DataError that names the first column or axis which means something else now than in a checkpoint.

    Args:
        saved: What ``describe`` said when the checkpoint was written; only its columns are looked at.
        folder: The data at hand.
        schema: Of the data at hand.
        axes: Whose cohorts the model has heads for.
        file: The checkpoint, for the message.
    """
    root = (schema.view.rows if schema.view else folder).rstrip("/")
    sparse = {each.name: each for each in schema.sparse}
    dense = {each.name: each for each in schema.dense}
    for name, before in saved["sparse"].items():
        if name not in sparse:
            raise _lacking(name, file, folder)
        _check_sparse(before, root, sparse[name], file=file, folder=folder)
    for name, scale in saved["dense"].items():
        if name not in dense:
            raise _lacking(name, file, folder)
        if (found := _scale(dense[name])) != scale:
            problem = f"the numbers of {folder} are {_said(found)}, and the checkpoint was trained on {_said(scale)}"
            raise DataError(problem, file=file, column=name, remedy=TOGETHER)
    for axis in filter(None, axes):
        before, now = saved["axes"].get(axis.name), _cohorts(axis)
        if before is not None and now != before:
            what = "edges" if now["cohorts"] == before.get("cohorts") else "cohorts"
            problem = f"axis {axis.name} has other {what} in {folder} than the checkpoint was trained on"
            raise DataError(problem, file=file, value=f"{now[what]!s:.100}", remedy=TOGETHER)


def _check_sparse(saved: Mapping[str, Any], root: str, column: SparseColumn, *, file: str, folder: str) -> None:
    values = _values(root, column)
    now = _ids(column, values)
    if now == saved:
        return
    count, remedy = saved.get("values"), TOGETHER
    before = count if type(count) is int and count > 0 else None
    if values is not None and before and before < len(values) and _digest(values.slice(0, before)) == saved.get("ids"):
        more = len(values) - before
        problem = f"{more:,} values have come to the vocabulary of {folder} since, and a run's tables do not grow"
        raise DataError(problem, file=file, column=column.name, remedy=remedy)
    key = next(key for key in now if now[key] != saved.get(key))
    problem = f"the column has {key}={now[key]} in {folder}, and {saved.get(key)} in the checkpoint"
    if key in ("ids", "values"):
        problem = f"the ids of {folder} stand for other values than those that the checkpoint was trained on"
    raise DataError(problem, file=file, column=column.name, remedy=remedy)


def _lacking(name: str, file: str, folder: str) -> DataError:
    problem = f"{folder} lacks a column that the checkpoint was trained on"
    return DataError(problem, file=file, column=name, remedy="go on with the data that the run was trained on")


def _ids(column: SparseColumn, values: pa.Array | None) -> dict[str, Any]:
    """What a column's ids mean. Hashed ones mean the same wherever there are as many rows."""
    counted = {"values": 0, "ids": None} if values is None else {"values": len(values), "ids": _digest(values)}
    return (
        {"hashed": column.hashed, "multi": column.multi, "part": column.part} | counted | {"num_rows": column.num_rows}
    )


def _scale(column: DenseColumn) -> list[Any]:
    return [column.transform, column.mean, column.std]


def _said(scale: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in zip(("transform", "mean", "std"), scale, strict=False))


def _cohorts(axis: CohortAxis) -> dict[str, Any]:
    return {"cohorts": list(axis.cohorts), "edges": list(axis.edges)}


def _values(root: str, column: SparseColumn) -> pa.Array | None:
    """A vocabulary's values as text, by id; None where the column has none."""
    if not column.vocabulary:
        return None
    path = f"{root}/{column.vocabulary}"
    try:
        with fsspec.open(path, "rb") as file:
            table = pq.read_table(file, columns=["value", "id"]).sort_by("id")
        ids = table["id"].to_numpy()
        if not np.array_equal(ids, np.arange(1, len(ids) + 1)):
            raise ValueError("its ids are not 1, 2, 3, …")
        values = table["value"].cast(pa.large_string()).combine_chunks()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        problem = f"the vocabulary does not read: {(str(error).splitlines() or [type(error).__name__])[0]:.200}"
        raise DataError(
            problem, file=path, column=column.name, remedy="bring it back, or prepare the data again"
        ) from None
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def _digest(values: pa.Array) -> str:
    """SHA-256 of texts in order: of what they are, not of how a file holds them."""
    digest = hashlib.sha256(f"{len(values)}".encode())
    lengths = pc.fill_null(pc.binary_length(values), -1)
    digest.update(np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False), np.int64).tobytes())
    _, offsets, data = values.buffers()
    if data is not None and len(values):
        places = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
        digest.update(data[int(places[0]) : int(places[-1])])
    return digest.hexdigest()
