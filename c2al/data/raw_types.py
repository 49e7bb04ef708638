"""Raw values in another type than prepared rows had (texts from JSON or csv), brought to what has the same id."""

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from c2al.data.raw_values import is_float, is_number, is_time, texts_of
from c2al.schema import DataError

_WHOLE = r"^-?[0-9]{1,18}$"
_NUMBER = r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"


@cache
def arrow_type(said: str | None) -> pa.DataType | None:
    """A type by Arrow's words for it; None where they say no simple one (a decimal is told as a double)."""
    said = said or ""
    if said.startswith("timestamp") and "tz=" in said:
        unit, zone = said.removeprefix("timestamp[").rstrip("]").split(", tz=")
        return pa.timestamp(unit, zone)
    if said.startswith("list<") and ": " in said:
        return arrow_type(said.removesuffix(">").split(": ", 1)[1])
    if said.startswith("decimal"):
        return pa.float64()
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
        return _times(values, trained) if pat.is_string(kind) else values
    if trained is None or kind == trained:
        return values
    if pat.is_boolean(trained):
        return _booleans(values)
    if pat.is_string(kind) and is_number(trained):
        pattern, to = (_NUMBER, pa.float64()) if is_float(trained) else (_WHOLE, pa.int64())
        fits = pc.fill_null(pc.match_substring_regex(values, pattern), False)
        return pc.if_else(fits, texts_of(pc.if_else(fits, values, "0").cast(to)), values)
    return values


def _booleans(values: pa.Array) -> pa.Array:
    """True and 1 are true, False and 0 false."""
    if pat.is_string(values.type):
        return pc.utf8_lower(values)
    if pat.is_integer(values.type):
        texts = values.cast(pa.string())
        return pc.if_else(pc.equal(texts, "1"), "true", pc.if_else(pc.equal(texts, "0"), "false", texts))
    return values


def _times(texts: pa.Array, trained: pa.DataType | None) -> pa.Array:
    """Points in time from texts such as 2024-05-01T17:30:00; with a zone (Z, +02:00) in the zone of the rows."""
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    if trained is not None and pat.is_time(trained):
        texts = pc.binary_join_element_wise("1970-01-01T", texts, "")
    kind = trained if trained is not None and pat.is_timestamp(trained) else pa.timestamp("us")
    try:
        return texts.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    zone = kind.tz
    try:
        moments = texts.cast(pa.timestamp("us", "UTC"))
        return moments.cast(pa.timestamp("us", zone or "UTC"))
    except pa.ArrowInvalid as error:
        remedy = f"give texts such as 2024-05-01T17:30:00{'Z' if zone else ''}, or seconds since 1970"
        raise DataError("a text that is no time", value=_told(error), remedy=remedy) from None


def _told(error: Exception) -> str:
    return str(error).split("'")[1] if str(error).count("'") > 1 else str(error).splitlines()[0]
