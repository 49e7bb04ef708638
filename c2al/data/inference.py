"""What each raw column is, from its type, its name and all of its values, where the user has not said it.

    text, boolean, dictionary     sparse; ignored where nearly every row has another value (free text, row ids)
    list of text or integers      sparse, multi-valued
    integer                       sparse where the name says id, the values are few, or they spread evenly;
                                  dense where the name says count, or the values are skewed as counts are
    float                         dense; sparse where all are whole and the name says id (integers with nulls)
    date, time                    hour and weekday, sparse; integers of seconds or milliseconds since 1970 too
    struct, map, list of floats   ignored

Constant and empty columns are ignored too, row numbers (an index that pandas wrote, a count of the rows), and texts or
integers that are dates where the split is by time: validation and test have days that no training row has. Sparse
columns of 2 to 20 values are also cohort axes, unless axes are named.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import pyarrow as pa

from c2al.data.column_facts import ColumnFacts, count_columns
from c2al.data.leaks import leak
from c2al.data.raw_files import RawFiles
from c2al.data.raw_values import Feature, is_float, is_number, is_time
from c2al.schema import DataError

FEW_VALUES = 64
NEARLY_UNIQUE, UNIQUE_FROM_ROWS = 0.9, 1000  # values per row, from which number of rows on it is judged
NUMBERED_FROM_ROWS = 20
MAX_COHORTS, MAX_AXES = 20, 8
_ID = re.compile(r"(^|_)(id|ids|idx|key|code|hash|zip|zipcode|postcode)($|_)|[a-z](Id|ID)s?$|^C\d+$", re.ASCII)
_COUNT = re.compile(
    r"(^|_)(n|num|count|counts|cnt|amount|price|qty|quantity|sum|total|days|seconds|minutes|duration|score|rate|ratio"
    r"|age|length|size|mean|avg|min|max|std|spend|revenue|views|clicks|impressions)($|_)",
    re.IGNORECASE,
)
_PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+(\.\d+)?(_level_\d+)?|")
_INDEX = re.compile(r"index|idx|row|row_?(id|idx|index|num|number|no|nr)|line(_?(no|num|number))?", re.IGNORECASE)
_TIME = re.compile(r"(^|_)(time|timestamp|ts|datetime|date|unixtime|epoch)($|_)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One line of the table of what was found. ``distinct`` and ``nulls`` (percent) are of all rows.

    They are None of a column that was not read.
    """

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
    warnings: tuple[str, ...] = ()


def infer(
    raw: RawFiles,
    *,
    special: dict[str, str],
    sparse: Sequence[str] | None,
    dense: Sequence[str] | None,
    axes: Sequence[str] | None,
    exclude: Sequence[str] = (),
    by_time: bool = False,
    facts: Mapping[str, ColumnFacts] | None = None,
) -> Plan:
    """Name every column's role.

    Args:
        raw: the files.
        special: label, weight, unit, split -> column.
        sparse: names, or None: find out. ``dense`` and ``axes`` likewise.
        dense: see ``sparse``.
        axes: see ``sparse``.
        exclude: columns that are never features.
        by_time: the split is by a time; dates are then no features.
        facts: what ``count_columns`` found; None: count now.
    """
    for column in (*special.values(), *(sparse or ()), *(dense or ()), *(axes or ()), *exclude):
        require(column, raw)
    check_exclude(exclude, special=special, named={"sparse": sparse, "dense": dense, "axes": axes})
    both = set(sparse or ()) & set(dense or ())
    if both:
        raise DataError("a column is named as sparse and as dense", column=min(both), remedy="name it in one of them")
    facts = count_columns(raw, special.get("label"), without=exclude) if facts is None else facts
    if facts and not next(iter(facts.values())).num_rows:
        raise DataError("the files hold no rows", file=raw.folder, remedy="check what wrote them")
    found: dict[str, Found] = {}
    features = Features()
    taken = {column: role for role, column in special.items()}
    for column, kind in raw.types.items():
        if column not in facts or column in exclude:
            found[column] = Found(column, str(kind), taken.get(column, "ignored"), note="excluded")
            continue
        known = Found(column, str(kind), "", facts[column].distinct, facts[column].nulls)
        asked = "sparse" if column in (sparse or ()) else "dense" if column in (dense or ()) else None
        also = taken.get(column) == "unit" or (taken.get(column) == "split" and is_time(kind))
        if column in taken and not asked and not (also and sparse is None):
            note = "not a feature: it orders the split" if taken[column] == "split" and by_time else ""
            found[column] = replace(known, role=taken[column], note=note)
            continue
        role, note = (asked, "") if asked else _role(column, kind, facts[column], by_time=by_time)
        given = dense if role == "dense" else sparse
        if not asked and role != "ignored" and given is not None:
            role, note = "ignored", "not named"
        note = features.add(column, role, kind) or note
        shown = [*([taken[column]] if column in taken else []), "sparse" if role == "time" else role]
        found[column] = replace(known, role=", ".join(shown), note=note)
    if not features.sparse:
        remedy = "name sparse columns: sparse=[…]"
        raise DataError("nothing to learn from: no sparse column was found", file=raw.folder, remedy=remedy)
    chosen = _axes(raw, found, axes, skip={*special.values(), *exclude} - {special.get("unit")})
    used = {feature.column for feature in (*features.sparse, *features.dense)} - {special["label"]}
    warnings = [
        f"column {column} may give the label away: {said}. If it is known only after the label, pass exclude=[{column}]"
        for column in raw.types
        if column in used and (said := leak(facts[column]))
    ]
    return Plan(tuple(features.sparse), tuple(features.dense), chosen, tuple(found.values()), tuple(warnings))


