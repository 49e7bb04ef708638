"""Stored columns of a whole split as numpy arrays, in file order: for positive rates, cohorts and scores. No torch."""

from collections.abc import Sequence

import numpy as np

from c2al.data.columns import axis_columns, axis_ids, pick, stored_columns
from c2al.data.row_groups import OpenFiles, SplitFiles
from c2al.schema import CohortAxis, DataError, Schema


def read_columns(
    folder: str, split: str, columns: Sequence[str] = (), *, axes: Sequence[str | CohortAxis] = ()
) -> dict[str, np.ndarray]:
    """Single-valued columns by name and the ids of cohort axes as ``cohort_<axis>``, crossed ones among them.

    Entry i is row i of the split, as in ``Batch.row_B``. The checks and errors are those of the reader. Only the
    columns asked for are read, a row group at a time.

    >>> read_columns("data/synthetic", "test", ["clicked", "household"], axes=["age", "age_x_gender"])
    {"clicked": int8, "household": int32, "cohort_age": int16, "cohort_age_x_gender": int32}
    """
    schema = Schema.load(folder)
    stored = stored_columns(schema)
    chosen = {column.name: column for column in pick(stored, columns)}
    for column in chosen.values():
        if column.multi:
            remedy = "name single-valued columns"
            raise DataError("a multi-valued column has no one value per row", column=column.name, remedy=remedy)
    needed = chosen | {name: stored[name] for name in axis_columns(schema, axes)}
    files = SplitFiles(folder=folder, split=split, schema=schema, columns=list(needed.values()))
    found = {name: np.empty(files.num_rows, column.dtype) for name, column in needed.items()}
    with OpenFiles(files) as opened:
        for group in files.groups:
            piece = opened.read(group, 0, group.num_rows)
            for name, column in needed.items():
                found[name][group.first_row : group.first_row + group.num_rows] = piece.values(column)
    wanted: list[CohortAxis] = [schema.axis(name) for name in axes]
    row_R = np.arange(files.num_rows)
    return {name: found[name] for name in chosen} | {
        axis.column: axis_ids(schema, axis, found, row_R) for axis in wanted
    }
