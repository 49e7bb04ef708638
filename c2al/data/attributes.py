"""Columns of prepared rows by which cohorts may be explained, and cut: with the values' own names."""

from collections.abc import Mapping, Sequence

import fsspec
import numpy as np
import pyarrow.parquet as pq

from c2al.cohorts.attributes import Attribute
from c2al.data.columns import pick, stored_columns
from c2al.data.scan import read_columns
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn

MOST_VALUES = 256  # of a sparse column; more make neither a sentence nor a cut that a person understands


def attributes(schema: Schema, folder: str, names: Sequence[str] | None = None) -> list[Attribute]:
    """Those of the given names, or all: stored axes, numbers, single-valued sparse columns with few ids.

    An axis hides the sparse column of its name. Learned axes are none. A DataError names a column that will not do.
    """
    axes = {axis.name: axis for axis in schema.axes if axis.kind != "learned"}
    columns: dict[str, SparseColumn | DenseColumn | CohortAxis] = {column.name: column for column in schema.dense}
    columns |= {
        column.name: column for column in schema.sparse if not column.multi and column.num_rows <= MOST_VALUES + 1
    }
    columns |= axes
    for name in names or ():
        if name not in columns:
            pick(stored_columns(schema) | {each: stored_columns(schema)[schema.label] for each in axes}, [name])
            remedy = f"name a cohort axis, a dense column, or a sparse one of at most {MOST_VALUES} single values"
            raise DataError("no column to tell cohorts by", file="schema.yaml", column=name, remedy=remedy)
    root = schema.view.rows if schema.view else folder
    return [_attribute(columns[name], root) for name in names or columns]


def _attribute(column: SparseColumn | DenseColumn | CohortAxis, folder: str) -> Attribute:
    if isinstance(column, DenseColumn):
        return Attribute(column.name, column.name, (), column.transform, column.mean, column.std)
    if isinstance(column, CohortAxis):
        return Attribute(column.name, column.column, ("none", *column.cohorts))
    labels = ["none", *map(str, range(column.num_rows))]
    labels[1] = "unknown"
    if column.vocabulary:
        with fsspec.open(f"{folder.rstrip('/')}/{column.vocabulary}", "rb") as file:
            known = pq.read_table(file)
        for value, index in zip(known["value"].to_pylist(), known["id"].to_pylist(), strict=True):
            labels[index + 1] = str(value)
    return Attribute(column.name, column.name, tuple(labels))


def attribute_values(folder: str, split: str, chosen: Sequence[Attribute]) -> dict[str, np.ndarray]:
    """The stored values of all rows of a split, by stored column."""
    axes = [attribute.name for attribute in chosen if attribute.column != attribute.name]
    return read_columns(folder, split, [each.column for each in chosen if each.column == each.name], axes=axes)


def of_units(chosen: Sequence[Attribute], values: Mapping[str, np.ndarray], unit_R: np.ndarray) -> list[Attribute]:
    """Those whose value is the same in all rows of a unit: what is said of a user, not of a row."""
    _, first, group_R = np.unique(unit_R, return_index=True, return_inverse=True)
    return [each for each in chosen if (values[each.column] == values[each.column][first][group_R]).all()]
