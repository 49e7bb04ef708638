"""One's own parquet or csv files to prepared data: schema inferred, vocabularies built, everything said about it.

Three passes over the rows (four where the split is by time), a chunk at a time: the first counts what is in each column
and checks every label, and by that columns get their roles; the second takes vocabularies, scales and cohort axes from
the training rows; the third writes. Missing values: id 0 in a sparse column, no element in a bag, the mean (0) in a
dense one, "unknown" in a cohort axis.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from c2al.data.chunks import Chunk
from c2al.data.column_facts import ColumnFacts, count_columns
from c2al.data.csv_format import CsvFormat
from c2al.data.examples import Examples
from c2al.data.fitting import AxisFit, Scale
from c2al.data.inference import Found, Plan, check_exclude, infer, require
from c2al.data.prepared_folder import prepared_folder
from c2al.data.raw_files import RawFiles
from c2al.data.raw_values import Feature, feature_texts, labels_of, numbers_of, weights_of
from c2al.data.splitting import (
    NOWHERE,
    Splitter,
    check_ranges,
    check_splits,
    make_splitter,
    orders,
    time_column,
)
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
    exclude: Sequence[str] | None = None,
    split_by: str | None = None,
    split: Mapping[str, Any] | None = None,
    hash_rows: int | None = None,
    max_vocabulary: int = 1_000_000,
    min_count: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    nulls: Sequence[str] = ("",),
    encoding: str = "utf-8",
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
    progress: Progress | None = None,
) -> Schema:
    """Prepare a file or a folder of files (any fsspec path); ``notes["found"]`` says what became of every column.

    Of ``sparse``, ``dense`` and ``axes``, what is None is inferred (``inference``), what is given is taken as it is.
    ``exclude`` names columns that are never features. ``split_by`` is a column of train/validation/test, or of dates,
    times or numbers, cut at 80 and 90 %; ``split`` gives its values to each split, as one value or [first, last].
    Without either, folders named by split decide, else chance. ``hash_rows`` hashes the columns of more values than
    that. ``progress(done, all)`` counts the rows of all three passes; all is 0 while unknown.
    ``notes["warnings"]`` names columns that may give the label away, and rows that are in no split. ``nulls``,
    ``encoding``, ``names`` and ``delimiter`` are of text files (``csv_format.CsvFormat``).
    """
    csv = CsvFormat.of(nulls=nulls, encoding=encoding, names=names, delimiter=delimiter)
    _check_numbers(hash_rows=hash_rows, max_vocabulary=max_vocabulary, min_count=min_count, seed=seed)
    sparse, dense, axes = _names(sparse), _names(dense), _names(axes)
    exclude = [name for name in _names(exclude) or [] if name]  # a column without a name never is a feature
    with prepared_folder(to, overwrite=overwrite) as partial:
        raw = RawFiles(folder, skip=to, csv=csv)
        if label not in raw.types:
            raw.check_header()
        for column in dense or ():
            raw.read_as_numbers(column)
        for column in set(sparse or ()) & raw.loose:
            raw.read_as_text(column)
        if unit in raw.loose - raw.merges - set(dense or ()):
            raw.read_as_text(unit)
        special = {"label": label, "weight": weight, "unit": unit, "split": split_by}
        named = {role: column for role, column in special.items() if column is not None}
        for column in (*named.values(), *exclude):
            require(column, raw)
        check_exclude(exclude, special=named, named={"sparse": sparse, "dense": dense, "axes": axes})
        if raw.files_without(label):
            remedy = "write the label into every file"
            raise DataError("the label is missing here", file=raw.files_without(label)[0], column=label, remedy=remedy)
        if split is not None:
            check_ranges(split)
        facts = _count(raw, label, without=set(exclude) - set(named.values()), progress=progress)
        if split is not None and split_by is None:
            split_by = named["split"] = time_column(raw, facts)
        by_time = split_by is not None and orders(split_by, raw.types[split_by], facts[split_by])
        plan = infer(
            raw, special=named, sparse=sparse, dense=dense, axes=axes, exclude=exclude, by_time=by_time, facts=facts
        )
        as_ids = {feature.column for feature in plan.sparse}
        if not raw.files[0].is_csv:
            as_ids |= {axis.column for axis, kind in plan.axes if kind == "category"}
        for column in as_ids & (raw.loose - raw.merges) - {feature.column for feature in plan.dense}:
            raw.read_as_text(column)
        splitter = make_splitter(raw, split_by, seed, split=split, facts=facts)
        maker = Preparation(plan, raw, splitter, label=label, weight=weight, unit=unit, split_by=split_by)
        maker.counted = facts[label].num_rows
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
            csv=csv.said if raw.files[0].is_csv else {},
            notes={
                "source": folder,
                **({"left_out": raw.left_out} if raw.left_out else {}),
                "derived": {one.name: {"column": one.column, "part": one.part} for one in plan.sparse if one.part},
                "split": splitter.told,
                "rows_counted": next(iter(facts.values())).num_rows,
                "found": [asdict(found) for found in maker.found(facts)],
                "warnings": [*plan.warnings, *maker.warnings()],
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
        self,
        plan: Plan,
        raw: RawFiles,
        splitter: Splitter,
        *,
        label: str,
        weight: str | None,
        unit: str | None,
        split_by: str | None = None,
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
        self.num_rows = self.num_nowhere = 0
        self.counted = 0  # rows, by the first pass
        used = [feature.column for feature in (*plan.sparse, *plan.dense, *(axis for axis, _ in plan.axes))]
        self.columns = list(dict.fromkeys([label, *used, *(column for column in (weight, unit, split_by) if column)]))
        self._check_names()

    def fit(self, progress: Progress | None, **limits: Any) -> None:
        """The second pass, over what the first one has counted."""
        self.vocabularies = [Vocabulary(feature.name, multi=feature.multi, **limits) for feature in self.plan.sparse]
        rows, positives = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
        for chunk, split in self._chunks():
            everywhere = np.bincount(split, minlength=len(SPLITS) + 1)
            self.num_nowhere += int(everywhere[NOWHERE])
            rows += everywhere[: len(SPLITS)]
            found = np.bincount(split, labels_of(chunk, self.label), minlength=len(SPLITS) + 1)
            positives += found[: len(SPLITS)].astype(np.int64)
            if self.weight:
                weights_of(chunk, self.weight)
            self._fit(chunk.table.filter(pa.array(split == 0)), chunk.rows[split == 0], chunk.file)
            self.num_rows += chunk.table.num_rows
            if progress:
                progress(self.counted + self.num_rows, 3 * self.counted)
        by_split = [dict(zip(SPLITS, counts.tolist(), strict=True)) for counts in (rows, positives)]
        check_splits(*by_split, file=self.raw.folder)
        for vocabulary in self.vocabularies:
            vocabulary.finish()

    def _fit(self, train: pa.Table, rows: np.ndarray, file: str) -> None:
        for feature, vocabulary in zip(self.plan.sparse, self.vocabularies, strict=True):
            vocabulary.count(feature_texts(train, feature, file)[0])
        for feature, scale in zip(self.plan.dense, self.scales, strict=True):
            scale.update(numbers_of(train.column(feature.column)))
        for (feature, kind), axis in zip(self.plan.axes, self.axes, strict=True):
            axis.update(_axis_values(train, feature, kind, file), rows)

    def tables(self, progress: Progress | None) -> Iterator[tuple[str, pa.Table]]:
        """The third pass: (split, rows)."""
        done = 2 * self.num_rows
        for chunk, split in self._chunks():
            table = self._encode(chunk)
            self.examples.update(chunk.table, table, chunk.rows)
            for i, name in enumerate(SPLITS):
                yield name, table.filter(pa.array(split == i))
            done += chunk.table.num_rows
            if progress:
                progress(done, 3 * self.num_rows)

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
        for (feature, kind), axis in zip(self.plan.axes, self.axes, strict=True):
            out[axis.axis.column] = pa.array(axis.encode(_axis_values(raw, feature, kind, chunk.file)))
        if self.unit and self.unit_name:
            out[self.unit_name] = pa.array(unit_ids(feature_texts(raw, Feature(self.unit, self.unit), chunk.file)[0]))
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
        for chunk in self.raw.chunks(self.columns):
            yield chunk, self.splitter(chunk)

    def warnings(self) -> list[str]:
        """What a person should know at the end."""
        if not self.num_nowhere:
            return []
        share = self.num_nowhere / self.num_rows
        return [f"{self.num_nowhere:,} of {self.num_rows:,} rows ({share:.2%}) are in no range of split= and left out"]

    def found(self, facts: Mapping[str, ColumnFacts]) -> list[Found]:
        """The plan's table, with what was made of each column."""
        counted = {v.name: v for v in self.vocabularies}
        out = []
        for line in self.plan.found:
            notes = [line.note] if line.note else []
            notes += ["distinct values estimated"] * (line.column in facts and not facts[line.column].values.exact)
            vocabulary = counted.get(line.column)
            if vocabulary:
                notes += [f"hashed into {vocabulary.num_rows:,} rows"] * vocabulary.hashed
                cut = not vocabulary.hashed and vocabulary.num_rows <= vocabulary.num_distinct
                notes += [f"vocabulary cut to {vocabulary.num_rows - 1:,}"] * cut
            notes += [self.raw.notes[name] for name in (line.column,) if name in self.raw.notes]
            notes += [scale.note for scale in self.scales if scale.name == line.column and scale.note]
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


def _axis_values(table: pa.Table, feature: Feature, kind: str, file: str) -> pa.Array:
    """What an axis is made of: numbers for quantiles, else texts."""
    if kind == "quantile":
        return table.column(feature.column).combine_chunks()
    return feature_texts(table, feature, file)[0]


def _count(raw: RawFiles, label: str, *, without: set[str], progress: Progress | None) -> dict[str, ColumnFacts]:
    def counted(done: int) -> None:
        if progress:
            progress(done, 3 * (raw.num_rows or 0))

    return count_columns(raw, label, without=without, progress=counted)


def _names(said: Sequence[str] | str | None) -> list[str] | None:
    """Column names; one that is given without brackets is a list of one."""
    return None if said is None else [str(name) for name in ([said] if isinstance(said, str) else said)]


def _check_numbers(*, hash_rows: int | None, max_vocabulary: int, min_count: int, seed: int) -> None:
    for name, value, least in (
        ("hash_rows", hash_rows if hash_rows is not None else 2, 2),
        ("max_vocabulary", max_vocabulary, 1),
        ("min_count", min_count, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise DataError(f"{name} is too small", value=value, remedy=f"choose {least} or more")
