"""What each raw column is, from its type, its name and a sample of its values, where the user has not said it.

    text, boolean, dictionary     sparse; ignored where nearly every row has another value (free text, row ids)
    list of text or integers      sparse, multi-valued
    integer                       sparse where the name says id, the values are few, or they spread evenly;
                                  dense where the name says count, or the values are skewed as counts are
    float                         dense; sparse where all are whole and the name says id (integers with nulls)
    date, time                    hour and weekday, sparse; integers of seconds or milliseconds since 1970 too
    struct, map, list of floats   ignored

Constant and empty columns are ignored too. Sparse columns of 2 to 20 values are also cohort axes, unless axes are
named.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.raw_files import RawFiles
from c2al.data.raw_values import Feature, is_float, is_number, is_time, numbers_of
from c2al.schema import DataError

FEW_VALUES = 64
NEARLY_UNIQUE, UNIQUE_FROM_ROWS = 0.2, 1000  # rows per value, from which number of rows on it is judged
MAX_COHORTS, MAX_AXES = 20, 8
_ID = re.compile(r"(^|_)(id|ids|idx|key|code|hash|zip|zipcode|postcode)($|_)|[a-z](Id|ID)s?$|^C\d+$", re.ASCII)
_COUNT = re.compile(
    r"(^|_)(n|num|count|counts|cnt|amount|price|qty|quantity|sum|total|days|seconds|minutes|duration|score|rate|ratio"
    r"|age|length|size|mean|avg|min|max|std|spend|revenue|views|clicks|impressions)($|_)",
    re.IGNORECASE,
)
_TIME = re.compile(r"(^|_)(time|timestamp|ts|datetime|date|unixtime|epoch)($|_)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One line of the table of what was found. ``distinct`` and ``nulls`` (percent) are of a sample until counted."""

    column: str
    type: str
    role: str  # label, weight, unit, split, sparse, dense, ignored; several joined by ", "
    distinct: int | None = None
    nulls: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Which columns become what."""

    sparse: tuple[Feature, ...]
    dense: tuple[Feature, ...]
    axes: tuple[tuple[Feature, str], ...]  # with category or quantile
    found: tuple[Found, ...]


def infer(
    raw: RawFiles,
    *,
    special: dict[str, str],
    sparse: Sequence[str] | None,
    dense: Sequence[str] | None,
    axes: Sequence[str] | None,
) -> Plan:
    """Name every column's role. ``special`` gives label, weight, unit, split -> column; None means: find out."""
    for column in (*special.values(), *(sparse or ()), *(dense or ()), *(axes or ())):
        require(column, raw)
    both = set(sparse or ()) & set(dense or ())
    if both:
        raise DataError("a column is named as sparse and as dense", column=min(both), remedy="name it in one of them")
    sample = raw.sample()
    found: dict[str, Found] = {}
    features = Features()
    taken = {column: role for role, column in special.items()}
    for column, kind in raw.types.items():
        known = _look(column, raw, sample)
        asked = "sparse" if column in (sparse or ()) else "dense" if column in (dense or ()) else None
        also = taken.get(column) == "unit" or (taken.get(column) == "split" and is_time(kind))
        if column in taken and not asked and not (also and sparse is None):
            found[column] = replace(known, role=taken[column])
            continue
        role, note = (asked, "") if asked else _role(column, raw, sample.column(column), known)
        given = dense if role == "dense" else sparse
        if not asked and role != "ignored" and given is not None:
            role, note = "ignored", "not named"
        note = features.add(column, role, kind) or note
        shown = [*([taken[column]] if column in taken else []), "sparse" if role == "time" else role]
        found[column] = replace(known, role=", ".join(shown), note=note)
    if not features.sparse:
        remedy = "name sparse columns: sparse=[…]"
        raise DataError("nothing to learn from: no sparse column was found", file=raw.folder, remedy=remedy)
    chosen = _axes(raw, sample, found, axes, skip=set(special.values()) - {special.get("unit")})
    return Plan(tuple(features.sparse), tuple(features.dense), chosen, tuple(found.values()))


class Features:
    """Columns to be made, as they are found."""

    def __init__(self) -> None:
        self.sparse: list[Feature] = []
        self.dense: list[Feature] = []

    def add(self, column: str, role: str, kind: pa.DataType) -> str:
        """Add what a column gives; a note where that is more than the column itself."""
        if role == "dense":
            if is_time(kind) or not (is_number(kind) or pa.types.is_boolean(kind)):
                remedy = "name it as sparse, or convert it"
                raise DataError("a dense column must hold numbers", column=column, value=str(kind), remedy=remedy)
            self.dense.append(Feature(column, column))
        if role == "time":
            parts = ["weekday"] * (not pa.types.is_time(kind)) + ["hour"] * (not pa.types.is_date(kind))
            self.sparse += [Feature(f"{column}_{part}", column, part) for part in parts]
            return " and ".join(parts)
        if role == "sparse":
            if is_time(kind):
                return self.add(column, "time", kind)
            if not _sparse_able(kind):
                remedy = "leave it out, or make it text, integers or a list of those"
                raise DataError("a sparse column cannot be of this type", column=column, value=str(kind), remedy=remedy)
            self.sparse.append(Feature(column, column, multi=pa.types.is_list(kind)))
        return ""


