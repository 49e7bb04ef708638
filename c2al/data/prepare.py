"""One's own parquet or csv files to prepared data: schema inferred, vocabularies built, everything said about it.

Two passes over the rows (three where the split is by time), a chunk at a time: the first takes vocabularies, scales
and cohort axes from the training rows and checks every label and weight; the second writes. Missing values: id 0 in
a sparse column, no element in a bag, the mean (0) in a dense one, "unknown" in a cohort axis.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from c2al.data.examples import Examples
from c2al.data.fitting import AxisFit, Scale
from c2al.data.inference import Found, Plan, infer
from c2al.data.prepared_folder import prepared_folder
from c2al.data.raw_files import Chunk, RawFiles
from c2al.data.raw_values import feature_texts, labels_of, numbers_of, texts_of, weights_of
from c2al.data.splitting import Splitter, check_splits, make_splitter
from c2al.data.vocabulary import Vocabulary, unit_ids
from c2al.data.writer import write_splits
from c2al.names import file_names
from c2al.schema import SPLITS, DataError, Schema, SparseColumn

Progress = Callable[[int, int], None]


def prepare_parquet(
    *,
    folder: str,
    to: str,
    label: str,
    sparse: Sequence[str] | None = None,
    dense: Sequence[str] | None = None,
    axes: Sequence[str] | None = None,
    weight: str | None = None,
    unit: str | None = None,
    split_by: str | None = None,
    hash_rows: int | None = None,
    max_vocabulary: int = 1_000_000,
    min_count: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Schema:
    """Prepare a file or a folder of files (any fsspec path); ``notes["found"]`` says what became of every column.

    Of ``sparse``, ``dense`` and ``axes``, what is None is inferred (``inference``), what is given is taken as it is.
    ``split_by`` is a column of train/validation/test, or of times, cut at 80 and 90 %; without it folders named by
    split decide, else chance. ``hash_rows`` hashes the columns of more values than that. ``progress(done, all)`` counts
    the rows of both passes; all is 0 while unknown.
    """
    _check_numbers(hash_rows=hash_rows, max_vocabulary=max_vocabulary, min_count=min_count, seed=seed)
    with prepared_folder(to, overwrite=overwrite) as partial:
        raw = RawFiles(folder, skip=to)
        special = {"label": label, "weight": weight, "unit": unit, "split": split_by}
        named = {role: column for role, column in special.items() if column is not None}
        plan = infer(raw, special=named, sparse=sparse, dense=dense, axes=axes)
        if raw.files_without(label):
            remedy = "write the label into every file"
            raise DataError("the label is missing here", file=raw.files_without(label)[0], column=label, remedy=remedy)
        maker = Preparation(plan, raw, make_splitter(raw, split_by, seed), label=label, weight=weight, unit=unit)
        maker.fit(progress, max_values=max_vocabulary, min_count=min_count, hash_rows=hash_rows)
        splits = write_splits(partial, maker.tables(progress), label=label, weight=weight)
        maker.examples.save(partial)
        schema = Schema(
            name=folder.rstrip("/").split("/")[-1],
            label=label,
            sparse=tuple(maker.sparse_columns(partial)),
            dense=tuple(scale.column for scale in maker.scales),
            axes=tuple(axis.axis for axis in maker.axes),
            weight=weight,
            unit=maker.unit_name,
            splits=splits,
            notes={
                "source": folder,
                **({"left_out": raw.left_out} if raw.left_out else {}),
                "derived": {one.name: {"column": one.column, "part": one.part} for one in plan.sparse if one.part},
                "found": [asdict(found) for found in maker.found()],
            },
        )
        schema.save(partial)
    return schema


def found_table(schema: Schema) -> list[tuple[str, ...]]:
    """Header and rows of the table of what was found, as text."""
    lines: list[tuple[str, ...]] = [("column", "type", "role", "distinct", "nulls %", "note")]
    for found in schema.notes.get("found", []):
        blank = {key: "" if value is None else value for key, value in found.items()}
        distinct = f"{blank['distinct']:,}" if blank["distinct"] != "" else ""
        lines.append((blank["column"], blank["type"], blank["role"], distinct, str(blank["nulls"]), blank["note"]))
    return lines


class Preparation:
    """What the first pass fixes, and the second pass's tables."""

    def __init__(
        self, plan: Plan, raw: RawFiles, splitter: Splitter, *, label: str, weight: str | None, unit: str | None
    ) -> None:
        self.plan, self.raw, self.splitter = plan, raw, splitter
        self.label, self.weight, self.unit = label, weight, unit
        self.unit_name = f"unit_{unit}" if unit else None
        self.vocabularies: list[Vocabulary] = []
        self.scales = [Scale(feature.name) for feature in plan.dense]
        self.axes = [AxisFit(feature.name, kind) for feature, kind in plan.axes]
        self.examples = Examples(
            [feature.column for feature in (*plan.sparse, *plan.dense)],
            [feature.name for feature in plan.sparse],
            [feature.name for feature in plan.dense],
        )
        self.num_rows = 0
        used = [feature.column for feature in (*plan.sparse, *plan.dense, *(axis for axis, _ in plan.axes))]
        self.columns = list(dict.fromkeys([label, *used, *(column for column in (weight, unit) if column)]))
        self.num_nulls = dict.fromkeys(self.columns, 0)
        self._check_names()

    def fit(self, progress: Progress | None, **limits: Any) -> None:
        """The first pass."""
        self.vocabularies = [Vocabulary(feature.name, multi=feature.multi, **limits) for feature in self.plan.sparse]
        rows, positives = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
        for chunk, split in self._chunks():
            rows += np.bincount(split, minlength=3)
            positives += np.bincount(split, labels_of(chunk, self.label), minlength=3).astype(np.int64)
            if self.weight:
                weights_of(chunk, self.weight)
            for column in self.columns:
                values = chunk.table.column(column)
                self.num_nulls[column] += values.null_count
            self._fit(chunk.table.filter(pa.array(split == 0)), chunk.rows[split == 0], chunk.file)
            self.num_rows += chunk.table.num_rows
            if progress:
                progress(self.num_rows, 2 * (self.raw.num_rows or 0))
        by_split = [dict(zip(SPLITS, counts.tolist(), strict=True)) for counts in (rows, positives)]
        check_splits(*by_split, file=self.raw.folder)
        for vocabulary in self.vocabularies:
            vocabulary.finish()

    def _fit(self, train: pa.Table, rows: np.ndarray, file: str) -> None:
        for feature, vocabulary in zip(self.plan.sparse, self.vocabularies, strict=True):
            vocabulary.count(feature_texts(train, feature, file)[0])
        for feature, scale in zip(self.plan.dense, self.scales, strict=True):
            scale.update(numbers_of(train.column(feature.column)))
        for (feature, _), axis in zip(self.plan.axes, self.axes, strict=True):
            axis.update(train.column(feature.column).combine_chunks(), rows)

    def tables(self, progress: Progress | None) -> Iterator[tuple[str, pa.Table]]:
        """The second pass: (split, rows)."""
        done = self.num_rows
        for chunk, split in self._chunks():
            table = self._encode(chunk)
            self.examples.update(chunk.table, table, chunk.rows)
            for i, name in enumerate(SPLITS):
                yield name, table.filter(pa.array(split == i))
            done += chunk.table.num_rows
            if progress:
                progress(done, 2 * self.num_rows)

    def _encode(self, chunk: Chunk) -> pa.Table:
        raw, out = chunk.table, {}
        for feature, vocabulary in zip(self.plan.sparse, self.vocabularies, strict=True):
            texts, lengths = feature_texts(raw, feature, chunk.file)
            ids = pa.array(vocabulary.encode(texts))
            if lengths is not None:
                ids = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), ids)
            out[feature.name] = ids
        for feature, scale in zip(self.plan.dense, self.scales, strict=True):
            out[feature.name] = pa.array(scale.encode(numbers_of(raw.column(feature.column))))
        for (feature, _), axis in zip(self.plan.axes, self.axes, strict=True):
            out[axis.axis.column] = pa.array(axis.encode(raw.column(feature.column).combine_chunks()))
        if self.unit and self.unit_name:
            out[self.unit_name] = pa.array(unit_ids(texts_of(raw.column(self.unit).combine_chunks())))
        if self.weight:
            out[self.weight] = pa.array(weights_of(chunk, self.weight))
        return pa.table({**out, self.label: pa.array(labels_of(chunk, self.label))})

    def sparse_columns(self, folder: str) -> Iterator[SparseColumn]:
        """The columns with what raw rows need to be encoded again; their vocabularies are written into the folder."""
        files = file_names(feature.name for feature in self.plan.sparse)
        for feature, vocabulary in zip(self.plan.sparse, self.vocabularies, strict=True):
            source = feature.column if feature.column != feature.name else None
            raw_type = str(self.raw.types[feature.column])
            yield replace(
                vocabulary.save(folder, files[feature.name]), source=source, part=feature.part, raw_type=raw_type
            )

    def _chunks(self) -> Iterator[tuple[Chunk, np.ndarray]]:
        split_by = next((found.column for found in self.plan.found if "split" in found.role.split(", ")), None)
        for chunk in self.raw.chunks(list(dict.fromkeys([*self.columns, *([split_by] if split_by else [])]))):
            yield chunk, self.splitter(chunk)

    def found(self) -> list[Found]:
        """The plan's table, with counts of all rows in the place of the sample's."""
        counted = {v.name: v for v in self.vocabularies}
        out = []
        for line in self.plan.found:
            notes = [line.note] if line.note else []
            if line.column in self.num_nulls:
                line = replace(line, nulls=round(100 * self.num_nulls[line.column] / self.num_rows, 2))
            vocabulary = counted.get(line.column)
            if vocabulary:
                line = replace(line, distinct=vocabulary.num_distinct)
                notes += [f"hashed into {vocabulary.num_rows:,} rows"] * vocabulary.hashed
                cut = not vocabulary.hashed and vocabulary.num_rows <= vocabulary.num_distinct
                notes += [f"vocabulary cut to {vocabulary.num_rows - 1:,}"] * cut
            logged = [scale for scale in self.scales if scale.name == line.column and scale.column.transform == "log1p"]
            notes += ["log1p"] * len(logged)
            kinds = {feature.column: kind for feature, kind in self.plan.axes}
            notes += [f"cohort axis ({kinds.get(line.column)})"] * (line.column in kinds)
            absent = len(self.raw.files_without(line.column))
            notes += [f"absent from {absent} of {len(self.raw.files)} files"] * (absent > 0)
            out.append(replace(line, note="; ".join(notes)))
        return out

    def _check_names(self) -> None:
        features = [feature.name for feature in (*self.plan.sparse, *self.plan.dense)]
        stored = [f"cohort_{feature.name}" for feature, _ in self.plan.axes]
        names = [*features, *stored, self.label, *(name for name in (self.weight, self.unit_name) if name)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            remedy = "rename the column in the files, or name each column in one role"
            raise DataError("two prepared columns would have one name", column=twice, remedy=remedy)


def _check_numbers(*, hash_rows: int | None, max_vocabulary: int, min_count: int, seed: int) -> None:
    for name, value, least in (
        ("hash_rows", hash_rows if hash_rows is not None else 2, 2),
        ("max_vocabulary", max_vocabulary, 1),
        ("min_count", min_count, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise DataError(f"{name} is too small", value=value, remedy=f"choose {least} or more")