def check_exclude(
    exclude: Sequence[str], *, special: Mapping[str, str], named: Mapping[str, Sequence[str] | None]
) -> None:
    """Raise a DataError where an excluded column is the label, or is asked for elsewhere."""
    for column in exclude:
        if column == special.get("label"):
            raise DataError("the label cannot be excluded", column=column, remedy="take it out of exclude=[…]")
        for key, columns in named.items():
            if column in (columns or ()):
                remedy = f"take it out of exclude=[…] or out of {key}=[…]"
                raise DataError(f"a column is named in exclude and in {key}", column=column, remedy=remedy)


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
    """A DataError with the nearest name where there is no such column, or where it has no name."""
    if column == "" and column in raw.types:
        remedy = "give it one in the header"
        raise DataError("a column without a name cannot be used", file=raw.folder, column="''", remedy=remedy)
    if column in raw.types:
        return
    close = get_close_matches(column, raw.types, n=1)
    remedy = (f"did you mean {close[0]}? " if close else "") + f"columns: {', '.join(raw.types)}"
    raise DataError("no such column", file=raw.folder, column=column, remedy=remedy)


def _sparse_able(kind: pa.DataType) -> bool:
    one = kind.value_type if pa.types.is_list(kind) else kind
    texts = pa.types.is_string(one) or pa.types.is_binary(one) or pa.types.is_boolean(one)
    return bool(texts or (is_number(one) and not pa.types.is_duration(one)))


def _role(column: str, kind: pa.DataType, facts: ColumnFacts, *, by_time: bool) -> tuple[str, str]:
    """Role and why."""
    if not column:
        return "ignored", _row_numbers(column, kind, facts) or "without a name: give it one in the header"
    if facts.num_known == 0:
        return "ignored", "empty"
    if pa.types.is_list(kind):
        able = _sparse_able(kind) and not pa.types.is_floating(kind.value_type)
        if able and not facts.distinct:
            return "ignored", "empty"
        return ("sparse", "multi-valued") if able else ("ignored", "lists of this type are no bags of ids")
    if facts.distinct is None:
        return "ignored", "nested: flatten it" if pa.types.is_nested(kind) else "values of this type are no ids"
    if not facts.is_text:
        return "ignored", "bytes that are not UTF-8"
    if facts.distinct <= 1 and not facts.num_nulls:
        return "ignored", "constant"
    if is_time(kind) or is_epoch(column, facts):
        return "time", ""
    if note := _row_numbers(column, kind, facts):
        return "ignored", note
    if by_time and facts.is_date:
        return "ignored", "a date: it orders the split"
    quantity = is_float(kind) or (is_number(kind) and _COUNT.search(column) and not _ID.search(column))
    if not quantity and _is_nearly_unique(facts):
        return "ignored", "nearly every row has another value"
    return _number_role(column, kind, facts) if is_number(kind) else ("sparse", "")


def _is_nearly_unique(facts: ColumnFacts) -> bool:
    """Whether hardly any value comes again."""
    return facts.num_known >= UNIQUE_FROM_ROWS and (facts.distinct or 0) > NEARLY_UNIQUE * facts.num_known


def _row_numbers(column: str, kind: pa.DataType, facts: ColumnFacts) -> str:
    """Why a column is a number of the row and nothing else; empty where it is more."""
    if facts.is_numbered and facts.num_rows >= NUMBERED_FROM_ROWS:
        return "row numbers"
    if _PANDAS_INDEX.fullmatch(column) and (column.startswith("__") or is_number(kind)):
        return "an index that pandas wrote"
    unique = facts.is_whole and (facts.distinct or 0) > NEARLY_UNIQUE * facts.num_rows
    return "row numbers" if is_number(kind) and unique and _INDEX.fullmatch(column) else ""


def is_epoch(column: str, facts: ColumnFacts) -> bool:
    """Whether integers are seconds or milliseconds since 1970: by the name and by nearly all values."""
    return bool(pa.types.is_integer(facts.kind) and _TIME.search(column) and facts.epoch)


def _number_role(column: str, kind: pa.DataType, facts: ColumnFacts) -> tuple[str, str]:
    if not facts.num_finite:
        return "ignored", "no finite number"
    if is_float(kind):
        as_ids = facts.is_whole and _ID.search(column)
        return ("sparse", "whole numbers, named as ids") if as_ids else ("dense", "")
    if _ID.search(column):
        return "sparse", "named as ids"
    if _COUNT.search(column):
        return "dense", "named as a quantity"
    if (facts.distinct or 0) <= FEW_VALUES:
        return "sparse", "few values"
    if facts.least < 0 or facts.moments.skewness > 1:
        return "dense", "integers skewed as counts are"
    return "sparse", "integers spread as ids are; if they are quantities, name them: dense=[…]"


def _axes(
    raw: RawFiles,
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