def require(column: str, raw: RawFiles) -> None:
    """A DataError with the nearest name where there is no such column."""
    if column in raw.types:
        return
    close = get_close_matches(column, raw.types, n=1)
    remedy = (f"did you mean {close[0]}? " if close else "") + f"columns: {', '.join(raw.types)}"
    raise DataError("no such column", file=raw.folder, column=column, remedy=remedy)


def _sparse_able(kind: pa.DataType) -> bool:
    one = kind.value_type if pa.types.is_list(kind) else kind
    texts = pa.types.is_string(one) or pa.types.is_binary(one) or pa.types.is_boolean(one)
    return bool(texts or (is_number(one) and not pa.types.is_duration(one)))


def _look(column: str, raw: RawFiles, sample: pa.Table) -> Found:
    values, kind = sample.column(column), raw.types[column]
    flat = pc.list_flatten(values) if pa.types.is_list(kind) else values
    countable = not pa.types.is_nested(flat.type) and not pa.types.is_null(flat.type)
    distinct = pc.count_distinct(flat).as_py() if countable else None
    return Found(column, str(kind), "", distinct, round(100 * values.null_count / len(values), 2))


def _role(column: str, raw: RawFiles, values: pa.ChunkedArray, known: Found) -> tuple[str, str]:
    """Role and why."""
    kind, num_known = raw.types[column], len(values) - values.null_count
    if num_known == 0:
        return "ignored", "empty"
    if pa.types.is_list(kind):
        able = _sparse_able(kind) and not pa.types.is_floating(kind.value_type)
        return ("sparse", "multi-valued") if able else ("ignored", "lists of this type are no bags of ids")
    if known.distinct is None:
        return "ignored", "nested: flatten it"
    if pa.types.is_binary(kind) and not _is_text(values):
        return "ignored", "bytes that are not UTF-8"
    if known.distinct <= 1 and not values.null_count:
        return "ignored", "constant"
    if is_time(kind) or _is_epoch(column, kind, values):
        return "time", ""
    quantity = is_float(kind) or (is_number(kind) and _COUNT.search(column) and not _ID.search(column))
    if not quantity and _nearly_unique(known.distinct, num_known, raw.num_rows):
        return "ignored", "nearly every row has another value"
    if not is_number(kind):
        return "sparse", ""
    return _number_role(column, kind, pc.drop_null(values), known.distinct)


def _nearly_unique(distinct: int, num_sampled: int, num_rows: int | None) -> bool:
    """Whether a value would hardly come again in all rows. A sample repeats few values even of a column that does.

    Of D equally frequent values, n rows repeat about n²/2D; so the repeats of the sample tell D, and N rows have N/D of
    each. Where N is unknown (csv), any repeat saves the column.
    """
    repeats = num_sampled - distinct
    rows_per_value = 2 * repeats * (num_rows or np.inf) / num_sampled**2 if repeats else 0.0
    return num_sampled >= UNIQUE_FROM_ROWS and rows_per_value < NEARLY_UNIQUE


def _is_text(values: pa.ChunkedArray) -> bool:
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _number_role(column: str, kind: pa.DataType, values: pa.ChunkedArray, distinct: int) -> tuple[str, str]:
    numbers = numbers_of(values)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return "ignored", "no finite number"
    if is_float(kind):
        whole = bool(np.all(numbers == np.round(numbers)))
        return ("sparse", "whole numbers, named as ids") if whole and _ID.search(column) else ("dense", "")
    if _ID.search(column):
        return "sparse", "named as ids"
    if _COUNT.search(column):
        return "dense", "named as a quantity"
    if distinct <= FEW_VALUES:
        return "sparse", "few values"
    spread = numbers.std() or 1.0
    if numbers.min() < 0 or np.mean(((numbers - numbers.mean()) / spread) ** 3) > 1:
        return "dense", "integers skewed as counts are"
    return "sparse", "integers spread as ids are; if they are quantities, name them: dense=[…]"


def _is_epoch(column: str, kind: pa.DataType, values: pa.ChunkedArray) -> bool:
    if not (pa.types.is_integer(kind) and _TIME.search(column)):
        return False
    least, most = pc.min_max(values).as_py().values()
    seconds_or_ms = ((3e8, 5e9), (3e11, 5e12))  # 1979 to 2128
    return any(low < least and most < high for low, high in seconds_or_ms)


def _axes(
    raw: RawFiles,
    sample: pa.Table,
    found: dict[str, Found],
    named: Sequence[str] | None,
    *,
    skip: Collection[str | None],
) -> tuple[tuple[Feature, str], ...]:
    chosen: list[tuple[Feature, str]] = []
    for column in raw.types if named is None else named:
        kind, distinct = raw.types[column], found[column].distinct
        single = _sparse_able(kind) and not pa.types.is_list(kind)
        if named is not None and not single:
            remedy = "name a column of text, booleans or numbers"
            raise DataError("no cohort axis can be made of this type", column=column, value=str(kind), remedy=remedy)
        few = distinct is not None and distinct <= MAX_COHORTS
        varies = distinct is not None and distinct > 1
        if named is None:
            inferred = single and few and varies and "sparse" in found[column].role and column not in skip
            if not inferred or len(chosen) == MAX_AXES:
                continue
        chosen.append((Feature(column, column), "quantile" if is_number(kind) and not few else "category"))
    return tuple(chosen)
