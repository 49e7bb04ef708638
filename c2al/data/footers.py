"""What parquet footers say of a prepared folder without reading a row."""

from collections.abc import Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.schema import SparseColumn


def mean_ids(folder: str, columns: Sequence[SparseColumn]) -> dict[str, float]:
    """Mean number of ids of each multi-valued column, from the footer of the first training file.

    Parquet counts an empty list as one value, so where lists are empty the mean comes out too large, by their share.
    Nothing is said where there is no such file: a plan needs ``schema.yaml`` alone.
    """
    names = [column.name for column in columns if column.multi]
    storage, root = fsspec.url_to_fs(f"{folder.rstrip('/')}/train")
    if not names or not storage.isdir(root):
        return {}
    paths = sorted(path for path in storage.ls(root, detail=False) if path.endswith(".parquet"))
    if not paths:
        return {}
    try:
        with storage.open(paths[0], "rb") as file:
            footer = pq.ParquetFile(file).metadata
    except (pa.ArrowException, OSError):  # for the reader to refuse
        return {}
    return _means(footer, names) if footer.num_rows else {}


def _means(footer: pq.FileMetaData, names: Sequence[str]) -> dict[str, float]:
    totals = dict.fromkeys(names, 0)
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for i, chunk in enumerate(map(group.column, range(group.num_columns))):
            if not footer.schema.column(i).max_repetition_level:  # a column may be called a.list.element
                continue
            name = chunk.path_in_schema.removesuffix(".list.element").removesuffix(".list.item")
            if name in totals:
                totals[name] += chunk.num_values
    return {name: total / footer.num_rows for name, total in totals.items() if total}
