"""Rows as tables -> ``Inputs``: raw rows as ``c2al prepare`` encodes them, or rows that it has prepared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from c2al.data.arrow_types import plain_type, plain_values
from c2al.data.fitting import normalized
from c2al.data.raw_types import like_trained
from c2al.data.raw_values import is_number, numbers_of, part_of, texts_of
from c2al.data.vocabulary import Lookup, hashed_ids
from c2al.schema import DataError, DenseColumn, Schema, SparseColumn, _nearest
from c2al.serving.inputs import Bags, Inputs

if TYPE_CHECKING:
    from c2al.serving.served import Columns

POLICIES = {"unknown": ("zero", "error"), "null": ("zero", "error"), "missing": ("error", "default")}


class Encoder:
    """Encodes tables for a model; what it makes of a vocabulary is made once. May be called from several threads.

    ``prepared``: tables hold ids and normalised numbers. Else raw values of any plain type, under their raw names:
    texts, numbers, booleans, times, dictionaries, lists for bags, ids themselves where a column has no vocabulary.
    ``policy``: an ``unknown`` value or an id beyond the table is id 0 ("zero") or an "error"; ``null`` (also empty
    text, NaN and infinities) is id 0, the mean or no element of a bag ("zero"), or an "error"; a ``missing`` column is
    an "error", or all null ("default").
    """

    def __init__(
        self,
        schema: Schema,
        columns: "Columns",
        vocabulary: Callable[[str], pa.Array],
        policy: Mapping[str, str],
        *,
        prepared: bool = False,
    ) -> None:
        self.policy = checked_policy(policy)
        self.prepared = prepared
        dense = {column.name: column for column in schema.dense}
        sparse = {column.name: column for column in schema.sparse}
        self.dense = [dense[name] for name in columns.dense]
        self.single = [sparse[name] for name in columns.single]
        self.bags = [sparse[name] for name in columns.bags]
        self._lookups = {}
        if not prepared:
            known = [column.name for column in (*self.single, *self.bags) if column.vocabulary and not column.hashed]
            self._lookups = {name: Lookup(vocabulary(name)) for name in known}

    @property
    def columns(self) -> list[str]:
        """The names that tables are to have, each once."""
        sparse = (*self.single, *self.bags)
        names = [column.name if self.prepared else column.raw for column in sparse]
        return list(dict.fromkeys([*(column.name for column in self.dense), *names]))

    def check_columns(self, names: Sequence[str], file: str) -> None:
        """A DataError with the nearest name where a file of columns ``names`` lacks one that may not be missing."""
        for name in self.columns:
            if name not in names and self.policy["missing"] == "error":
                remedy = f"{_nearest(name, tuple(names))}; or say missing=default, which takes it as null"
                raise DataError("column missing", file=file, column=name, remedy=remedy)

    def __call__(self, table: pa.Table, *, file: str, first_row: int = 0) -> Inputs:
        """The rows encoded; a DataError names file, column, row (from ``first_row`` on) and value."""
        self.check_columns(table.column_names, file)
        rows = _Rows(table, file, first_row, self.policy)
        dense = [self._numbers(column, rows) for column in self.dense]
        single = [self._ids(column, rows) for column in self.single]
        return Inputs(
            _side_by_side(dense, len(table), np.float32),
            _side_by_side(single, len(table), np.int64),
            {column.name: self._bags(column, rows) for column in self.bags},
        )

    def _numbers(self, column: DenseColumn, rows: "_Rows") -> np.ndarray:
        values = rows.plain(column.name)
        if values is None or pat.is_null(values.type):
            rows.refuse_nulls(column.name, np.full(len(rows.table), values is not None))
            return np.zeros(len(rows.table), np.float32)
        if not (is_number(values.type) or pat.is_boolean(values.type)):
            raise rows.unusable(column.name, values.type, "numbers")
        numbers = numbers_of(values)
        if self.prepared:
            with np.errstate(over="ignore"):
                numbers = numbers.astype(np.float32)
        known = np.isfinite(numbers)
        rows.refuse_nulls(column.name, ~known, what="no finite number")
        return np.where(known, numbers, np.float32(0)) if self.prepared else normalized(numbers, column)

    def _ids(self, column: SparseColumn, rows: "_Rows") -> np.ndarray:
        name = column.name if self.prepared else column.raw
        values = rows.encoded(name)
        if values is None:
            return np.zeros(len(rows.table), np.int64)
        if pat.is_nested(values.type):
            raise rows.unusable(name, values.type, "one value a row")
        found = self._found(column, values, rows)
        rows.refuse(name, found, values)
        return found.id_V

    def _bags(self, column: SparseColumn, rows: "_Rows") -> Bags:
        name = column.name if self.prepared else column.raw
        lists = rows.plain(name)
        if lists is None or pat.is_null(lists.type):
            rows.refuse_nulls(name, np.full(len(rows.table), lists is not None))
            return Bags(np.empty(0, np.int64), np.zeros(len(rows.table), np.int64))
        if not pat.is_list(lists.type) or pat.is_nested(lists.type.value_type):
            raise rows.unusable(name, lists.type, "lists of values")
        rows.refuse_nulls(name, lists.is_null().to_numpy(zero_copy_only=False))
        values = pc.list_flatten(lists)
        row_V = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        found = self._found(column, values, rows)
        rows.refuse(name, found, values, row_V)
        kept_V = ~found.null_V
        if column.drop_unknown and not self.prepared:
            kept_V &= ~found.unknown_V
        lengths_B = np.bincount(row_V[kept_V], minlength=len(rows.table)).astype(np.int64)
        return Bags(found.id_V[kept_V], lengths_B)

    def _found(self, column: SparseColumn, values: pa.Array, rows: "_Rows") -> "_Found":
        if self.prepared or not (column.vocabulary or column.hashed):
            return _own_ids(column, values, rows)
        distinct = values if pat.is_dictionary(values.type) else values.dictionary_encode()
        if pat.is_null(values.type):
            distinct = pa.DictionaryArray.from_arrays(pa.nulls(len(values), pa.int32()), pa.array([], pa.string()))
        try:
            plain = plain_values(distinct.dictionary)
            texts = texts_of(part_of(like_trained(plain, column.raw_type, column.part), column.part))
        except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise rows.fault_of(column.raw, error, values.type) from None
        ids = hashed_ids(texts, column.num_rows) if column.hashed else self._lookups[column.name](texts)
        null = texts.is_null().to_numpy(zero_copy_only=False)
        code_V = pc.fill_null(distinct.indices, -1).to_numpy(zero_copy_only=False)  # -1: the one added at the end
        return _Found(
            np.append(ids, 0).astype(np.int64)[code_V],
            np.append(null, True)[code_V],
            np.append((ids == 0) & ~null, False)[code_V],
        )


@dataclass(frozen=True)
class _Found:
    """Ids (0 for null and unknown), and which are which."""

    id_V: np.ndarray
    null_V: np.ndarray
    unknown_V: np.ndarray


def _own_ids(column: SparseColumn, values: pa.Array, rows: "_Rows") -> _Found:
    """Of values that are ids."""
    kind = plain_type(values.type)
    null_V = values.is_null().to_numpy(zero_copy_only=False)
    if pat.is_null(kind):
        return _Found(np.zeros(len(values), np.int64), null_V, np.zeros_like(null_V))
    try:
        if not (pat.is_integer(kind) or pat.is_floating(kind)):
            raise pa.ArrowInvalid("no numbers")
        if pat.is_floating(kind):  # integers beside nulls, as pandas has them
            values = pc.if_else(pc.is_finite(values), values, None)
            null_V = values.is_null().to_numpy(zero_copy_only=False)
        id_V = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        raise rows.unusable(column.name, kind, f"ids in [0, {column.num_rows})") from None
    unknown_V = (id_V < 0) | (id_V >= column.num_rows)
    return _Found(np.where(unknown_V, 0, id_V), null_V, unknown_V)


class _Rows:
    """A table, and the words for what is wrong with it."""

    def __init__(self, table: pa.Table, file: str, first_row: int, policy: Mapping[str, str]) -> None:
        self.table, self.file, self.first_row, self.policy = table, file, first_row, policy

    def encoded(self, name: str) -> pa.Array | None:
        """A column as it is, dictionaries among them; None where it is missing and may be."""
        count = self.table.column_names.count(name)
        if count == 1:
            found = self.table.column(name)
            whole = found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
            whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
            return whole if pat.is_dictionary(whole.type) else plain_values(whole)
        if count:
            raise DataError("column there twice", file=self.file, column=name, remedy="rename one of them")
        return None

    def plain(self, name: str) -> pa.Array | None:
        """A column without its encoding; None where it is missing and may be."""
        values = self.encoded(name)
        return None if values is None else plain_values(values)

    def refuse_nulls(self, name: str, null_B: np.ndarray, what: str = "null") -> None:
        """A DataError at the first null, where the policy has it so."""
        if self.policy["null"] == "error" and null_B.any():
            raise self._fault(what, name, int(null_B.argmax()), None, "null")

    def refuse(self, name: str, found: _Found, values: pa.Array, row_V: np.ndarray | None = None) -> None:
        """A DataError at the first null or unknown value, where the policy has it so."""
        for rule, flag_V in (("null", found.null_V), ("unknown", found.unknown_V)):
            if self.policy[rule] == "error" and flag_V.any():
                at = int(flag_V.argmax())
                row = at if row_V is None else int(row_V[at])
                what = "null" if rule == "null" else "unknown value"
                raise self._fault(what, name, row, values[at].as_py(), rule)

    def _fault(self, what: str, name: str, row: int, value: object, rule: str) -> DataError:
        remedy = f"fix it, or say {rule}=zero"
        shown = "null" if value is None else repr(value) if isinstance(value, str) else value
        return DataError(
            f"{what} in row {self.first_row + row}", file=self.file, column=name, value=shown, remedy=remedy
        )

    def unusable(self, name: str, kind: pa.DataType, expected: str, said: str = "") -> DataError:
        """The DataError for a column of a type that nothing can be made of, and what Arrow has ``said``."""
        remedy = "convert the column; c2al prepare and the model's schema say what it was in training"
        problem = f"column of type {kind}, {expected} expected{f' ({said[:200]})' if said else ''}"
        return DataError(problem, file=self.file, column=name, remedy=remedy)

    def fault_of(self, name: str, error: Exception, kind: pa.DataType) -> DataError:
        """What is wrong with a column's values, with its name."""
        if isinstance(error, DataError):
            value = error.where["value"]
            return DataError(error.problem, file=self.file, column=name, value=value, remedy=error.remedy)
        return self.unusable(name, kind, "texts, numbers, booleans or times", str(error).splitlines()[0])


def _side_by_side(columns: Sequence[np.ndarray], num_rows: int, dtype: type) -> np.ndarray:
    out: np.ndarray[Any, Any] = np.empty((num_rows, len(columns)), dtype)
    for place, column in enumerate(columns):
        out[:, place] = column
    return out


def checked_policy(policy: Mapping[str, str]) -> dict[str, str]:
    """The policy with defaults for what it leaves out; a DataError for a word that it may not say."""
    for rule, word in policy.items():
        if word not in POLICIES.get(rule, ()):
            remedy = "; ".join(f"{rule}={'|'.join(words)}" for rule, words in POLICIES.items())
            raise DataError("no such policy", value=f"{rule}={word}", remedy=remedy)
    return {rule: words[0] for rule, words in POLICIES.items()} | dict(policy)
