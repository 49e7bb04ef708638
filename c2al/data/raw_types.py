"""Raw values in another type than prepared rows had (texts from JSON or csv), brought to what has the same id."""

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from c2al.data.csv_types import typed
from c2al.data.raw_values import is_float, is_number, is_time, texts_of
from c2al.schema import DataError

_POINT_ZERO = r"^(0|-?[1-9][0-9]*)\.0+$"
_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?$"  # 007 is none
_DECIMAL = re.compile(r"decimal(?:32|64|128|256)?\((\d+), (-?\d+)\)")


@cache
def arrow_type(said: str | None) -> pa.DataType | None:
    """A type by Arrow's words for it; None where they say no simple one."""
    said = said or ""
    if said.startswith("timestamp") and "tz=" in said:
        unit, zone = said.removeprefix("timestamp[").rstrip("]").split(", tz=")
        return pa.timestamp(unit, zone)
    if said.startswith("list<") and ": " in said:
        return arrow_type(said.removesuffix(">").split(": ", 1)[1])
    if found := _DECIMAL.fullmatch(said):
        precision, scale = map(int, found.groups())
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    try:
        return pa.type_for_alias(said)
    except ValueError:
        return None


def like_trained(values: pa.Array, said: str | None, part: str = "") -> pa.Array:
    """The same values, in a type whose texts are those of the prepared rows' type ``said``.

    Texts that hold no such value stay as they are: no vocabulary knows them. A DataError for texts that should be times
    and are none, with the value.
    """
    kind, trained = values.type, arrow_type(said)
    if part:
        if not (is_time(kind) or is_number(kind) or pat.is_string(kind)):
            raise DataError("no times", value=str(kind), remedy="give timestamps, or seconds since 1970")
        return _times(values, trained) if pat.is_string(kind) else _in_zone(values, trained)
    if trained is None or kind == trained:
        return values
    if pat.is_boolean(trained):
        return _booleans(values)
    if pat.is_string(kind) and is_number(trained):
        return _numbers(values, trained)
    if pat.is_string(kind) and is_time(trained):
        try:
            return typed(values, trained)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return values
    return values


def _numbers(texts: pa.Array, trained: pa.DataType) -> pa.Array:
    """Texts of numbers as ``texts_of`` writes those of type ``trained``; of whole numbers every digit stays."""
    if pat.is_floating(trained):
        fits = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
        return pc.if_else(fits, texts_of(pc.if_else(fits, texts, "0").cast(pa.float64())), texts)
    texts = pc.if_else(
        pc.match_substring_regex(texts, _POINT_ZERO), pc.replace_substring_regex(texts, r"\.0+$", ""), texts
    )
    if is_float(trained):  # a decimal
        pointed = pc.match_substring_regex(texts, r"^-?(0|[1-9][0-9]*)\.[0-9]+$")
        return pc.if_else(pointed, pc.utf8_rtrim(texts, "0"), texts)
    return texts


def _booleans(values: pa.Array) -> pa.Array:
    """True and 1 are true, False and 0 false."""
    if pat.is_string(values.type):
        texts = pc.utf8_lower(values)
        return pc.if_else(pc.equal(texts, "1"), "true", pc.if_else(pc.equal(texts, "0"), "false", texts))
    if pat.is_integer(values.type):
        texts = values.cast(pa.string())
        return pc.if_else(pc.equal(texts, "1"), "true", pc.if_else(pc.equal(texts, "0"), "false", texts))
    return values


def _times(texts: pa.Array, trained: pa.DataType | None) -> pa.Array:
    """Points in time from texts such as 2024-05-01T17:30:00; with a zone (Z, +02:00) in the zone of the rows."""
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    counted = trained is not None and pat.is_integer(trained)  # seconds or milliseconds since 1970
    if counted and pc.all(pc.match_substring_regex(texts, r"^-?[0-9]{1,18}$")).as_py():
        return texts.cast(pa.int64())
    if trained is not None and pat.is_time(trained):
        texts = pc.binary_join_element_wise("1970-01-01T", texts, "")
    kind = trained if trained is not None and pat.is_timestamp(trained) else pa.timestamp("us")
    zone, units = kind.tz, (kind.unit, "us", "ns")
    for wanted in (*(pa.timestamp(unit, zone) for unit in units), pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")):
        try:
            moments = texts.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            said = error
        else:
            return moments.cast(pa.timestamp(wanted.unit, zone)) if zone else moments
    remedy = f"give texts such as 2024-05-01T17:30:00{'Z' if zone else ''}, or seconds since 1970"
    raise DataError("a text that is no time", value=_told(said), remedy=remedy)


def _in_zone(values: pa.Array, trained: pa.DataType | None) -> pa.Array:
    """Points in time by the clocks of the zone of training, where both have one."""
    kind = values.type
    if trained is None or not (pat.is_timestamp(kind) and pat.is_timestamp(trained) and kind.tz and trained.tz):
        return values
    return values if kind.tz == trained.tz else values.cast(pa.timestamp(kind.unit, trained.tz))


def _told(error: Exception) -> str:
    return str(error).split("'")[1] if str(error).count("'") > 1 else str(error).splitlines()[0]
