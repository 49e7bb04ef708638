"""A view: cohort axes added to prepared rows, in a folder of its own. The rows' folder is not touched.

``data.path=VIEW`` then trains, evaluates and compares as the rows' own folder does, with the added axes. A view's files
bear the names of those of the rows, are cut into the same row groups and hold the added columns alone (two bytes a row
and axis before compression), so that a reader takes any rows of both at once, on any number of ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from c2al.data.prepared_folder import is_view, prepared_folder
from c2al.data.row_groups import SplitFiles
from c2al.data.scan import read_columns
from c2al.schema import CohortAxis, DataError, Schema, View, fingerprint, refuse_elsewhere


def write_view(
    to: str, *, rows: str, axes: Sequence[CohortAxis], ids: Mapping[str, Mapping[str, np.ndarray]]
) -> Schema:
    """Write a view of a prepared folder, whole or not at all, in place of an older view there may be; its schema.

    ``ids[split][axis]`` are the ids of all rows of each of the folder's splits, in file order. Where ``rows`` is a view
    itself, the new one is of its rows and keeps its other axes. A DataError where ``to`` holds anything but a view.
    """
    files, target = fsspec.url_to_fs(to)
    if files.isdir(target) and files.ls(target) and not is_view(to):
        raise DataError(
            "the folder holds something other than learned cohorts", file=to, remedy="choose another to=DIR"
        )
    base = Schema.load(rows)
    root = base.view.rows if base.view else _absolute(rows)
    new = {axis.name for axis in axes}
    kept = [base.axis(name) for name in base.view.axes if name not in new] if base.view else []
    refuse_elsewhere(root, of=to, what="a view's rows")
    plain = Schema.load(root)
    added = [*kept, *axes]
    schema = replace(
        plain,
        axes=(*plain.axes, *added),
        view=View(root, fingerprint(root), tuple(axis.name for axis in added)),
    )
    with prepared_folder(to, overwrite=True) as folder:
        for split in plain.splits:
            old = read_columns(rows, split, axes=[axis.name for axis in kept]) if kept else {}
            columns = old | {axis.column: ids[split][axis.name] for axis in axes}
            _write_split(f"{folder}/{split}", SplitFiles(folder=root, split=split, schema=plain, columns=[]), columns)
        schema.save(folder)
    return schema


def _write_split(folder: str, rows: SplitFiles, columns: Mapping[str, np.ndarray]) -> None:
    table = pa.table({name: pa.array(ids.astype(np.int16)) for name, ids in columns.items()})
    if table.num_rows != rows.num_rows:
        raise ValueError(f"{table.num_rows} cohort ids for {rows.num_rows} rows")
    storage, root = fsspec.url_to_fs(folder)
    storage.makedirs(root, exist_ok=True)
    for file, path in enumerate(rows.paths):
        with (
            storage.open(f"{root}/{path.rsplit('/', 1)[-1]}", "wb") as opened,
            pq.ParquetWriter(opened, table.schema, compression="zstd") as writer,
        ):
            for group in (group for group in rows.groups if group.file == file):
                writer.write_table(table.slice(group.first_row, group.num_rows), row_group_size=group.num_rows)


def _absolute(folder: str) -> str:
    files, path = fsspec.url_to_fs(folder.rstrip("/"))
    return path if isinstance(files, LocalFileSystem) else folder.rstrip("/")
